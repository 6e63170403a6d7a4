# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded drive, described from its first window to its last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.tools.annotate_summary import Summary
from vts_ros.tools.answer_files import Progress, write_outputs
from vts_ros.tools.bag_frames import read_frames_from, until_damage
from vts_ros.tools.bag_signals import SignalUse
from vts_ros.tools.bags import is_video_file
from vts_ros.tools.described_frames import describe_frames
from vts_ros.tools.recorded_senses import RecordedSenses, SoundUse
from vts_ros.tools.videos import read_video

if TYPE_CHECKING:
    from vts_ros.pipeline.pipeline import Pipeline
    from vts_ros.tools.described_frames import Pair


def annotate(source: str | Path, out: str | Path, pipeline: Pipeline, *,
             topics: Sequence[str] | None = None, every: int = 1,
             buffer: FrameBuffer | None = None, progress: Progress | None = None,
             signals: Sequence[str] = (), tell_vehicle: bool = False, evidence: bool = False,
             audio: str = '', moves_tokens: bool = True, is_told: bool = True) -> Summary:
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
    signals, tell_vehicle, evidence
        The settings ``signals.topics``, ``vlm.tell_vehicle`` and ``signals.evidence``; of a bag.
    audio
        What is heard, see :func:`sounds_of`; empty is nothing.
    moves_tokens, is_told
        What becomes of that, see :func:`event_of`.

    Raises
    ------
    BagError, VideoError, SoundError, SignalError
        If the recording cannot be read or has no camera, or has no such sound or no signals.
    AnnotateError
        If there is no answer, or the results cannot be written.

    """
    counters: Counter[str] = Counter()
    pairs = answers_to(
        source, pipeline, counters, topics=topics, every=every, buffer=buffer, signals=signals,
        tell_vehicle=tell_vehicle, evidence=evidence, audio=audio, moves_tokens=moves_tokens,
        is_told=is_told)
    return write_outputs(pairs, out, source=source, counters=counters, info=pipeline.info(),
                         progress=progress)


def answers_to(source: str | Path, pipeline: Pipeline, counters: Counter[str], *,
               topics: Sequence[str] | None = None, every: int = 1,
               buffer: FrameBuffer | None = None,
               signals: Sequence[str] = (), tell_vehicle: bool = False, evidence: bool = False,
               audio: str = '', moves_tokens: bool = True, is_told: bool = True) -> Iterator[Pair]:
    """
    Return frames and report of every answer about a recorded drive, one by one.

    Parameters
    ----------
    counters
        What is left out of the recording, and why, is counted here.
    source, pipeline, topics, every, buffer, signals, tell_vehicle, evidence, audio, \
    moves_tokens, is_told
        See :func:`annotate`.

    Raises
    ------
    BagError, VideoError, SoundError, SignalError
        As :func:`annotate`; some of it not before the first answer is taken.

    """
    # Frames are cached by camera and stamp, and another drive may have the same stamps.
    pipeline.clear()
    senses = RecordedSenses(source, SignalUse(tuple(signals), tell_vehicle, evidence),
                            SoundUse(audio, moves_tokens, is_told), pipeline.events, counters)
    frames: Iterator[tuple[int, Frame]]
    if is_video_file(source):
        frames = ((frame.stamp_ns, frame) for frame in read_video(source, counters))
    else:
        frames = until_damage(read_frames_from(0, source, topics, counters), counters)
    return describe_frames(
        pipeline, senses.beside(frames), buffer=buffer, every=every, counters=counters,
        describe=lambda window: pipeline.describe(window, vehicle=senses.vehicle()))
