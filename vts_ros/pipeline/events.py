# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What other senses noticed: moments that matter, whatever the pictures show.

A source of events, such as a signal of the car or a microphone, adds them to the log of a pipeline
(``Pipeline.events``) from any thread, in the clock of the pictures. An event may move visual
tokens to the frames of its moment, see :mod:`vts_ros.sparsify.frame_budgets`, and may be told to
the language model. Without any, nothing is different from a pipeline that knows no events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import math
import threading

import numpy as np
from numpy.typing import NDArray

#: Frames this long before and after an event belong to it, too, the less the farther away they
#: are: what made a car brake was there before it did.
FADE_SEC = 0.8
#: Events this much older than the last are forgotten; no window reaches back so far.
MEMORY_SEC = 120.0
#: So many are kept at most: a source that is broken must not fill the memory.
MOST_EVENTS = 256


@dataclass(frozen=True)
class Event:
    """
    A moment that matters.

    Attributes
    ----------
    kind
        What it is, such as ``hard_braking``: the key of its text in the prompt file.
    start_ns, end_ns
        When it began, and when it ended or was last noticed: nanoseconds of the clock of the
        pictures.
    strength
        How much it matters, 0 to 1. 0 moves no visual tokens.
    is_told
        Whether the language model is told, in the words that the prompt file has for the kind.
    sentence
        What the model is told where the prompt file knows no such kind.

    """

    kind: str
    start_ns: int
    end_ns: int
    strength: float = 1.0
    is_told: bool = False
    sentence: str = ''

    @property
    def seconds(self) -> float:
        """Return how long it took, or has taken so far."""
        return max(0, self.end_ns - self.start_ns) * 1e-9

    def weights(self, stamps_ns: Sequence[int]) -> NDArray[np.float64]:
        """Return how much it makes each of these moments matter, 0 to 1."""
        if not math.isfinite(self.strength):
            # Of a source that is broken. A picture is described all the same.
            return np.zeros(len(stamps_ns))
        stamps = np.array(stamps_ns, np.int64)
        away_ns = np.maximum(np.maximum(self.start_ns - stamps, stamps - self.end_ns), 0)
        near = np.clip(1.0 - away_ns * 1e-9 / FADE_SEC, 0.0, 1.0)
        return near * min(max(self.strength, 0.0), 1.0)


def frame_weights(events: Iterable[Event], stamps_ns: Sequence[int]) -> NDArray[np.float64]:
    """
    Return how much frames matter, by their stamps: s(t) in float64 [T], 0 to 1.

    That of the event that matters most at the time: two that say the same do not add up.
    """
    weights = np.zeros(len(stamps_ns))
    for event in events:
        weights = np.maximum(weights, event.weights(stamps_ns))
    return weights


def carried_on(weights: NDArray[np.float64], is_newest: Sequence[bool]) -> NDArray[np.float64]:
    """
    Return how much frames of a window matter, where the newest do as much as any before them.

    What the model is asked about is the newest: what was noticed in the window must not take
    tokens from there.
    """
    return np.where(is_newest, weights.max(initial=0.0), weights)


class EventLog:
    """The events of the last minutes; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []

    def add(self, event: Event) -> None:
        """Add an event; one that goes on, of the same kind and start, is replaced."""
        with self._lock:
            known = (event.kind, event.start_ns)
            kept = [other for other in self._events if (other.kind, other.start_ns) != known]
            kept.append(event)
            # By the last that came: one with a wrong stamp must not outdate all others for good.
            self._events = [other for other in kept
                            if event.end_ns - other.end_ns <= MEMORY_SEC * 1e9][-MOST_EVENTS:]

    def near(self, stamps_ns: Sequence[int]) -> tuple[Event, ...]:
        """Return those that belong to any of these moments, oldest first."""
        if not self._events or not stamps_ns:
            return ()
        fade_ns = round(FADE_SEC * 1e9)
        first, last = min(stamps_ns) - fade_ns, max(stamps_ns) + fade_ns
        with self._lock:
            found = [event for event in self._events
                     if event.start_ns < last and event.end_ns > first]
        return tuple(sorted(found, key=lambda event: (event.start_ns, event.kind)))

    def clear(self) -> None:
        """Forget all events, for instance after time jumped back."""
        with self._lock:
            self._events.clear()
