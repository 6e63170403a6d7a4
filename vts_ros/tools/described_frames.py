# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A drive, frame by frame, in front of what describes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
import logging
from typing import Protocol, TYPE_CHECKING

from vts_ros.errors import VlmError
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.report import FrameRef, SceneReport
from vts_ros.tools.bag_frames import count_broken

if TYPE_CHECKING:
    from vts_ros.pipeline.config import PipelineConfig
    from vts_ros.pipeline.features import BrokenFrame
    from vts_ros.pipeline.frames import Window

#: The frames of a report in its order, None where one is not recorded; the newest always is.
Frames = Sequence[Frame | None]
Pair = tuple[Frames, SceneReport]

#: So many questions in a row without an answer, and none before: there will be none.
HOPELESS = 3

LOG = logging.getLogger(__name__)


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
                    counters: Counter[str] | None = None,
                    describe: Callable[[Window], SceneReport] | None = None
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
    describe
        What describes a window, where more is told of it than its pictures; otherwise the
        pipeline alone.

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
            report = without_broken(tuple(window), leave_out, describe or pipeline.describe)
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
