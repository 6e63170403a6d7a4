# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What was heard as events of a pipeline: tokens for its moment, words for the model."""

from __future__ import annotations

from collections.abc import Callable

from vts_ros.pipeline.events import Event
from vts_ros.sound.listener import Listener
from vts_ros.sound.sound_events import SoundEvent
from vts_ros.sound.sound_network import SoundNetwork


def event_of(heard: SoundEvent, moves_tokens: bool, is_told: bool) -> Event:
    """
    Return an event for the log of a pipeline.

    Parameters
    ----------
    moves_tokens
        Whether more of the visual tokens go to its moment, the more the surer it is.
    is_told
        Whether the language model is told.

    """
    return Event(heard.kind, heard.start_ns, heard.end_ns,
                 strength=heard.confidence if moves_tokens else 0.0, is_told=is_told,
                 sentence=f'Heard: {heard.text}.')


def new_listener(add: Callable[[Event], None], moves_tokens: Callable[[], bool],
                 is_told: Callable[[], bool]) -> Listener:
    """
    Return what listens to one microphone.

    Parameters
    ----------
    add
        Called with events, see ``EventLog.add``.
    moves_tokens, is_told
        As they are at the moment, see :func:`event_of`.

    Raises
    ------
    SoundError, EngineError
        If the network is missing, or cannot be run here.

    """
    return Listener(SoundNetwork(), lambda heard: add(event_of(heard, moves_tokens(), is_told())))
