# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a recording has beside its pictures: signals of the car, and sound. No ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TYPE_CHECKING

from vts_ros.errors import SignalError
from vts_ros.pipeline.events import EventLog
from vts_ros.pipeline.sound_sense import new_listener
from vts_ros.tools.audio_tracks import Sounds, sounds_of, with_sound
from vts_ros.tools.bag_signals import BagSignals, NO_SIGNALS, SignalUse
from vts_ros.tools.bags import is_video_file

if TYPE_CHECKING:
    from vts_ros.pipeline.frames import Frame
    from vts_ros.vlm.vehicle import Vehicle


class SoundUse(NamedTuple):
    """
    What is heard, and what becomes of it.

    Attributes
    ----------
    audio
        See :func:`sounds_of`; empty is nothing.
    moves_tokens, is_told
        The settings ``audio.budget`` and ``audio.tell``.

    """

    audio: str = ''
    moves_tokens: bool = True
    is_told: bool = True


NO_SOUND = SoundUse()


class RecordedSenses:
    """
    Signals of the car and sound, known with each picture as far as they came before it.

    Parameters
    ----------
    source
        Directory or storage file of a recording, or a video file.
    signals, sound
        What is used of it.
    events
        Where events go to; by default a log of its own.
    counters
        Where to count what cannot be used, see :class:`BagSignals` and ``read_sound_topic``.

    Attributes
    ----------
    events
        What was noticed so far.

    Raises
    ------
    SignalError
        If signals are wanted of a video, which has none.
    SoundError
        If there is no such sound.

    """

    def __init__(self, source: str | Path, signals: SignalUse = NO_SIGNALS,
                 sound: SoundUse = NO_SOUND, events: EventLog | None = None,
                 counters: Counter[str] | None = None) -> None:
        self._source, self._signals, self._sound = source, signals, sound
        self.events = EventLog() if events is None else events
        self._counters = Counter() if counters is None else counters
        if signals.is_any and is_video_file(source):
            raise SignalError(f'{source} is a video, which has no signals of the car: leave out '
                              '--tell-vehicle and --evidence, or give a bag')
        self._sounds: Sounds | None = sounds_of(
            Path(source), sound.audio, self._counters) if sound.audio else None
        self._car: BagSignals | None = None

    def beside(self, frames: Iterable[tuple[int, Frame]]) -> Iterator[Frame]:
        """
        Yield the pictures of a pass; what came before each is known then, and nothing later.

        Parameters
        ----------
        frames
            With the times at which they were received. They may come when they are due: nothing
            of the time after a picture is taken before the next one is there.

        Raises
        ------
        BagError
            If the recording can no longer be read.
        SoundError, EngineError
            If the network for sounds is missing, or cannot be run here.

        """
        if self._signals.is_any:
            self._car = BagSignals(
                self._source, self._signals.topics, self.events,
                is_told=self._signals.tell_vehicle, is_evidence=self._signals.evidence,
                counters=self._counters)
            frames = self._car.beside(frames)
        pictures = (frame for _, frame in frames)
        if self._sounds is None:
            return pictures
        return with_sound(pictures, self._sounds, new_listener(
            self.events.add, lambda: self._sound.moves_tokens, lambda: self._sound.is_told))

    def forget(self) -> None:
        """Begin anew, with another log of events: what comes next is another drive."""
        self.events, self._car = EventLog(), None

    def vehicle(self) -> Vehicle | None:
        """Return what the car did when the last picture was received, if models are told."""
        return None if self._car is None else self._car.signals.vehicle()
