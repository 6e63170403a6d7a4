# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Search the answers of a fleet: words and conditions become SQL, DuckDB does the rest.

A question is a list with commas, every part of which must hold::

    high risk                          risk high
    risk >= medium                     none < low < medium < high; unknown is none of these
    object = cyclist                   a column and a value: = != < <= > >=, or ~ for a pattern
    camera = camera_front              one of the cameras
    latency_ms > 800                   how long the answer took
    after 2026-11-27, before 2026-11-28 08:00
    near 48.137 11.575 200 m           where the recording has places
    pedestrian                         words, or how they begin: all, in any text of the answer
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
import json
from pathlib import Path
import re
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
from pyarrow import parquet

from vts_ros.fleet.answer_tables import (
    ANSWER_COLUMNS,
    ANSWERS,
    FAILURES,
    TIMING_COLUMNS,
    TIMINGS,
    words,
)
from vts_ros.fleet.sources import FleetError

#: In the order of danger; what is unknown has no place in it.
LEVELS = ('none', 'low', 'medium', 'high')
_RISK = '|'.join((*LEVELS, 'unknown'))
#: What is compared with a number, and what with a text.
_NUMBERS = {
    'confidence': 'confidence', 'speed_mps': 'speed_mps',
    'tokens_kept': 'tokens_kept', 'tokens_total': 'tokens_total',
    'answer_tokens': 'answer_tokens', 'latitude': 'latitude', 'longitude': 'longitude',
    'stamp': 'stamp', 'cameras': 'len(cameras)'}
_TEXTS = ('object', 'recording', 'action', 'description', 'explanation', 'model', 'engine')
#: What a table of answers shows; the rest is in the files.
SHOWN = ('recording', 'stamp', 'time', 'risk', 'object', 'explanation', 'description', 'action',
         'confidence')
_LEVEL = f"list_position([{', '.join(repr(level) for level in LEVELS)}], risk)"
_EARTH_M = 6_371_000.0


class Condition(NamedTuple):
    """A condition in SQL, and the values of its question marks."""

    sql: str
    values: tuple[Any, ...] = ()


def conditions(question: str) -> list[Condition]:
    """
    Return what a question asks for, see above.

    Raises
    ------
    FleetError
        If a condition is not understood.

    """
    return [_condition(part.strip()) for part in question.split(',') if part.strip()]


def _condition(part: str) -> Condition:
    for pattern, make in _FORMS:
        match = re.fullmatch(pattern, part, re.IGNORECASE)
        if match:
            return make(*match.groups())
    found = words(part)
    if not found or re.search(r'[<>=~]', part):
        raise FleetError(f'{part!r} is not understood: expected words, a level of risk, or one of '
                         f'{", ".join((*_NUMBERS, *_TEXTS, "latency_ms", "risk", "camera"))} with '
                         '= != < <= > >= or ~ and a value')
    return Condition(' AND '.join(['contains(words, ?)'] * len(found.split())),
                     tuple(f' {word}' for word in found.split()))


def _level(operator: str, level: str) -> Condition:
    if operator in ('=', '!='):
        return Condition(f'risk {operator} ?', (level.lower(),))
    if level.lower() == 'unknown':
        raise FleetError('an unknown risk is neither lower nor higher than others: use risk = '
                         'unknown')
    return Condition(f"risk <> 'unknown' AND {_LEVEL} {operator} ?",
                     (LEVELS.index(level.lower()) + 1,))


def _number(name: str, operator: str, value: str) -> Condition:
    return Condition(f'{_NUMBERS[name.lower()]} {operator} ?', (float(value),))


def _latency(operator: str, value: str) -> Condition:
    return Condition('(recording, stamp) IN (SELECT (recording, stamp) FROM timings WHERE '
                     f'total_ms {operator} ?)', (float(value),))


def _text(name: str, operator: str, value: str) -> Condition:
    if operator == '~':
        return Condition(f'regexp_matches({name.lower()}, ?)', (f'(?i){value}',))
    return Condition(f'{name.lower()} {operator} ?', (value,))


def _camera(operator: str, value: str) -> Condition:
    found = 'list_contains(cameras, ?)'
    return Condition(found if operator == '=' else f'NOT {found}', (value,))


def _time(side: str, value: str) -> Condition:
    operator = '>=' if side.lower() == 'after' else '<'
    try:
        # Python 3.10 does not know that Z is UTC.
        when = datetime.fromisoformat(re.sub('[zZ]$', '+00:00', value.strip()))
    except ValueError as error:
        raise FleetError(f'{value!r} is no time: expected 2026-11-27, 2026-11-28 08:00 or '
                         '2026-11-28T08:00:00+01:00') from error
    utc = when.astimezone(timezone.utc).replace(tzinfo=None) if when.tzinfo else when
    return Condition(f'time {operator} CAST(? AS TIMESTAMP_NS)', (utc.isoformat(),))


def _near(latitude: str, longitude: str, distance: str, unit: str) -> Condition:
    metres = float(distance) * (1000.0 if unit.lower() == 'km' else 1.0)
    return Condition(
        f'2 * {_EARTH_M} * asin(sqrt(pow(sin(radians(latitude - ?) / 2), 2) + '
        'cos(radians(latitude)) * cos(radians(?)) * pow(sin(radians(longitude - ?) / 2), 2)))'
        ' <= ?', (float(latitude), float(latitude), float(longitude), metres))


_NUMBER = r'([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)'
_FORMS: tuple[tuple[str, Any], ...] = (
    (rf'({_RISK})\s+risk', lambda level: _level('=', level)),
    (rf'risk\s+({_RISK})', lambda level: _level('=', level)),
    (rf'risk\s*(=|!=|<=|>=|<|>)\s*({_RISK})', _level),
    (r'(after|before)\s+([\d][\d :.TZ+-]*)', _time),
    (rf'near\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s*(m|km)', _near),
    (r'camera\s*(=|!=)\s*(\S+)', _camera),
    (rf'latency_ms\s*(=|!=|<=|>=|<|>)\s*{_NUMBER}', _latency),
    (rf'({"|".join(_NUMBERS)})\s*(=|!=|<=|>=|<|>)\s*{_NUMBER}', _number),
    (rf'({"|".join(_TEXTS)})\s*(=|!=|~)\s*(.+)', _text),
)


class Fleet:
    """
    The answers of a fleet as tables of DuckDB.

    ``answers`` has the columns of the files and ``time``, ``timings`` how long each took,
    ``failures`` which recordings could not be described, and why.

    Parameters
    ----------
    root
        Folder that ``annotate_fleet`` has written.
    threads
        Of DuckDB; 0 takes all processors.

    Raises
    ------
    FleetError
        If there are no answers.

    """

    def __init__(self, root: Path, threads: int = 0) -> None:
        self.root = root
        if next((root / ANSWERS).glob('*.parquet'), None) is None:
            raise FleetError(f'no answers in {root}: vts fleet annotate SOURCES --out {root}')
        # Nothing is downloaded.
        settings: dict[str, str | bool | int | float | list[str]] = {
            'autoinstall_known_extensions': False, 'autoload_known_extensions': False}
        if threads:
            settings['threads'] = threads
        self._base = duckdb.connect(config=settings)
        files = f"'{_quoted(root / ANSWERS)}/*.parquet'"
        times = f"'{_quoted(root / TIMINGS)}/*.parquet'"
        self.query(
            f'CREATE VIEW timings AS SELECT {_names(TIMING_COLUMNS)} FROM read_parquet({times})')
        self.query(
            f'CREATE VIEW answers AS SELECT {_names(ANSWER_COLUMNS)}, make_timestamp_ns(stamp) AS '
            f'time FROM read_parquet({files})')
        # Written at the end of a run: one that still works, or was killed, has none.
        failures = root / FAILURES
        self.query('CREATE VIEW failures AS ' + (
            f"SELECT recording, reason FROM read_parquet('{_quoted(failures)}')"
            if failures.exists() else "SELECT '' AS recording, '' AS reason WHERE false"))

    def query(self, sql: str, values: tuple[Any, ...] = ()) -> duckdb.DuckDBPyConnection:
        """
        Return the result of a query.

        Raises
        ------
        FleetError
            If it is wrong.

        """
        with _told():
            return self._base.execute(sql, values)

    def table(self, sql: str) -> pa.Table:
        """Return the result of a query as a table of Arrow; errors as of :meth:`query`."""
        with _told():
            return self._base.sql(sql).to_arrow_table()

    def find(self, question: str, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the answers that a question asks for, in the order of recordings and time."""
        where, values = _where(question)
        bound = '' if limit is None else f' LIMIT {limit}'
        return rows(self.query(f'SELECT {", ".join(SHOWN)} FROM answers WHERE {where} '
                               f'ORDER BY recording, stamp{bound}', values))

    def count(self, question: str) -> int:
        """Return the number of answers that match a question."""
        where, values = _where(question)
        found = self.query(f'SELECT count(*) FROM answers WHERE {where}', values).fetchone()
        return int(found[0]) if found else 0

    @property
    def refused(self) -> int:
        """Return the number of answers about pictures that the model does not know."""
        found = self.query('SELECT count_if(NOT in_distribution) FROM answers').fetchone()
        return int(found[0]) if found else 0

    def counters(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield recordings, and what happened to their frames."""
        for path in sorted((self.root / ANSWERS).glob('*.parquet')):
            facts = parquet.read_schema(path).metadata or {}
            yield path.stem, json.loads(facts.get(b'counters', b'{}'))


@contextmanager
def _told() -> Iterator[None]:
    """Turn errors of DuckDB into one line."""
    try:
        yield
    except duckdb.Error as error:
        raise FleetError(f'DuckDB: {" ".join(str(error).split())}') from error


def rows(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Return the rows of a result by the names of their columns."""
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row)) for row in result.fetchall()]


def _where(question: str) -> tuple[str, tuple[Any, ...]]:
    found = conditions(question)
    return (' AND '.join(f'({condition.sql})' for condition in found) or 'true',
            tuple(value for condition in found for value in condition.values))


def _names(schema: Any) -> str:
    return ', '.join(f'"{name}"' for name in schema.names)


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("'", "''")
