# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Moments that were found: cut out of their recordings, and on a page that plays them."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
import logging
from pathlib import Path
import re
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
from pyarrow import compute, parquet
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import TypesysError

from vts_ros.errors import BagError, FrameError
from vts_ros.fleet.answer_tables import FleetFolder, report_of
from vts_ros.fleet.sources import find_recordings, FleetError, Recording
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.report import RISK_COLOURS
from vts_ros.tools.bag_frames import read_frames_from, until_damage
from vts_ros.tools.bags import Bag
from vts_ros.tools.pictures import encode, RISK_TITLES

#: What a clip has before and behind the windows of its answers.
MARGIN_SEC = 1.0
#: Answers so near to each other are one moment.
TOGETHER_SEC = 2.0
#: More would make a page too heavy for a browser.
PAGE_MOMENTS = 60
PAGE_WIDTH = 640
#: Pictures of a moment on the page, beside the newest, at most.
_PICTURES = 11
_BEFORE_NS = 100_000_000

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Moment:
    """
    Answers that belong together.

    Attributes
    ----------
    recording
        Where they are from.
    rows
        All columns of the answers, in the order of time.

    """

    recording: Recording
    rows: Sequence[Mapping[str, Any]]

    @property
    def worst(self) -> Mapping[str, Any]:
        """Return the answer with the highest risk, the first of them."""
        levels = ('unknown', 'none', 'low', 'medium', 'high')
        return max(self.rows, key=lambda row: levels.index(row['risk']))

    @property
    def received_ns(self) -> tuple[int, int]:
        """Return when its first and its last picture were received."""
        first, last = self.rows[0], self.rows[-1]
        return (first['received'] - (first['stamp'] - first['frames'][0]['stamp']),
                last['received'])

    @property
    def name(self) -> str:
        """Return a name for a file: the recording, and the time of the first answer."""
        # Not the name of its folder alone: many are called alike.
        return f'{re.sub(r"[^a-zA-Z0-9_.-]", "_", self.recording.name)}_{self.rows[0]["stamp"]}'


def moments(root: Path, found: Sequence[Mapping[str, Any]]) -> Iterator[Moment]:
    """
    Yield the moments of answers that were found.

    Parameters
    ----------
    root
        Folder of the fleet.
    found
        Rows with at least ``recording`` and ``stamp``, in this order.

    Raises
    ------
    FleetError
        If a recording is no longer where it was.

    """
    for uri, group in groupby(found, lambda row: str(row['recording'])):
        recording, = find_recordings([uri])
        stamps = [row['stamp'] for row in group]
        table = parquet.read_table(FleetFolder(root).answers(recording))
        rows = table.filter(compute.is_in(
            table['stamp'], value_set=pa.array(stamps, pa.int64()))).to_pylist()
        part: list[Mapping[str, Any]] = []
        for row in rows:
            if part and row['received'] - part[-1]['received'] > TOGETHER_SEC * 1e9:
                yield Moment(recording, part)
                part = []
            part.append(row)
        if part:
            yield Moment(recording, part)


def write_clip(moment: Moment, folder: Path) -> Path:
    """
    Cut a moment out of its recording: all topics, as they were, as MCAP.

    Raises
    ------
    BagError
        If the recording cannot be read or the clip not be written.

    """
    target = folder / moment.name
    begin, end = moment.received_ns
    begin, end = begin - round(MARGIN_SEC * 1e9), end + round(MARGIN_SEC * 1e9)
    try:
        with moment.recording.local() as source, Bag(source) as bag, Writer(
                target, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            copies: dict[str, Any] = {}
            for connection in bag.connections:
                try:
                    copies.setdefault(connection.topic, writer.add_connection(
                        connection.topic, connection.msgtype, typestore=bag.typestore,
                        offered_qos_profiles=getattr(connection.ext, 'offered_qos_profiles', ())))
                except (TypesysError, KeyError):
                    LOG.warning('%s: the type of %s is not known, it is left out', source,
                                connection.topic)
            for connection, received_ns, data in until_damage(
                    bag.messages(copies, since_ns=begin), Counter()):
                if received_ns > end:
                    break
                writer.write(copies[connection.topic], received_ns, data)
    except (OSError, WriterError) as error:
        raise BagError(f'{target} cannot be written: {error}') from error
    return target


def utc_text(stamp_ns: int) -> str:
    """Return a time as text, to the millisecond."""
    return str(np.datetime64(stamp_ns, 'ns'))[:23].replace('T', ' ')


def write_page(question: str, count: int, found: Sequence[Moment], path: Path, note: str = ''
               ) -> None:
    """
    Write a page with the moments, each of which plays.

    Parameters
    ----------
    question
        What was asked for.
    count
        Answers that were found; more than are shown, perhaps.
    note
        What is to be said beside.

    Raises
    ------
    FleetError
        If it cannot be written.

    """
    shown = [{'row': moment.worst, 'name': moment.recording.uri, 'answers': len(moment.rows),
              'time': utc_text(moment.worst['stamp']),
              'pictures': [_uri(picture) for picture in _pictures(moment)]}
             for moment in found[:PAGE_MOMENTS]]
    # Autoescape: the words come from a model and may be anything.
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    text = template.render(question=question, count=count, found=len(found), shown=shown,
                           note=note, titles=RISK_TITLES, colours=RISK_COLOURS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    except OSError as error:
        raise FleetError(f'cannot write {path}: {error.strerror}') from error


def picture_of(moment: Moment) -> str | None:
    """Return the newest picture of a moment for a page; None if it cannot be decoded."""
    made = _pictures(moment)
    return _uri(made[-1]) if made else None


def _uri(jpeg: bytes) -> str:
    return f'data:image/jpeg;base64,{b64encode(jpeg).decode()}'


def _pictures(moment: Moment) -> list[bytes]:
    """Return the pictures of a moment as JPEG, the risk object marked where it was seen."""
    boxes = {(report.frames[-1].camera, report.stamp): report
             for report in map(report_of, moment.rows)}
    begin, end = moment.received_ns
    camera = moment.worst['frames'][-1]['camera']
    begin, end = begin - _BEFORE_NS, end + _BEFORE_NS
    due = deque(np.linspace(begin, end, _PICTURES, endpoint=False).tolist())
    pictures: list[bytes | None] = []
    newest: Frame | None = None
    with moment.recording.local() as source:
        for received_ns, frame in until_damage(read_frames_from(begin, source), Counter()):
            if received_ns > end:
                break
            if frame.camera != camera:
                continue
            newest = frame
            # At even distances: a moment may be long, and pictures without compression large.
            if due and received_ns >= due[0]:
                while due and received_ns >= due[0]:
                    due.popleft()
                pictures.append(_picture(frame, boxes.get(frame.key)))
                newest = None
    if newest is not None:
        pictures.append(_picture(newest, boxes.get(newest.key)))
    return [made for made in pictures if made is not None]


def _picture(frame: Frame, report: Any) -> bytes | None:
    import cv2

    try:
        rgb = frame.rgb()
    except FrameError:
        return None
    height = round(rgb.shape[0] * PAGE_WIDTH / rgb.shape[1])
    small = cv2.resize(rgb, (PAGE_WIDTH, height), interpolation=cv2.INTER_AREA)
    found = report.risk_object if report is not None else None
    # Of several cameras, another one may see it.
    if found and found.box and found.camera == frame.camera:
        left, top, right, bottom = found.box
        colour = report.colour
        cv2.rectangle(small, (round(left * PAGE_WIDTH), round(top * height)),
                      (round(right * PAGE_WIDTH), round(bottom * height)), colour, 3)
    return encode(np.asarray(small, np.uint8))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ question }}</title>
<style>
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --soft: #5c6570; --card: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #14171c; --fg: #eef1f5; --soft: #a0a8b4; --card: #20252d; } }
body { margin: 0 auto; max-width: 84rem; padding: 1.5rem; background: var(--bg);
  color: var(--fg); font: 16px/1.5 system-ui, sans-serif; }
.soft { color: var(--soft); } main { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); }
article { background: var(--card); border-radius: 8px; padding: .8rem 1rem;
  overflow-wrap: anywhere; }
img { width: 100%; border-radius: 6px; display: none; } img.now { display: block; }
.note { border-left: 4px solid rgb(240, 165, 0); padding: .6rem 1rem; background: var(--card); }
.risk { display: inline-block; padding: .1rem .6rem; border-radius: 4px; color: #0c0e12;
  font-weight: 700; } {% for level, c in colours.items() %}
.{{ level }} { background: rgb{{ c }}; } {% endfor %}

</style></head><body>
<h1>{{ question }}</h1>
<p class="soft">{{ count }} answers in {{ found }} moments{% if shown|length < found %}; the first
{{ shown|length }} are shown{% endif %}.{% if shown %} A click on a picture stops it, and starts it
again.{% endif %}</p>
<p class="note"><strong>Advice, not control.</strong> A language model wrote these answers from
camera pictures. They can be wrong.</p>
{% if note %}<p class="note">{{ note }}.</p>{% endif %}

<main>
{% for item in shown %}
<article>
<p><span class="risk {{ item.row.risk }}">{{ titles[item.row.risk] }}</span>
<strong>{{ item.time }}</strong>{% if item.row.object %} · {{ item.row.object }}{% endif %}</p>
<div class="film">
{% for picture in item.pictures %}
<img src="{{ picture }}" class="{{ 'now' if loop.last }}" alt="{{ item.row.explanation }}">
{% endfor %}
</div>
<p>{{ item.row.explanation or ('' if item.row.in_distribution is false else
'The model gave no answer that can be read.') }}<br>
<span class="soft">{{ item.row.description }}</span></p>
<p class="soft">{{ item.name }}, {{ item.answers }} answers</p>
</article>
{% endfor %}
</main>
<script>
for (const film of document.querySelectorAll('.film')) {
  const images = [...film.querySelectorAll('img')];
  let now = images.length - 1, plays = true;
  film.onclick = () => { plays = !plays; };
  setInterval(() => {
    if (!plays || !images.length) return;
    images[now].classList.remove('now');
    now = (now + 1) % images.length;
    images[now].classList.add('now');
  }, 250);
}
</script>
</body></html>
"""
