# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers over a drive as files: pictures, video, page, JSON lines and a bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
import logging
import os
from pathlib import Path
import shutil
import tempfile

import numpy as np

from vts_ros.errors import BagError, FrameError
from vts_ros.pipeline.frames import decode_image, Frame
from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.annotate_summary import counter_texts, Summary
from vts_ros.tools.annotated_bag import write_annotated_bag
from vts_ros.tools.answer_video import AnswerVideo
from vts_ros.tools.bags import is_video_file
from vts_ros.tools.contact_sheet import contact_sheet, interesting
from vts_ros.tools.described_frames import Frames, Pair
from vts_ros.tools.interrupts import Interrupts
from vts_ros.tools.overlay_picture import overlay, PICTURE_HEIGHT, WIDTH
from vts_ros.tools.pictures import encode, Picture, seconds
from vts_ros.tools.recorded_answers import Answered
from vts_ros.tools.report_page import report_page
from vts_ros.tools.timeline import draw_timeline

Progress = Callable[[SceneReport], None]

ANSWERS, VIDEO, SHEET, TIMELINE = 'answers.jsonl', 'annotated.mp4', 'contact_sheet.png', \
    'timeline.png'
PAGE, ANNOTATED_BAG = 'report.html', 'annotated_bag'

SHEET_ANSWERS = 12
#: More pictures would make the page too heavy for a browser.
PAGE_ANSWERS = 120

LOG = logging.getLogger(__name__)


class AnnotateError(Exception):
    """Why there are no results, in one line."""


def write_outputs(pairs: Iterable[Pair], out: str | Path, *, source: str | Path,
                  counters: Counter[str] | None = None, info: Mapping[str, str] | None = None,
                  progress: Progress | None = None) -> Summary:
    """
    Write answers and their frames as JSON lines, pictures, video, page and bag.

    Everything is made beside its place and moved there when it is complete, so that a folder
    never holds half a result. An interrupt from the keyboard ends the answers, not the writing;
    so does an error after the first answer, which is raised when everything is written. The bag,
    which is as large as its source, comes last: without it, all else is there. A second interrupt
    leaves it out.

    Parameters
    ----------
    pairs
        Frames and report of every answer; taken one by one.
    out
        Folder for the results.
    source
        The bag or the video that the frames come from; a video gets no annotated bag.
    counters, info
        What is told about the run on the page.
    progress
        Called with every answer; if it fails, as where nobody reads the output any more, it is
        not called again, and that is all.

    Raises
    ------
    AnnotateError
        If there is no answer, the results cannot be written, the answers ended with an error, or
        there is no annotated bag.

    """
    out, source = Path(out), Path(source)
    target = (out / ANNOTATED_BAG).resolve()
    if target.exists() and target in (source.resolve(), source.resolve().parent):
        raise AnnotateError(f'{source} is where the annotated bag would go; choose another folder')
    try:
        out.mkdir(parents=True, exist_ok=True)
        with Interrupts() as interrupts, \
                tempfile.TemporaryDirectory(prefix='.unfinished-', dir=out) as folder:
            writing = _Writing(Path(folder), out, source, interrupts)
            summary = writing.write(
                pairs, Counter() if counters is None else counters, info or {}, progress)
    except OSError as error:
        raise AnnotateError(f'cannot write to {out}: {error.strerror or error}') from error
    if failure := writing.failure or writing.bag_failure:
        ended = 'ended after ' if writing.failure else ''
        without = f' without {ANNOTATED_BAG}' if writing.bag_failure else ''
        raise AnnotateError(f'{ended}{len(summary.reports)} answers, which are in {out}{without}: '
                            f'{" ".join(str(failure).split())}') from failure
    return summary


class _Writing:
    """One run of :func:`write_outputs`: what it has, and where it puts it."""

    def __init__(self, folder: Path, out: Path, source: Path, interrupts: Interrupts) -> None:
        self.folder, self.out, self.source = folder, out, source
        self.interrupts = interrupts
        self.results = folder / 'results'
        self.results.mkdir()
        self.reports: list[SceneReport] = []
        self.timeline = b''
        self.failure: Exception | None = None
        self.bag_failure: BaseException | None = None
        self._rgb = lru_cache(maxsize=16)(_decode)

    def write(self, pairs: Iterable[Pair], counters: Counter[str], info: Mapping[str, str],
              progress: Progress | None) -> Summary:
        start_ns: int | None = None
        with (self.results / ANSWERS).open('w', encoding='utf-8') as lines, \
                AnswerVideo(self.results / VIDEO) as video:
            try:
                for frames, report in self._until_failure(pairs, counters):
                    if start_ns is None:
                        start_ns = report.frames[0].stamp
                    video.add(self._add(frames, report, start_ns), report.stamp)
                    lines.write(report.to_json() + '\n')
                    progress = _show(progress, report, counters)
            except KeyboardInterrupt:
                if not self.reports:
                    raise
                counters['interrupted'] += 1
        if not self.reports:
            raise AnnotateError(f'no answer from {self.source}: {_why_none(counters)}')
        summary = Summary(self.out, tuple(self.reports), dict(counters), dict(info))
        self._pictures(summary)
        self._page(summary)
        self._move()
        self._add_bag(counters, summary.info)
        told, summary = Counter(summary.counters), replace(summary, counters=dict(counters))
        if counters != told:
            # What the bag was like is told on the page, too.
            self._page(summary)
            self._move()
        return summary

    def _add_bag(self, counters: Counter[str], info: Mapping[str, str]) -> None:
        """Write the annotated bag and move it to its place; whatever happens, no more is lost."""
        made, place = self.folder / ANNOTATED_BAG, self.out / ANNOTATED_BAG
        try:
            # That of an earlier run is about other answers, and takes room.
            if place.exists():
                shutil.rmtree(place)
            if is_video_file(self.source):
                return
            with self.interrupts.allowed():
                write_annotated_bag(self.source, made, (
                    Answered(report, self._overlay(i)) for i, report in enumerate(self.reports)),
                    counters=counters, info=info)
            os.replace(made, place)
        except (Exception, KeyboardInterrupt) as error:
            self.bag_failure = error if str(error) else BagError('interrupted')
            counters['no_bag'] += 1

    def _until_failure(self, pairs: Iterable[Pair], counters: Counter[str]) -> Iterator[Pair]:
        asked = iter(pairs)
        try:
            while True:
                with self.interrupts.allowed():
                    pair = next(asked, None)
                if pair is None:
                    return
                yield pair
        except Exception as error:
            if not self.reports:
                raise
            self.failure = error
            counters['failed'] += 1

    def _add(self, frames: Frames, report: SceneReport, start_ns: int) -> Picture:
        pictures = [None if frame is None else self._rgb(frame) for frame in frames]
        shown = pictures[report.shown]
        if shown is None:
            # That of another camera was recorded: the words stand for themselves.
            shown = np.zeros((PICTURE_HEIGHT, WIDTH, 3), np.uint8)
        drawn = overlay(shown, report, pictures, start_ns)
        number = len(self.reports)
        # On the disk, because an hour of driving would not fit into memory.
        self._overlay(number).write_bytes(encode(drawn))
        (self.folder / f'{number}.shown.jpg').write_bytes(encode(shown))
        self.reports.append(report)
        return drawn

    def _overlay(self, number: int) -> Path:
        return self.folder / f'{number}.overlay.jpg'

    def _pictures(self, summary: Summary) -> None:
        reports, name = summary.reports, self.source.stem
        chosen = interesting(reports, SHEET_ANSWERS)
        share = 'all' if len(chosen) == len(reports) else f'{len(chosen)} of'
        title = f'{name}: {share} {len(reports)} ' + ('answer' if len(reports) == 1 else 'answers')
        shown = [decode_image((self.folder / f'{i}.shown.jpg').read_bytes()) for i in chosen]
        sheet = contact_sheet(
            shown, [reports[i] for i in chosen],
            [seconds(reports[i].stamp, summary.start_ns) for i in chosen], title)
        (self.results / SHEET).write_bytes(encode(sheet, '.png'))
        self.timeline = encode(draw_timeline(reports, summary.start_ns), '.png')
        (self.results / TIMELINE).write_bytes(self.timeline)

    def _page(self, summary: Summary) -> None:
        shown = interesting(summary.reports, PAGE_ANSWERS)
        page = report_page(summary, self.source.stem, self.timeline,
                           {i: self._overlay(i).read_bytes() for i in shown},
                           counter_texts(summary.counters))
        (self.results / PAGE).write_text(page, encoding='utf-8')

    def _move(self) -> None:
        for made in self.results.iterdir():
            os.replace(made, self.out / made.name)


def _decode(frame: Frame) -> Picture | None:
    try:
        return frame.rgb()
    except FrameError:
        return None


def _show(progress: Progress | None, report: SceneReport, counters: Counter[str]
          ) -> Progress | None:
    """Show an answer; return what shows the next, None if nothing can be shown any more."""
    try:
        if progress:
            progress(report)
    # Rich makes an exit of a pipe that nobody reads.
    except (Exception, SystemExit) as error:
        LOG.warning('the answers go on, but cannot be shown: %s', error or type(error).__name__)
        counters['untold'] += 1
        return None
    return progress


def _why_none(counters: Mapping[str, int]) -> str:
    seen = ', '.join(f'{count} {name}' for name, count in counters.items() if count)
    return f'the window was never full ({seen or "no frames"})'
