# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The page about a drive, which shows its answers in a browser."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import jinja2

from vts_ros.pipeline.report import colours_of
from vts_ros.tools.pictures import RISK_TITLES, seconds

if TYPE_CHECKING:
    from vts_ros.tools.annotate_summary import Summary


def _data_uri(data: bytes, kind: str) -> str:
    return f'data:image/{kind};base64,{b64encode(data).decode()}'


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    # Autoescape: the words come from a model and may be anything.
    return jinja2.Environment(autoescape=True, trim_blocks=True).from_string(_TEMPLATE)


def report_page(summary: Summary, name: str, timeline: bytes, overlays: Mapping[int, bytes],
                counters: Sequence[tuple[str, int]]) -> str:
    """
    Return the page.

    Parameters
    ----------
    timeline
        PNG of the whole drive.
    overlays
        JPEG of the answers that are shown, by their number.
    counters
        What happened to the frames, in words.

    """
    answers = [{
        'report': summary.reports[i],
        'time': seconds(summary.reports[i].stamp, summary.start_ns),
        'picture': _data_uri(overlay, 'jpeg'),
    } for i, overlay in overlays.items()]
    return _template().render(
        name=name, summary=summary, answers=answers, timeline=_data_uri(timeline, 'png'),
        titles=RISK_TITLES, colours=colours_of(summary.reports),
        counters=counters)


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}: risk report</title>
<style>
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --soft: #5c6570; --card: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #14171c; --fg: #eef1f5; --soft: #a0a8b4; --card: #20252d; } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; background: var(--bg);
  color: var(--fg); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; } h2 { margin-top: 2.5rem; } .soft { color: var(--soft); }
img { max-width: 100%; display: block; border-radius: 6px; }
.note { border-left: 4px solid rgb(240, 165, 0); padding: .6rem 1rem; background: var(--card); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; }
.card, article { background: var(--card); border-radius: 8px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.5rem; } article { margin: 1rem 0; }
.risk { display: inline-block; padding: .1rem .6rem; border-radius: 4px; color: #0c0e12;
  font-weight: 700; } {% for level, c in colours.items() %}
.{{ level }} { background: rgb{{ c }}; } {% endfor %}

table { border-collapse: collapse; } td { padding: .2rem 1.2rem .2rem 0; vertical-align: top; }
</style></head><body>
<h1>{{ name }}</h1>
<p class="soft">{{ summary.reports|length }} answers over
{{ '%.1f'|format(summary.duration_sec) }} s of driving</p>
<p class="note"><strong>Advice, not control.</strong> A language model wrote these answers from
camera pictures. They can be wrong, and nothing here may steer a vehicle.</p>

<div class="cards">
{% for level, count in summary.risks.items() if count %}
<div class="card"><b>{{ count }}</b><span class="risk {{ level }}">{{ titles[level] }}</span></div>
{% endfor %}
<div class="card"><b>{{ '%.0f'|format(summary.tokens[0]) }} of
{{ '%.0f'|format(summary.tokens[1]) }}</b>visual tokens kept per answer</div>
<div class="card"><b>{{ '%.2f'|format(summary.latency_ms(50) / 1000) }} s</b>per answer, median
(95 of 100 within {{ '%.2f'|format(summary.latency_ms(95) / 1000) }} s)</div>
</div>

<h2>The drive</h2>
<img src="{{ timeline }}" alt="Risk, tokens and time per answer over the drive">

<h2>The answers</h2>
<p class="soft">Each picture shows the newest frame; the model saw the bright cells of it and of
the frames in the strip below, and did not see the grey ones. The box is what the risk is about.
{% if answers|length < summary.reports|length %}
{{ answers|length }} of {{ summary.reports|length }} answers are shown, all changes first;
answers.jsonl has all.{% endif %}</p>
{% for item in answers %}{% set report = item.report %}
<article id="a{{ loop.index }}">
<p><span class="risk {{ report.answer.risk }}">{{ titles[report.answer.risk] }}</span>
<strong>{{ item.time }}</strong>{% if report.answer.label %} · {{ report.answer.label }}{% endif %}
{% if report.answer.action and report.answer.risk != 'unknown' %}
· advice: {{ report.answer.action }}{% endif %}</p>
<img src="{{ item.picture }}" loading="lazy" alt="{{ report.answer.explanation }}">
<p>{{ report.answer.explanation or 'The model gave no answer that can be read.' }}<br>
<span class="soft">{{ report.answer.description }}</span></p>
</article>
{% endfor %}

<h2>How it was made</h2>
<table>
{% for key, value in summary.info.items() %}
<tr><td class="soft">{{ key }}</td><td>{{ value }}</td></tr>
{% endfor %}
{% for text, count in counters %}
<tr><td class="soft">{{ text }}</td><td>{{ count }}</td></tr>
{% endfor %}
</table>
</body></html>
"""
