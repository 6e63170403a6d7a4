# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A database file of a recording, read as far as it can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
import sqlite3

from vts_ros.errors import BagError
from vts_ros.tools.storages import Topic, warn_once

#: More messages than one damaged page hides; so many are tried for behind it.
_MOST_LOST = 20_000


class SqliteFile:
    """
    A database of rosbag2.

    Where a page of it is damaged, what the others hold is read all the same: the index of the
    times names the messages, and those are read one by one. Without a sound index the table
    itself is searched, message number by message number. What is behind a damaged page that leads
    to others is lost with it.

    Parameters
    ----------
    path
        The file.
    counters
        Where to count ``damaged`` places, and ``truncated`` if the file was cut off.

    Raises
    ------
    BagError
        If it is none, or nothing can be read.

    """

    def __init__(self, path: Path, counters: Counter[str]) -> None:
        self._path, self._counters = path, counters
        self._shared = Path(f'{path}-shm')
        self._had_shared = self._shared.exists()
        #: Time and number of all messages that can be read, once damage was met.
        self._sound: list[tuple[int, int]] | None = None
        self._base = self._connect()
        try:
            self._open_cut_off()
            try:
                counts, (self.start_ns, self.end_ns) = self._count(), self._span()
            except sqlite3.DatabaseError:
                counts, (self.start_ns, self.end_ns) = self._salvage(), self._span()
            if self._sound == []:
                raise sqlite3.DatabaseError('it is damaged, and no message is left')
            self.topics = self._read_topics(counts)
        except sqlite3.Error as error:
            self.close()
            raise BagError(f'{path} cannot be read: {error}') from error

    def messages(self, wanted: Collection[int], since_ns: int = 0
                 ) -> Iterator[tuple[int, int, bytes]]:
        """Yield topic id, receive time and message in the order of time, from some time on."""
        last = (since_ns, -1)
        if self._sound is None:
            places = ','.join('?' * len(wanted))
            try:
                for number, topic, time_ns, data in self._base.execute(
                        'SELECT rowid, topic_id, timestamp, data FROM messages '
                        f'WHERE topic_id IN ({places}) AND timestamp >= ? '
                        'ORDER BY timestamp, rowid', (*wanted, since_ns)):
                    yield topic, time_ns, data
                    last = (time_ns, number)
                return
            except sqlite3.DatabaseError:
                self._salvage()
        for time_ns, number in self._sound or ():
            if (time_ns, number) > last and (row := self._message(number)) and row[0] in wanted:
                yield row[0], time_ns, row[2]

    def close(self) -> None:
        """Close the database, and leave nothing beside it that was not there."""
        self._base.close()
        if not self._had_shared:
            with suppress(OSError):
                self._shared.unlink(missing_ok=True)

    def _open_cut_off(self) -> None:
        """Open a file that is shorter than it says; any other is opened as it is."""
        try:
            self._base.execute('SELECT COUNT(*) FROM sqlite_master').fetchone()
        except sqlite3.DatabaseError:
            # So SQLite does not compare the length with what the file says.
            self._base.execute('PRAGMA writable_schema = ON')
            self._base.execute('SELECT COUNT(*) FROM sqlite_master').fetchone()
            self._counters['truncated'] += 1

    def _count(self) -> Mapping[int, int]:
        """Return the number of messages by topic; only a whole table can be counted."""
        return dict(self._base.execute(
            'SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id'))

    def _span(self) -> tuple[int, int]:
        """Return the times of the first and the last message."""
        if self._sound is not None:
            return (self._sound[0][0], self._sound[-1][0]) if self._sound else (0, 0)
        first, last = (self._base.execute(
            f'SELECT {end}(timestamp) FROM messages').fetchone()[0] for end in ('MIN', 'MAX'))
        return first or 0, last or 0

    def _salvage(self) -> Mapping[int, int]:
        """Find all messages that can be read, and count them by topic."""
        named, is_whole = self._named()
        if not is_whole:
            named |= self._searched()
        counts: Counter[int] = Counter()
        self._sound, places, lost, was_read = [], 0, 0, True
        # Damaged pages also give rows that are none.
        for time_ns, number in sorted(
                row for row in named if list(map(type, row)) == [int, int]):
            row = self._message(number)
            is_read = row is not None and row[1] == time_ns
            if row and is_read:
                self._sound.append((time_ns, number))
                counts[row[0]] += 1
            lost += not is_read
            places += was_read and not is_read
            was_read = is_read
        if not self._counters['truncated']:
            # Where the index is damaged, too, nothing may be known of what is lost.
            self._counters['damaged'] += max(places, 1)
        warn_once(f'{self._path} is damaged: {len(self._sound)} messages can be read'
                  + (f', {lost} cannot' if lost else ''))
        return counts

    def _named(self) -> tuple[set[tuple[int, int]], bool]:
        """Return times and numbers from the index, and whether all of it could be read."""
        found: set[tuple[int, int]] = set()
        for order in ('ASC', 'DESC'):
            try:
                found.update(self._base.execute(
                    'SELECT timestamp, rowid FROM messages INDEXED BY timestamp_idx '
                    f'ORDER BY timestamp {order}'))
            # Also where there is no such index; behind damage it is read from the other end.
            except sqlite3.DatabaseError:
                continue
            return found, True
        return found, False

    def _searched(self) -> set[tuple[int, int]]:
        """Return times and numbers of messages from the table, behind damage as before it."""
        found: set[tuple[int, int]] = set()
        last, tried = -1, 0
        while tried < _MOST_LOST:
            try:
                for row in self._base.execute(
                        'SELECT timestamp, rowid FROM messages NOT INDEXED WHERE rowid > ? '
                        'ORDER BY rowid', (last + tried,)):
                    found.add(row)
                    last, tried = row[1], 0
                break
            except sqlite3.DatabaseError:
                tried += 1
        return found

    def _message(self, number: int) -> tuple[int, int, bytes] | None:
        """Return topic id, time and message, or None where they cannot be read."""
        try:
            row = self._base.execute(
                'SELECT topic_id, timestamp, data FROM messages WHERE rowid = ?',
                (number,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        is_message = row is not None and list(map(type, row)) == [int, int, bytes]
        return row if is_message else None

    def _connect(self) -> sqlite3.Connection:
        log = Path(f'{self._path}-wal')
        if log.exists() and log.stat().st_size:
            # A recorder that was killed leaves its last messages in the log beside the base.
            try:
                base = self._open('mode=ro')
                base.execute('SELECT COUNT(*) FROM sqlite_master').fetchone()
            except sqlite3.Error as error:
                warn_once(f'{self._path}: the last messages are in {log.name}, which cannot be '
                          f'read here ({error}): copy both to a folder that can be written to')
            else:
                return base
        return self._open('immutable=1')

    def _open(self, how: str) -> sqlite3.Connection:
        try:
            # A recording may be opened by one thread and read by another.
            return sqlite3.connect(f'{self._path.absolute().as_uri()}?{how}', uri=True,
                                   check_same_thread=False)
        except sqlite3.Error as error:
            raise BagError(f'{self._path} cannot be read: {error}') from error

    def _read_topics(self, counts: Mapping[int, int]) -> dict[int, Topic]:
        columns = {row[1] for row in self._base.execute('PRAGMA table_info(topics)')}
        qos = 'offered_qos_profiles' if 'offered_qos_profiles' in columns else "''"
        definitions: dict[str, tuple[bytes, str]] = {}
        # Bags of before ROS 2 Iron do not define their messages.
        with suppress(sqlite3.Error):
            definitions = {
                name: (str(text).encode(), language) for name, text, language in
                self._base.execute('SELECT topic_type, encoded_message_definition, encoding '
                                   'FROM message_definitions')}
        return {
            id_: Topic(name, msgtype, serialization, *definitions.get(msgtype, (b'', '')),
                       profiles, counts.get(id_, 0))
            for id_, name, msgtype, serialization, profiles in self._base.execute(
                f'SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id')}
