# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One page about a fleet: its risks, what is rare, what is new, where two models disagree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from vts_ros.fleet.answer_tables import refused_text
from vts_ros.fleet.moments import moments, picture_of, utc_text
from vts_ros.fleet.search import Fleet, rows
from vts_ros.fleet.sources import FleetError
from vts_ros.pipeline.report import RISK_COLOURS
from vts_ros.vlm.answers import RISK_LEVELS

#: Looks of answers that all others are compared with, drawn at random.
REFERENCES = 2000
#: A scene is as rare as the so many-th look that is like it, of other recordings, is far.
NEIGHBOURS = 5
#: Rows of each table.
SHOWN = 12
#: Answers compared at a time.
_BLOCK = 2**15
#: The newest share of the time is what may be new.
_NEW_SHARE = 0.1


def fleet_report(root: Path, against: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """
    Return what is to be known about a fleet.

    Parameters
    ----------
    against
        Folder of the same recordings, described by another model.
    seed
        Of the looks that others are compared with.

    Returns
    -------
    ``totals``, ``risks`` (answers by level), ``recordings`` (the riskiest), ``drift`` (by period),
    ``rare`` and ``new`` (scenes with their ``distance``), ``damaged`` (what was wrong with
    recordings), ``failures``, and ``disagreement`` with ``against``.

    Raises
    ------
    FleetError
        If there are no answers.

    """
    fleet = Fleet(root)
    looks = _Looks(fleet, seed)
    return {
        'totals': _one(fleet, """
            SELECT count(*) answers, count(DISTINCT recording) recordings, min(time) first,
            max(time) last, count(DISTINCT model) models,
            count_if(NOT in_distribution) refused FROM answers"""),
        'risks': dict(fleet.query(
            'SELECT risk, count(*) FROM answers GROUP BY risk').fetchall()),
        'recordings': rows(fleet.query(f"""
            SELECT recording, count(*) answers, count_if(risk = 'high') high,
            count_if(risk = 'medium') medium, count_if(risk = 'unknown') unknown FROM answers
            GROUP BY recording ORDER BY high / count(*) DESC, medium / count(*) DESC, recording
            LIMIT {SHOWN}""")),
        'drift': _drift(fleet, looks),
        'rare': looks.rare(), 'new': looks.new(),
        'damaged': _damaged(fleet),
        'failures': rows(fleet.query('SELECT * FROM failures ORDER BY recording')),
        'disagreement': _disagreement(fleet, Fleet(against)) if against else None}


def write_report(root: Path, report: Mapping[str, Any], path: Path) -> None:
    """
    Write the page, with pictures where the recordings still are.

    Raises
    ------
    FleetError
        If it cannot be written.

    """
    scenes = {name: [dict(row) | {'picture': _picture(root, row)} for row in report[name]]
              for name in ('rare', 'new')}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    environment.filters['utc'] = utc_text
    template = environment.from_string(_PAGE)
    try:
        path.write_text(template.render(
            report=report, scenes=scenes, levels=RISK_LEVELS, colours=RISK_COLOURS,
            root=root.absolute(), note=refused_text(report['totals']['refused'])),
            encoding='utf-8')
    except OSError as error:
        raise FleetError(f'cannot write {path}: {error.strerror}') from error


class _Looks:
    """What the answers' pictures look like, and how far that is from what others look like."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        table = fleet.table("""
            SELECT recording, stamp, risk, object, description, embedding FROM answers
            ORDER BY stamp, recording""").combine_chunks()
        self._table = table
        size = len(table['embedding'][0])
        values = table['embedding'].combine_chunks().flatten().to_numpy()
        #: float32 [n, C], of length 1, in the order of time.
        self.looks: NDArray[np.float32] = np.asarray(values, np.float32).reshape(-1, size)
        self.stamps = table['stamp'].to_numpy()
        self._recordings = table['recording'].combine_chunks().dictionary_encode().indices \
            .to_numpy()
        self._rng = np.random.default_rng(seed)

    def rare(self) -> list[dict[str, Any]]:
        """Return the scenes that are least like those of other recordings."""
        return self._far(np.arange(len(self.looks)), np.arange(len(self.looks)))

    def new(self) -> list[dict[str, Any]]:
        """Return the scenes of the newest time that are least like what was before."""
        begin = self.stamps[0] + (1.0 - _NEW_SHARE) * (self.stamps[-1] - self.stamps[0])
        cut = int(np.searchsorted(self.stamps, begin))
        return self._far(np.arange(cut, len(self.looks)), np.arange(cut))

    def _far(self, asked: NDArray[np.int64], known: NDArray[np.int64]) -> list[dict[str, Any]]:
        if not len(asked) or not len(known):
            return []
        chosen = self._rng.choice(known, min(REFERENCES, len(known)), replace=False)
        distances = np.concatenate([self._distances(asked[i:i + _BLOCK], chosen)
                                    for i in range(0, len(asked), _BLOCK)])
        found: list[dict[str, Any]] = []
        seen: set[int] = set()
        for index in np.argsort(-distances, kind='stable'):
            recording = int(self._recordings[asked[index]])
            # One scene of each recording: its neighbours look like it.
            if distances[index] < 0.0 or len(found) == SHOWN:
                break
            if recording not in seen:
                seen.add(recording)
                row = self._table.slice(int(asked[index]), 1).drop_columns(['embedding'])
                found.append(row.to_pylist()[0] | {'distance': round(float(
                    distances[index]), 3)})
        return found

    def _distances(self, asked: NDArray[np.int64], known: NDArray[np.int64]
                   ) -> NDArray[np.float32]:
        """Return the distance of each to the nearest few of other recordings: 1 - cosine."""
        distance = 1.0 - self.looks[asked] @ self.looks[known].T
        same = self._recordings[asked][:, None] == self._recordings[known][None]
        distance[same] = np.inf
        nth = min(NEIGHBOURS, distance.shape[1]) - 1
        nearest = np.partition(distance, nth, axis=1)[:, :nth + 1]
        # Fewer where others are not so many; -1 where there are none.
        return np.where(np.isfinite(nearest), nearest, -1.0).max(axis=1).astype(np.float32)


def _drift(fleet: Fleet, looks: _Looks) -> list[dict[str, Any]]:
    """Return how answers change over time, by day, or by hour where all are of few days."""
    days = (looks.stamps[-1] - looks.stamps[0]) / 86.4e12
    unit = 'month' if days > 90 else 'day' if days > 2 else 'hour'
    found = rows(fleet.query(f"""
        SELECT date_trunc('{unit}', CAST(time AS TIMESTAMP)) period, count(*) answers,
        avg(CAST(risk = 'high' AS INT)) high, avg(CAST(risk = 'medium' AS INT)) medium,
        avg(CAST(risk = 'unknown' AS INT)) unknown, avg(confidence) confidence,
        min(stamp) first, max(stamp) last
        FROM answers GROUP BY period ORDER BY period"""))
    base = None
    for row in found:
        bounds = np.array([row.pop('first'), row.pop('last') + 1])
        begin, end = np.searchsorted(looks.stamps, bounds).tolist()
        mean = looks.looks[begin:end].mean(axis=0, dtype=np.float64)
        mean /= max(float(np.linalg.norm(mean)), 1e-12)
        base = mean if base is None else base
        row['distance'] = round(float(1.0 - mean @ base), 4)
    return found


def _damaged(fleet: Fleet) -> list[tuple[str, int]]:
    """Return the failures of recordings, and their numbers."""
    from vts_ros.tools.annotate_summary import COUNTER_TEXTS

    found: dict[str, int] = {}
    for _, counters in fleet.counters():
        for name in ('broken', 'no_stamp', 'truncated', 'damaged', 'missing', 'back', 'gap',
                     'unanswered'):
            if counters.get(name):
                found[name] = found.get(name, 0) + 1
    return [(COUNTER_TEXTS[name], count) for name, count in found.items()]


def _disagreement(fleet: Fleet, other: Fleet) -> dict[str, Any]:
    """Return how often two models gave each pair of levels, and where they differ most."""
    columns = 'recording, stamp, risk, object, explanation'
    mine, theirs = (answers.table(f'SELECT {columns} FROM answers')
                    for answers in (fleet, other))
    joined = mine.join(theirs, ['recording', 'stamp'], join_type='inner', right_suffix='_other')
    if not len(joined):
        raise FleetError(f'{fleet.root} and {other.root} have no window in common')
    levels = ('none', 'low', 'medium', 'high')
    matrix = {level: dict.fromkeys(RISK_LEVELS, 0) for level in RISK_LEVELS}
    apart = []
    for row in joined.to_pylist():
        matrix[row['risk']][row['risk_other']] += 1
        if row['risk'] in levels and row['risk_other'] in levels:
            steps = abs(levels.index(row['risk']) - levels.index(row['risk_other']))
            apart.append((-steps, row['recording'], row['stamp'], row))
    apart.sort(key=lambda pair: pair[:3])
    same = sum(matrix[level][level] for level in RISK_LEVELS)
    return {'n': len(joined), 'same': round(same / len(joined), 4), 'matrix': matrix,
            'apart': [row for steps, *_, row in apart[:SHOWN] if steps < 0]}


def _one(fleet: Fleet, sql: str) -> dict[str, Any]:
    row, = rows(fleet.query(sql))
    return row


def _picture(root: Path, row: Mapping[str, Any]) -> str | None:
    try:
        moment = next(iter(moments(root, [row])))
        return picture_of(moment)
    # The recording may be gone, or on a disk that is not there.
    except Exception:
        return None


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Fleet</title>
<style>
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --soft: #5c6570; --card: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #14171c; --fg: #eef1f5; --soft: #a0a8b4; --card: #20252d; } }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--bg);
  color: var(--fg); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; } .soft { color: var(--soft); }
table { border-collapse: collapse; } td, th { padding: .2rem 1.2rem .2rem 0; text-align: left;
  vertical-align: top; } td.n, th.n { text-align: right; }
.bar { display: flex; height: 1.6rem; border-radius: 4px; overflow: hidden; }
.note { border-left: 4px solid rgb(240, 165, 0); padding: .6rem 1rem; background: var(--card); }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); }
article { background: var(--card); border-radius: 8px; padding: .8rem 1rem; }
img { width: 100%; border-radius: 6px; }
{% for level, c in colours.items() %}.{{ level }} { background: rgb{{ c }}; } {% endfor %}

</style></head><body>
<h1>{{ report.totals.recordings }} recordings</h1>
<p class="soft">{{ report.totals.answers }} answers from {{ report.totals.first }} to
{{ report.totals.last }} (UTC), in {{ root }}</p>
<p class="note"><strong>Advice, not control.</strong> A language model wrote these answers from
camera pictures. They can be wrong.</p>

<h2>Risk</h2>
<div class="bar">{% for level in levels %}{% if report.risks[level] %}
<div class="{{ level }}" style="flex: {{ report.risks[level] }}"
title="{{ level }}: {{ report.risks[level] }}"></div>{% endif %}{% endfor %}</div>
<p>{% for level in levels if report.risks[level] %}{{ level }} {{ report.risks[level] }}
({{ '%.1f'|format(100 * report.risks[level] / report.totals.answers) }} %){{ ', ' if not loop.last
}}{% endfor %}</p>
{% if note %}<p class="note">{{ note }}.</p>{% endif %}


<h2>The riskiest recordings</h2>
<table><tr><th>recording</th><th class="n">answers</th><th class="n">high</th>
<th class="n">medium</th><th class="n">unknown</th></tr>
{% for row in report.recordings %}<tr><td>{{ row.recording }}</td><td class="n">{{ row.answers }}
</td><td class="n">{{ row.high }}</td><td class="n">{{ row.medium }}</td>
<td class="n">{{ row.unknown }}</td></tr>{% endfor %}</table>

<h2>Over time</h2>
<p class="soft">Shares of answers; distance of the mean look of the pictures from that of the first
period.</p>
<table><tr><th>from</th><th class="n">answers</th><th class="n">high</th><th class="n">medium</th>
<th class="n">unknown</th><th class="n">confidence</th><th class="n">distance</th></tr>
{% for row in report.drift %}<tr><td>{{ row.period }}</td><td class="n">{{ row.answers }}</td>
<td class="n">{{ '%.3f'|format(row.high) }}</td><td class="n">{{ '%.3f'|format(row.medium) }}</td>
<td class="n">{{ '%.3f'|format(row.unknown) }}</td><td class="n">
{{ '%.2f'|format(row.confidence) if row.confidence is not none else '-' }}</td>
<td class="n">{{ row.distance }}</td></tr>{% endfor %}</table>

{% for name, title, text in [
('rare', 'Rare scenes', 'Least like the pictures of all other recordings; one per recording.'),
('new', 'New scenes', 'Of the newest tenth of the time, least like what was before.')] %}
<h2>{{ title }}</h2><p class="soft">{{ text }}</p>
<main>{% for row in scenes[name] %}<article>
{% if row.picture %}<img src="{{ row.picture }}" alt="{{ row.description }}">{% endif %}
<p>{{ row.description }}<br><span class="soft">distance {{ row.distance }}; risk {{ row.risk }};
{{ row.recording }} at {{ row.stamp|utc }}</span></p></article>
{% else %}<p>None: there is nothing to compare with.</p>{% endfor %}</main>
{% endfor %}

{% if report.disagreement %}{% set d = report.disagreement %}
<h2>Two models</h2>
<p>The same risk in {{ '%.1f'|format(100 * d.same) }} % of {{ d.n }} windows. Rows: the level here;
columns: the other.</p>
<table><tr><th></th>{% for level in levels %}<th class="n">{{ level }}</th>{% endfor %}</tr>
{% for level in levels %}<tr><th>{{ level }}</th>{% for other in levels %}
<td class="n">{{ d.matrix[level][other] }}</td>{% endfor %}</tr>{% endfor %}</table>
<table>{% for row in d.apart %}<tr><td>{{ row.risk }}: {{ row.explanation }}</td>
<td>{{ row.risk_other }}: {{ row.explanation_other }}</td>
<td class="soft">{{ row.recording }} at {{ row.stamp|utc }}</td></tr>{% endfor %}</table>
{% endif %}

<h2>What was wrong with recordings</h2>
<table>{% for text, count in report.damaged %}<tr><td class="n">{{ count }} recordings with</td>
<td>{{ text }}</td></tr>{% endfor %}
{% for row in report.failures %}<tr><td>{{ row.recording }}</td><td>{{ row.reason }}</td></tr>
{% endfor %}</table>
</body></html>
"""
