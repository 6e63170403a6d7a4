# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the messages of a recording are defined: by itself, or else as ROS has them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from rosbags.typesys import (
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
    Stores,
)
from rosbags.typesys.store import Typestore

from vts_ros.tools.message_definitions import SOUND_DEFINITIONS, VIDEO_DEFINITIONS
from vts_ros.tools.storages import one_line, Topic, warn_once

#: Languages in which ROS 2 defines messages; empty: not at all.
LANGUAGES = ('ros2msg', 'ros2idl', 'omgidl', '')
#: Bags that do not define their messages are read with these.
TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
for _name, _definition in {**VIDEO_DEFINITIONS, **SOUND_DEFINITIONS}.items():
    TYPESTORE.register(get_types_from_msg(_definition, _name))


def types_of(topics: Sequence[Topic]) -> Typestore:
    """Return the message types as the bag defines them, and those of ROS besides."""
    return _types_of(tuple(topic._replace(qos='', messages=0) for topic in topics))


# Thousands of recordings of a fleet define the same types.
@lru_cache(maxsize=16)
def _types_of(topics: tuple[Topic, ...]) -> Typestore:
    own: dict[str, Any] = {}
    unclear = []
    for topic in topics:
        try:
            own.update(_definitions(topic))
        # Parsers of text that may be anything raise anything.
        except Exception:
            unclear.append(topic.topic)
    needs_more = any(topic.msgtype not in own for topic in topics)
    try:
        store = get_typestore(Stores.EMPTY)
        store.register({**TYPESTORE.fielddefs, **own} if needs_more else own)
    except Exception:
        # One definition spoils all: that of ROS is taken for the types that it knows.
        unclear = [topic.topic for topic in topics if topic.msgtype not in TYPESTORE.fielddefs]
        store = TYPESTORE
    if unclear:
        warn_once(f'the type of {one_line(", ".join(unclear))} is not understood')
    return store


def _definitions(topic: Topic) -> dict[str, Any]:
    if not topic.definition:
        return {}
    definition = topic.definition.decode('utf-8', 'replace')
    if topic.language == 'ros2msg':
        return dict(get_types_from_msg(definition, topic.msgtype))
    found: dict[str, Any] = {}
    # Several files in one, each behind a line of its name.
    for part in definition.split('=' * 80 + '\n'):
        text = part.split('\n', 1)[1] if part.startswith('IDL: ') else part
        if text.strip():
            found.update(get_types_from_idl(text))
    return found
