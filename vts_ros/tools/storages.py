# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The files of a rosbag2 recording, read as far as they can be.

The readers of rosbags and mcap give up at the first thing that they do not understand. A recording
of a car is cut off, damaged in places, or holds topics of other programs; the rest is of use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
import heapq
import io
from itertools import count
import logging
from pathlib import Path
import re
import shutil
from textwrap import shorten
from typing import BinaryIO, NamedTuple, Protocol

from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import breakup_chunk, StreamReader
import zstandard

from vts_ros.errors import BagError

#: What a file has behind its name where all of it is compressed.
ZSTD_SUFFIXES = ('.zstd', '.zst')
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_MCAP_MAGIC = b'\x89MCAP0\r\n'
#: A record begins with its kind and its length.
_RECORD_HEAD = 9
#: A chunk as recorders write it, up to the name of its compression.
_CHUNK = re.compile(rb'\x06.{36}(?:\x00{4}|\x03\x00{3}lz4|\x04\x00{3}zstd)', re.DOTALL)
#: A chunk beside its data and the name of its compression.
_CHUNK_FIELDS = 40
#: What is looked through at a time for the next chunk behind damage.
_BLOCK = 2**24
LONGEST_REASON = 200

LOG = logging.getLogger(__name__)


class Topic(NamedTuple):
    """A topic of one file: what its messages are, and how many."""

    topic: str
    msgtype: str
    #: How messages are serialised: ``cdr`` is what ROS 2 has.
    serialization: str
    #: The definition of the message, and in which language; both may be empty.
    definition: bytes
    language: str
    qos: str
    messages: int


class Storage(Protocol):
    """A file of a recording."""

    #: By an id that messages refer to.
    topics: dict[int, Topic]
    #: Receive time of the first message, and of the last.
    start_ns: int
    end_ns: int

    def messages(self, wanted: Collection[int], since_ns: int = 0
                 ) -> Iterator[tuple[int, int, bytes]]:
        """Yield topic id, receive time and message in the order of time, from some time on."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def one_line(error: BaseException | str) -> str:
    """Return what went wrong, shortened: readers quote what they could not read, in full."""
    return shorten(str(error), LONGEST_REASON, placeholder=' ...') or type(error).__name__


@lru_cache(maxsize=256)
def warn_once(text: str) -> None:
    """Log a warning about a recording once, however often it is opened."""
    LOG.warning('%s', text)


class _Part(NamedTuple):
    """A chunk, or a message outside of all chunks: where it is, when it begins and ends."""

    start_ns: int
    offset: int
    #: Whose messages are there; empty: not known.
    channels: frozenset[int]
    end_ns: int


@dataclass
class _Index:
    """The index of an MCAP file."""

    parts: list[_Part] = field(default_factory=list)
    channels: dict[int, Channel] = field(default_factory=dict)
    schemas: dict[int, Schema] = field(default_factory=dict)
    messages: Counter[int] = field(default_factory=Counter)
    damaged: int = 0
    is_complete: bool = True


class McapFile:
    """
    An MCAP file.

    Without an index it is looked through once; nothing is copied. A chunk that is damaged is left
    out, as is what lies between a damaged record and the next chunk.

    Parameters
    ----------
    path
        The file.
    counters
        Where to count ``damaged`` places, and ``truncated`` if the file was cut off.

    """

    def __init__(self, path: Path, counters: Counter[str]) -> None:
        self._path, self._counters = path, counters
        status = path.stat()
        self._index = _index(path, status.st_size, status.st_mtime_ns)
        counters['damaged'] += self._index.damaged
        counters['truncated'] += not self._index.is_complete
        self.topics = {id_: self._topic(channel) for id_, channel in self._index.channels.items()}
        self.start_ns = min((part.start_ns for part in self._index.parts), default=0)
        self.end_ns = max((part.end_ns for part in self._index.parts), default=0)
        self._stream = path.open('rb')
        self._damaged: set[int] = set()

    def messages(self, wanted: Collection[int], since_ns: int = 0
                 ) -> Iterator[tuple[int, int, bytes]]:
        """Yield channel id, receive time and message in order; chunks before are not read."""
        numbers = count()
        ready: list[tuple[int, int, Message]] = []
        # Chunks may overlap in time: what comes before the next of them is ready.
        for part in sorted(self._index.parts, key=lambda part: part[:2]):
            if part.end_ns < since_ns or (
                    part.channels and part.channels.isdisjoint(wanted)):
                continue
            while ready and ready[0][0] <= part.start_ns:
                yield _of_channel(heapq.heappop(ready)[2])
            try:
                records = _records(self._stream, part.offset)
            except _DAMAGE:
                # Counted once, however often the messages are read.
                self._counters['damaged'] += part.offset not in self._damaged
                self._damaged.add(part.offset)
                continue
            for record in records:
                if (isinstance(record, Message) and record.channel_id in wanted
                        and record.log_time >= since_ns):
                    heapq.heappush(ready, (record.log_time, next(numbers), record))
        while ready:
            yield _of_channel(heapq.heappop(ready)[2])

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _topic(self, channel: Channel) -> Topic:
        schema = self._index.schemas.get(channel.schema_id)
        definition = schema.data if schema else b''
        return Topic(channel.topic, schema.name if schema else '', channel.message_encoding,
                     definition, schema.encoding if schema else '',
                     channel.metadata.get('offered_qos_profiles', ''),
                     self._index.messages[channel.id])


#: What garbled records make of the readers: their own errors, and those of all codecs.
_DAMAGE = Exception


def _of_channel(message: Message) -> tuple[int, int, bytes]:
    return message.channel_id, message.log_time, message.data


@lru_cache(maxsize=16)
def _index(path: Path, size: int, changed_ns: int) -> _Index:
    """Return the index of the file; cached while the file does not change."""
    with path.open('rb') as stream:
        if stream.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
            raise BagError(f'{path} cannot be read: it is no MCAP file')
        with suppress(_DAMAGE):
            if found := _read_index(stream):
                return found
        found = _scan(stream, size)
    if not (found.channels or found.is_complete):
        raise BagError(f'{path} cannot be read: it was cut off before the first message')
    return found


def _read_index(stream: BinaryIO) -> _Index | None:
    summary = SeekingReader(stream).get_summary()
    if not (summary and summary.statistics and summary.chunk_indexes and summary.channels):
        return None
    return _Index(
        [_Part(chunk.message_start_time, chunk.chunk_start_offset,
               frozenset(chunk.message_index_offsets), chunk.message_end_time)
         for chunk in summary.chunk_indexes],
        dict(summary.channels), dict(summary.schemas),
        Counter(summary.statistics.channel_message_counts))


def _scan(stream: BinaryIO, size: int) -> _Index:
    """Find all that can be read, record by record; behind damage, from the next chunk on."""
    found = _Index(is_complete=False)
    offset = len(_MCAP_MAGIC)
    while offset + _RECORD_HEAD <= size:
        stream.seek(offset)
        head = stream.read(_RECORD_HEAD)
        kind, end = head[0], offset + _RECORD_HEAD + int.from_bytes(head[1:], 'little')
        if kind in (Opcode.DATA_END, Opcode.FOOTER) and end <= size:
            found.is_complete = True
            break
        if end > size or not 0 < kind <= max(Opcode):
            # Cut off in this record, or its length is garbled and more comes behind.
            following = _next_chunk(stream, offset + 1, size)
            if following is None:
                break
            found.damaged += 1
            offset = following
            continue
        if kind in (Opcode.CHUNK, Opcode.CHANNEL, Opcode.SCHEMA, Opcode.MESSAGE):
            try:
                _add(found, _records(stream, offset), offset)
            except _DAMAGE:
                found.damaged += 1
                following = _next_chunk(stream, offset + 1, size)
                end = following if kind == Opcode.CHUNK and following else end
        offset = end
    return found


def _add(index: _Index, records: list[McapRecord], offset: int) -> None:
    times, channels = [], set()
    for record in records:
        if isinstance(record, Schema):
            index.schemas.setdefault(record.id, record)
        elif isinstance(record, Channel):
            index.channels.setdefault(record.id, record)
        elif isinstance(record, Message):
            index.messages[record.channel_id] += 1
            times.append(record.log_time)
            channels.add(record.channel_id)
    if times:
        index.parts.append(_Part(min(times), offset, frozenset(channels), max(times)))


def _records(stream: BinaryIO, offset: int) -> list[McapRecord]:
    """Return the record at a place, or those of the chunk there; any error is damage."""
    stream.seek(offset)
    record = next(StreamReader(stream, skip_magic=True, emit_chunks=True).records)
    return breakup_chunk(record, validate_crc=True) if isinstance(record, Chunk) else [record]


def _next_chunk(stream: BinaryIO, offset: int, size: int) -> int | None:
    """Return where the next whole chunk is."""
    while offset < size:
        stream.seek(offset)
        block = stream.read(_BLOCK)
        for match in _CHUNK.finditer(block):
            head = match.group()
            name = len(head) - _RECORD_HEAD - 32
            length = int.from_bytes(head[1:_RECORD_HEAD], 'little')
            begin = offset + match.start()
            stream.seek(begin + len(head))
            data = int.from_bytes(stream.read(8), 'little')
            # Hardly by chance: the length of the record is that of all in it.
            if length == _CHUNK_FIELDS + name + data and begin + length <= size:
                return begin
        # A chunk may begin in this block and show it in the next.
        offset += len(block) if len(block) < _BLOCK else _BLOCK - 64
    return None


def unpack(source: Path, folder: Path) -> Path:
    """
    Unpack a file that is compressed as a whole; return the file in the folder.

    Raises
    ------
    BagError
        If it cannot be unpacked.

    """
    target = folder / source.stem
    try:
        with source.open('rb') as packed, target.open('wb') as whole, \
                zstandard.ZstdDecompressor().stream_reader(
                    packed, read_across_frames=True) as stream:
            shutil.copyfileobj(stream, whole)
    except OSError as error:
        raise BagError(f'{source} cannot be unpacked to {folder}: {error.strerror}; unzstd it '
                       'yourself, or set TMPDIR') from error
    except zstandard.ZstdError as error:
        raise BagError(f'{source} is a damaged zstd file: {error}') from error
    return target


def plain(data: bytes) -> bytes:
    """Return a message as it was before a recorder compressed it; no CDR begins like zstd."""
    if data[:4] != _ZSTD_MAGIC:
        return data
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as stream:
        return stream.read()
