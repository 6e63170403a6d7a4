# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded drives as the workshop takes them: bags, and folders of pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
import hashlib
from pathlib import Path

from vts_ros.errors import BagError
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.tools.bag_frames import read_frames, until_damage

PICTURE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp')
#: Pictures of a folder have no time: they count as so far apart. Stamps of zero are none.
PICTURE_NS, _FIRST_NS = 100_000_000, 1_000_000_000
#: Frames that are nearer to the last one are left out: they show the same again.
LEAST_NS = PICTURE_NS // 2
#: Bytes that are read at once to tell files apart.
_CHUNK = 1 << 20


def frames_of(recording: Path) -> Iterator[Frame]:
    """
    Yield the frames of a bag, or of the pictures of a folder in the order of their names.

    At most twenty a second of each camera. What comes after damage is left out, and pictures are
    not opened: any may be broken.

    Raises
    ------
    BagError
        If there is nothing to read.

    """
    pictures = pictures_of(recording)
    last_ns: dict[str, int] = {}
    for frame in () if pictures else until_damage(read_frames(recording), Counter()):
        if abs(frame.stamp_ns - last_ns.get(frame.camera, -PICTURE_NS)) >= LEAST_NS:
            last_ns[frame.camera] = frame.stamp_ns
            yield frame
    for number, path in enumerate(pictures):
        yield Frame('front', _FIRST_NS + PICTURE_NS * number, path.read_bytes())


def pictures_of(recording: Path) -> list[Path]:
    """Return the pictures of a folder that is no bag, by name; none of anything else."""
    if not recording.is_dir() or (recording / 'metadata.yaml').exists():
        return []
    return sorted(path for path in recording.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)


def every_window(recording: Path, frames: int = 5, interval_sec: float = 0.4
                 ) -> Iterator[list[Frame]]:
    """
    Yield every window that a drive can give, whenever the pipeline was started in it.

    The pipeline takes a frame each interval, so where it begins decides which of them it sees;
    here one rolling window begins with each frame of the first interval.

    Raises
    ------
    BagError
        If the recording cannot be read.

    """
    buffers: list[FrameBuffer] = []
    begins: dict[str, int] = {}
    for frame in frames_of(recording):
        first_ns = begins.setdefault(frame.camera, frame.stamp_ns)
        starts = frame.stamp_ns - first_ns < FrameBuffer.TOLERANCE * interval_sec * 1e9
        # One camera alone opens new ones: the others would only see their own late.
        if starts and frame.camera == next(iter(begins)):
            buffers.append(FrameBuffer(frames, interval_sec))
        for buffer in buffers:
            _, window = buffer.advance(frame)
            if window:
                yield window


def fingerprint(*paths: Path) -> str:
    """Return a short hash of what files, or all files in folders, hold."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob('*')) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                digest.update(file.name.encode())
                with file.open('rb') as opened:
                    while chunk := opened.read(_CHUNK):
                        digest.update(chunk)
    return digest.hexdigest()[:16]


def name_of(recording: Path) -> str:
    """Return how a recording is called in tables."""
    return recording.absolute().name


def check_recordings(recordings: list[Path]) -> None:
    """Raise BagError if two recordings have the same name: tables could not tell them apart."""
    seen: set[str] = set()
    for recording in recordings:
        if name_of(recording) in seen:
            raise BagError(f'two recordings are called {name_of(recording)}: rename one')
        seen.add(name_of(recording))
