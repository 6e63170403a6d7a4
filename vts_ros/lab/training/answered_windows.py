# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Windows of recordings and what is to be said of them: what a language model is fine-tuned on.

They come from ``vts annotate``, whose answers may be corrected by hand, or from ``vts fleet
annotate``. Where there are several recordings, whole ones are held out: windows of a drive are
much alike, so that those of a drive that was learned from prove nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from vts_ros.errors import VtsError
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.report import FrameRef, SCHEMA_VERSION
from vts_ros.tools.answer_files import ANNOTATED_BAG, ANSWERS
from vts_ros.tools.bag_frames import read_frames, until_damage
from vts_ros.tools.remote_recordings import fetched
from vts_ros.vlm.answers import Answer, RISK_LEVELS
from vts_ros.vlm.vehicle import Vehicle

#: Share of the recordings that is held out; at least one.
HELD_OUT = 0.2
#: Share at the end of each other recording that says when to stop.
VALIDATION = 0.1
_FLEET_SETTINGS, _FLEET_ANSWERS = 'fleet.json', 'answers'


class AnswersError(VtsError):
    """Answers that nothing can be learned from; the message says where and why in one line."""


class AnsweredWindow(NamedTuple):
    """
    A window and what is to be said of it.

    Attributes
    ----------
    recording
        Path of its recording, or the address of one in a fleet.
    frames
        Oldest first.
    answer
        As it is to be.
    vehicle
        What the car said of itself; None where that is not known.
    needs
        Fields of ``vehicle`` without which the answer would not be right.

    """

    recording: str
    frames: tuple[FrameRef, ...]
    answer: Answer
    vehicle: Vehicle | None = None
    needs: tuple[str, ...] = ()

    @property
    def stamp(self) -> int:
        """Return the stamp of the newest frame in nanoseconds."""
        return max(frame.stamp for frame in self.frames)


class Split(NamedTuple):
    """Windows to learn from, to say when to stop, and to measure on."""

    train: list[AnsweredWindow]
    validation: list[AnsweredWindow]
    held_out: list[AnsweredWindow]


def read_answers(folder: Path, counters: Counter[str]) -> list[AnsweredWindow]:
    """
    Return the answered windows of a folder.

    Parameters
    ----------
    folder
        Of ``vts annotate``, with its annotated bag, or of ``vts fleet annotate``.
    counters
        Where to count what is left out: ``unknown`` (also what a guard refused), and
        ``confirmed``, answers that repeat the one before.

    Raises
    ------
    AnswersError
        If it is neither, or an answer cannot be read.

    """
    if (folder / _FLEET_SETTINGS).exists():
        rows = _fleet_rows(folder)
    elif (folder / ANSWERS).exists():
        rows = _annotated_rows(folder)
    else:
        raise AnswersError(f'{folder} has no {ANSWERS}: give a folder that vts annotate or vts '
                           'fleet annotate has written')
    found = []
    for place, recording, row in rows:
        try:
            window = _window(recording, row)
        except (KeyError, TypeError, ValueError) as error:
            what = f'no {error}' if isinstance(error, KeyError) else str(error)
            raise AnswersError(f'{place}: {what}') from error
        if window.answer.risk == 'unknown':
            counters['unknown'] += 1
        elif row.get('confirmed'):
            counters['confirmed'] += 1
        else:
            found.append(window)
    return found


def split(windows: Sequence[AnsweredWindow], frames: int) -> Split:
    """
    Divide windows by recording; of a single recording by time.

    Which recordings are held out follows from their names alone, so that it stays the same when
    others are added.

    Parameters
    ----------
    frames
        Of a window: so many windows between two parts of a recording are left out, as they share
        frames with both.

    Raises
    ------
    AnswersError
        If there is not enough for each part.

    """
    by_recording: dict[str, list[AnsweredWindow]] = defaultdict(list)
    for window in sorted(windows, key=lambda window: (window.recording, window.stamp)):
        by_recording[window.recording].append(window)
    # The copies that vts annotate makes all have the same name, in folders of their own.
    names = sorted(by_recording, key=lambda name: hashlib.sha256(
        '/'.join(Path(name).parts[-2:]).encode()).digest())
    parts = Split([], [], [])
    count = max(1, round(HELD_OUT * len(names))) if len(names) > 1 else 0
    for name in names[:count]:
        parts.held_out.extend(by_recording[name])
    for name in names[count:]:
        found = by_recording[name]
        if not count:
            found, last = _cut(found, HELD_OUT, frames)
            parts.held_out.extend(last)
        found, last = _cut(found, VALIDATION, frames)
        parts.train.extend(found)
        parts.validation.extend(last)
    if not all(parts):
        raise AnswersError(f'{len(windows)} answered windows of {len(names)} recordings are too '
                           'few to learn from, to stop by, and to measure on')
    return parts


def _cut(windows: list[AnsweredWindow], share: float, gap: int
         ) -> tuple[list[AnsweredWindow], list[AnsweredWindow]]:
    last = max(1, round(share * len(windows)))
    return windows[:max(0, len(windows) - last - gap)], windows[len(windows) - last:]


def with_pictures(windows: Iterable[AnsweredWindow]
                  ) -> Iterator[tuple[AnsweredWindow, list[Frame]]]:
    """
    Yield windows with their frames, recording by recording, each read once.

    Windows of which a frame is not there are passed over. Pictures are not decoded. Recordings at
    addresses are fetched one at a time.

    Raises
    ------
    BagError
        If a recording cannot be fetched or read.

    """
    by_recording: dict[str, list[AnsweredWindow]] = defaultdict(list)
    for window in windows:
        by_recording[window.recording].append(window)
    for recording, wanted in by_recording.items():
        with fetched(recording) as bag:
            yield from _found(bag, wanted)


def _found(bag: Path, wanted: Sequence[AnsweredWindow]
           ) -> Iterator[tuple[AnsweredWindow, list[Frame]]]:
    missing = {number: set(window.frames) for number, window in enumerate(wanted)}
    users: dict[FrameRef, set[int]] = defaultdict(set)
    for number, refs in missing.items():
        for ref in refs:
            users[ref].add(number)
    held: dict[FrameRef, Frame] = {}
    for frame in until_damage(read_frames(bag), Counter()):
        ref = FrameRef(*frame.key)
        if ref not in users:
            continue
        held[ref] = frame
        for number in sorted(users[ref]):
            missing[number].discard(ref)
            if missing[number]:
                continue
            yield wanted[number], [held[needed] for needed in wanted[number].frames]
            for needed in wanted[number].frames:
                users[needed].discard(number)
                if not users[needed]:
                    held.pop(needed, None)


def _annotated_rows(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    bag = folder / ANNOTATED_BAG
    if not bag.is_dir():
        raise AnswersError(f'{folder} has no {ANNOTATED_BAG}, so there are no pictures to the '
                           'answers: run vts annotate --bag again')
    path = folder / ANSWERS
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise AnswersError(f'{path}, line {number}: {error}') from error
            yield f'{path}, line {number}', str(bag.absolute()), row


def _fleet_rows(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    from pyarrow import parquet

    for path in sorted((folder / _FLEET_ANSWERS).glob('*.parquet')):
        for row in parquet.read_table(path).to_pylist():
            found = row['object'] and {
                'label': row['object'], 'camera': row['object_camera'], 'box': row['box']}
            yield f'{path}, {row["stamp"]}', row['recording'], {
                **row, 'schema': SCHEMA_VERSION, 'risk': {'level': row['risk']}, 'object': found}


def _window(recording: str, row: dict[str, Any]) -> AnsweredWindow:
    """Read what is needed of a report; people who write answers need not write more."""
    if row.get('schema', SCHEMA_VERSION) != SCHEMA_VERSION:
        raise ValueError(f'schema {row["schema"]!r}, expected {SCHEMA_VERSION}')
    frames = tuple(FrameRef(str(frame['camera']), int(frame['stamp'])) for frame in row['frames'])
    if not frames:
        raise ValueError('no frames')
    level, found = row['risk']['level'], row.get('object') or {}
    if level not in RISK_LEVELS:
        raise ValueError(f'risk {level!r}, expected one of {", ".join(RISK_LEVELS)}')
    box = found.get('box')
    if box is not None:
        left, top, right, bottom = (float(side) for side in box)
        if not (0.0 <= left <= right <= 1.0 and 0.0 <= top <= bottom <= 1.0):
            raise ValueError(f'box {box}: expected left, top, right, bottom from 0 to 1')
        # Models write boxes without an area, too: these are of no use.
        box = (left, top, right, bottom) if left < right and top < bottom else None
    several = len({frame.camera for frame in frames}) > 1
    return AnsweredWindow(recording, frames, Answer(
        str(row.get('description') or ''), level, found.get('label'), box,
        str(row.get('explanation') or ''), str(row.get('action') or ''),
        found.get('camera') if several else None), *_vehicle(row))


def _vehicle(row: dict[str, Any]) -> tuple[Vehicle | None, tuple[str, ...]]:
    """Read what a line says of the car, and what of that the answer needs."""
    told, needs = row.get('vehicle'), tuple(row.get('needs') or ())
    known = [field.name for field in fields(Vehicle)]
    wrong = next((name for name in (*(told or ()), *needs) if name not in known), None)
    if wrong is not None:
        raise ValueError(f'{wrong!r} of the vehicle, expected one of {", ".join(known)}')
    lacking = next((name for name in needs if name not in (told or ())), None)
    if lacking is not None:
        raise ValueError(f'the answer needs {lacking} of the vehicle, which is not there')
    return (Vehicle(**told) if told else None), needs
