# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers over a recorded drive, written as pictures, video, report, JSON lines and a bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
import logging
import os
from pathlib import Path
import shutil
import signal
import tempfile
import threading
from types import FrameType
from typing import Any, Protocol, TYPE_CHECKING

import numpy as np

from vts_ros.errors import BagError, FrameError, VlmError
from vts_ros.pipeline.frames import decode_image, Frame, FrameBuffer
from vts_ros.pipeline.report import FrameRef, SceneReport
from vts_ros.tools.annotated_bag import write_annotated_bag
from vts_ros.tools.answer_video import AnswerVideo
from vts_ros.tools.bag_frames import count_broken, read_frames, REASON, until_damage
from vts_ros.tools.bags import is_video_file
from vts_ros.tools.contact_sheet import contact_sheet, interesting
from vts_ros.tools.overlay_picture import overlay
from vts_ros.tools.pictures import encode, Picture, seconds
from vts_ros.tools.recorded_answers import Answered
from vts_ros.tools.report_page import report_page
from vts_ros.tools.timeline import draw_timeline
from vts_ros.tools.videos import read_video
from vts_ros.vlm.answers import RISK_LEVELS

if TYPE_CHECKING:
    from vts_ros.pipeline.config import PipelineConfig
    from vts_ros.pipeline.features import BrokenFrame
    from vts_ros.pipeline.frames import Window
    from vts_ros.pipeline.pipeline import Pipeline

#: The frames of a report in its order, None where one is not recorded; the newest always is.
Frames = Sequence[Frame | None]
Pair = tuple[Frames, SceneReport]
Progress = Callable[[SceneReport], None]

ANSWERS, VIDEO, SHEET, TIMELINE = 'answers.jsonl', 'annotated.mp4', 'contact_sheet.png', \
    'timeline.png'
PAGE, ANNOTATED_BAG = 'report.html', 'annotated_bag'

SHEET_ANSWERS = 12
#: More pictures would make the page too heavy for a browser.
PAGE_ANSWERS = 120
#: So many questions in a row without an answer, and none before: there will be none.
HOPELESS = 3

LOG = logging.getLogger(__name__)

COUNTER_TEXTS = {
    'frames': 'frames read from the recording',
    'admitted': 'frames that went into a window',
    'thinned': 'frames left out because they came sooner than the window wants them',
    'duplicate': 'frames with the stamp of the frame before',
    'back': 'times that time went back (the window started anew)',
    'broken': 'frames that could not be decoded (left out)',
    'no_stamp': 'frames without a stamp (the receive time was taken)',
    'truncated': 'files of the bag that were cut off (read as far as possible)',
    'damaged': 'places where the recording is damaged (what is there is left out)',
    'missing': 'files of the bag that are not there',
    'not_understood': 'topics that are neither of ROS 2 nor pictures of Foxglove (left out)',
    'overtaken': 'answers that the node would not have given, as a newer window came first (left '
                 'out of the annotated bag)',
    'retracted': 'times that the node would have taken its answer back, as none followed it for '
                 '10 s (so it is in the annotated bag)',
    'late': 'frames older than the one before (left out)',
    'gap': 'times that no picture came for long (the window started anew)',
    'unmatched': 'frames too far in time from those of the other cameras (left out)',
    'not_copied': 'topics of unknown type (left out of the annotated bag)',
    'unanswered': 'questions that the language model did not answer (left out)',
    'untold': 'times that answers could no longer be shown while they came (they are all here)',
    'no_bag': 'annotated bags that could not be written (all other results are here)',
    'interrupted': 'times that the run was stopped by hand',
    'failed': 'times that the run ended with an error (what came before is here)',
}


class AnnotateError(Exception):
    """Why there are no results, in one line."""


def counter_texts(counters: Mapping[str, int], without: Sequence[str] = ()
                  ) -> list[tuple[str, int]]:
    """Return counters in words, without those that are zero; why pictures are broken is last."""
    words = [(COUNTER_TEXTS.get(name, name), count) for name, count in counters.items()
             if count and name not in without and not name.startswith(REASON)]
    return words + [(f'of the broken frames: {name.removeprefix(REASON)}', count)
                    for name, count in counters.items() if count and name.startswith(REASON)]


@dataclass(frozen=True)
class Summary:
    """
    What came out of a drive.

    Attributes
    ----------
    out
        Folder of the results.
    reports
        All answers in their order.
    counters
        What happened to the frames; see ``COUNTER_TEXTS``.
    info
        Model and engine.

    """

    out: Path
    reports: tuple[SceneReport, ...]
    counters: Mapping[str, int]
    info: Mapping[str, str]

    @property
    def start_ns(self) -> int:
        """Return the stamp of the oldest frame of all answers."""
        return min(frame.stamp for report in self.reports for frame in report.frames)

    @property
    def duration_sec(self) -> float:
        """Return the time between the oldest and the newest frame."""
        return 1e-9 * (max(report.stamp for report in self.reports) - self.start_ns)

    @property
    def risks(self) -> dict[str, int]:
        """Return the number of answers per risk level, all levels in their order."""
        found = Counter(report.answer.risk for report in self.reports)
        return {level: found[level] for level in RISK_LEVELS}

    @property
    def tokens(self) -> tuple[float, float]:
        """Return the mean number of visual tokens per answer: kept, total."""
        return (float(np.mean([len(report.keep) for report in self.reports])),
                float(np.mean([report.tokens_total for report in self.reports])))

    def latency_ms(self, percentile: float) -> float:
        """Return a percentile of the time per answer in milliseconds."""
        return float(np.percentile(
            [report.latency_ms.get('total', 0.0) for report in self.reports], percentile))


class Describer(Protocol):
    """What is asked about a drive: a pipeline, or what stands in for one."""

    config: PipelineConfig

    def describe(self, window: Window) -> SceneReport:
        """Say what the scene is; raise BrokenFrame if a frame cannot be decoded."""
        ...

    def ingest(self, window: Window) -> object:
        """Look at frames that nobody asks about."""
        ...

    def frames_of(self, report: SceneReport) -> Frames:
        """Return the frames of the last report."""
        ...

    def clear(self) -> None:
        """Forget all frames."""
        ...


def describe_frames(pipeline: Describer, frames: Iterable[Frame], *,
                    buffer: FrameBuffer | None = None, every: int = 1,
                    counters: Counter[str] | None = None
                    ) -> Iterator[Pair]:
    """
    Ask the pipeline about a drive, frame by frame.

    A question that the language model fails to answer, such as one that a server takes too long
    for, is counted and told; the next one may go better.

    Parameters
    ----------
    pipeline
        What describes a window.
    frames
        The frames of the drive as they were received.
    buffer
        The rolling window; by default that of the node.
    every
        Ask at every so many-th full window.
    counters
        Where to count what happened to the frames.

    Yields
    ------
    The frames of a report, and the report.

    Raises
    ------
    VlmError
        If the first questions all fail.

    """
    from vts_ros.pipeline.pipeline import without_broken

    buffer = buffer or FrameBuffer()
    counters = Counter() if counters is None else counters
    full = 0
    newest: FrameRef | None = None
    failures = 0
    failure: VlmError | None = None
    for frame in frames:
        outcome, window = buffer.advance(frame)
        counters[outcome] += 1
        if outcome == 'back':
            pipeline.clear()
        if window is None:
            continue
        full += 1

        def leave_out(broken: BrokenFrame, window: list[Frame] = window) -> None:
            count_broken(counters, broken)
            window.remove(broken.frame)
            buffer.discard(broken.frame)

        if (full - 1) % every:
            if pipeline.config.mode == 'causal':
                without_broken(tuple(window), leave_out, pipeline.ingest)
            continue
        try:
            report = without_broken(tuple(window), leave_out, pipeline.describe)
        except VlmError as error:
            failures += 1
            counters['unanswered'] += 1
            failure = error
            if newest is None and failures >= HOPELESS:
                raise
            LOG.warning('no answer at %.3f s: %s', 1e-9 * frame.stamp_ns, error)
            continue
        # Without its newest frame a window has been told about already.
        if report and report.frames[-1] != newest:
            newest = report.frames[-1]
            yield pipeline.frames_of(report), report
    if failure and newest is None:
        raise failure


def annotate(source: str | Path, out: str | Path, pipeline: Pipeline, *,
             topics: Sequence[str] | None = None, every: int = 1,
             buffer: FrameBuffer | None = None, progress: Progress | None = None) -> Summary:
    """
    Describe a recorded drive and write everything a person wants to look at.

    Parameters
    ----------
    source
        Directory or storage file of a rosbag2 recording, or a video file.
    out
        Folder for the results; made if needed, results of an earlier run are replaced.
    pipeline
        What describes a window.
    topics
        Camera topics; by default every camera of the bag.
    every
        Ask at every so many-th full window.
    buffer
        The rolling window; by default that of the node.
    progress
        Called with every answer.

    Raises
    ------
    BagError, VideoError
        If the recording cannot be read or has no camera.
    AnnotateError
        If there is no answer, or the results cannot be written.

    """
    counters: Counter[str] = Counter()
    # Frames are cached by camera and stamp, and another drive may have the same stamps.
    pipeline.clear()
    frames = read_video(source, counters) if is_video_file(source) else until_damage(
        read_frames(source, topics, counters), counters)
    pairs = describe_frames(pipeline, frames, buffer=buffer, every=every, counters=counters)
    return write_outputs(pairs, out, source=source, counters=counters, info=pipeline.info(),
                         progress=progress)


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
        with _Interrupts() as interrupts, \
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


class _Interrupts:
    """
    Ctrl-C while results are made: it waits where something must be done as a whole.

    People press it twice when the first seems to do nothing. The second must not throw away what
    the first asked to be written.
    """

    def __init__(self) -> None:
        self._is_allowed = self._is_waiting = False
        self._before: Any = None

    def __enter__(self) -> _Interrupts:
        # Only the main thread may; others never get a KeyboardInterrupt.
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let an interrupt end what is done here, at once if one is waiting."""
        self._is_allowed = True
        try:
            if self._is_waiting:
                self._raise()
            yield
        finally:
            self._is_allowed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_waiting = True
        if self._is_allowed:
            self._raise()

    def _raise(self) -> None:
        self._is_allowed = self._is_waiting = False
        raise KeyboardInterrupt


class _Writing:
    """One run of :func:`write_outputs`: what it has, and where it puts it."""

    def __init__(self, folder: Path, out: Path, source: Path, interrupts: _Interrupts) -> None:
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
        if counters != summary.counters:
            # What the bag was like is told on the page, too.
            summary = replace(summary, counters=dict(counters))
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
        newest = pictures[-1]
        if newest is None:
            raise AnnotateError(f'the newest frame of the answer at {report.stamp} is not there')
        drawn = overlay(newest, report, pictures, start_ns)
        number = len(self.reports)
        # On the disk, because an hour of driving would not fit into memory.
        self._overlay(number).write_bytes(encode(drawn))
        (self.folder / f'{number}.newest.jpg').write_bytes(encode(newest))
        self.reports.append(report)
        return drawn

    def _overlay(self, number: int) -> Path:
        return self.folder / f'{number}.overlay.jpg'

    def _pictures(self, summary: Summary) -> None:
        reports, name = summary.reports, self.source.stem
        chosen = interesting(reports, SHEET_ANSWERS)
        share = 'all' if len(chosen) == len(reports) else f'{len(chosen)} of'
        title = f'{name}: {share} {len(reports)} answers'
        newest = [decode_image((self.folder / f'{i}.newest.jpg').read_bytes()) for i in chosen]
        sheet = contact_sheet(
            newest, [reports[i] for i in chosen],
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
