# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures of recordings that were made without ROS: the schemas of Foxglove, in Protobuf or JSON.

https://docs.foxglove.dev/docs/sdk/schemas. They become the messages of ROS with the same content,
so that all else need not know of them. Other topics of such a recording stay as they are.
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Collection, Iterator
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mcap.records import Schema
import numpy as np

from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE, COMPRESSED_VIDEO, IMAGE
from vts_ros.tools.message_definitions import make_message, serialise
from vts_ros.tools.storages import McapFile, Topic

#: What becomes what.
SCHEMAS = {
    'foxglove.CompressedImage': COMPRESSED_IMAGE,
    'foxglove.CompressedVideo': COMPRESSED_VIDEO,
    'foxglove.RawImage': IMAGE,
}

#: Takes a message apart; raises whatever its library does.
Parse = Callable[[bytes], Any]


class PictureMcapFile(McapFile):
    """
    An MCAP file in which pictures of Foxglove are messages of ROS.

    One that cannot be read counts as a ``damaged`` place of the file, once.
    """

    def __init__(self, path: Path, counters: Counter[str]) -> None:
        super().__init__(path, counters)
        self._parsers: dict[int, Parse] = {}
        self._unreadable: set[tuple[int, int]] = set()
        for id_, topic in self.topics.items():
            if topic.msgtype in SCHEMAS and (parse := _parser(topic)):
                self._parsers[id_] = parse
                self.topics[id_] = topic._replace(
                    msgtype=SCHEMAS[topic.msgtype], serialization='cdr', definition=b'',
                    language='')

    def messages(self, wanted: Collection[int], since_ns: int = 0
                 ) -> Iterator[tuple[int, int, bytes]]:
        """Yield as any MCAP file does, messages of ROS only."""
        for id_, received_ns, data in super().messages(wanted, since_ns):
            if parse := self._parsers.get(id_):
                try:
                    data = _message(parse(data), self.topics[id_].msgtype)
                # What garbled bytes make of the libraries and of the numbers in them.
                except Exception:
                    self._counters['damaged'] += (id_, received_ns) not in self._unreadable
                    self._unreadable.add((id_, received_ns))
                    continue
            yield id_, received_ns, data


def _parser(topic: Topic) -> Parse | None:
    """Return what takes the messages of a topic apart, None where nothing can."""
    if topic.serialization == 'json':
        return _from_json
    if topic.serialization == 'protobuf':
        # Here, as other recordings need no Protobuf.
        from mcap_protobuf.decoder import DecoderFactory

        schema = Schema(id=1, data=topic.definition, encoding=topic.language, name=topic.msgtype)
        try:
            return DecoderFactory().decoder_for(topic.serialization, schema)
        # A schema may be anything.
        except Exception:
            return None
    return None


def _from_json(data: bytes) -> SimpleNamespace:
    fields = json.loads(data)
    # Schemas of Foxglove call it nsec, Protobuf nanos.
    time = SimpleNamespace(seconds=fields['timestamp']['sec'], nanos=fields['timestamp']['nsec'])
    return SimpleNamespace(**{**fields, 'timestamp': time,
                              'data': b64decode(fields['data'], validate=True)})


def _message(picture: Any, msgtype: str) -> bytes:
    """Return a picture as a message of ROS, serialised."""
    stamp = make_message('builtin_interfaces/msg/Time', sec=picture.timestamp.seconds,
                         nanosec=picture.timestamp.nanos)
    data = np.frombuffer(picture.data, np.uint8)
    if msgtype == COMPRESSED_VIDEO:
        message = make_message(msgtype, timestamp=stamp, frame_id=picture.frame_id, data=data,
                               format=picture.format)
    else:
        header = make_message('std_msgs/msg/Header', stamp=stamp, frame_id=picture.frame_id)
        form = {'format': picture.format} if msgtype == COMPRESSED_IMAGE else {
            'height': picture.height, 'width': picture.width, 'encoding': picture.encoding,
            'step': picture.step}
        message = make_message(msgtype, header=header, data=data, **form)
    return serialise(message, msgtype)
