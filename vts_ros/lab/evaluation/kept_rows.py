# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What was found of some windows with each method, kept on disk, so that only the rest is done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
import json
from pathlib import Path
from typing import Any

from vts_ros.lab.rivals.registry import Method

#: Of a window: conditions, and what was found with each method at each budget.
Row = dict[str, Any]


def kept_rows(path: Path, methods: Sequence[Method], budgets: Sequence[float],
              make: Callable[[Sequence[Method]], list[Row]], of: str = 'kept') -> list[Row]:
    """
    Return the rows of a file; make what methods or budgets are missing, and write it.

    Parameters
    ----------
    path
        Methods that were fitted, or that look with another network, have files of the same name
        in a folder beside it, by what they have learned from.
    make
        Returns the rows with some methods.
    of
        What of a row is by method and budget.

    """
    parts: dict[Path, list[Method]] = {}
    for method in methods:
        parts.setdefault(path.parent / method.learned_from / path.name, []).append(method)
    others = {part: {method.name for method in methods if method not in some}
              for part, some in parts.items()}
    known: dict[Path, list[Row]] = {part: [
        _without(row, others[part]) for row in json.loads(part.read_text(encoding='utf-8'))]
        for part in parts if part.exists()}
    shares = {f'{ratio:g}' for ratio in budgets}
    missing = [method for part, some in parts.items() for method in some
               if part not in known or not all(
                   shares <= set(row[of].get(method.name, ())) for row in known[part])]
    first = next(iter(known.values()), [])
    rows = make(missing) if missing else first
    if not all(_same_windows(some, rows) for some in known.values()):
        # Of other windows: nothing of it holds.
        known, missing, rows = {}, list(methods), make(methods)
    for part, some in parts.items():
        if any(method in missing for method in some):
            known[part] = [_merged(old, _without(new, others[part])) for old, new in zip(
                known.get(part, [{}] * len(rows)), rows)]
            _write_rows(part, known[part])
    found = known.pop(next(iter(parts)))
    for more in known.values():
        found = [_merged(old, new) for old, new in zip(found, more)]
    return found


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.part')
    partial.write_text(json.dumps(rows), encoding='utf-8')
    partial.replace(path)


def _without(row: Row, methods: Collection[str]) -> Row:
    return {name: {key: inner for key, inner in value.items() if key not in methods}
            if isinstance(value, dict) else value for name, value in row.items()}


def _same_windows(known: Sequence[Row], rows: Sequence[Row]) -> bool:
    """Return whether all that is known of the windows beside methods is the same."""
    return len(known) == len(rows) and all(
        old.get(name) == value for old, new in zip(known, rows)
        for name, value in new.items() if not isinstance(value, dict))


def _merged(old: Row, new: Row) -> Row:
    return {name: {**old.get(name, {}), **value} if isinstance(value, dict) else value
            for name, value in new.items()}
