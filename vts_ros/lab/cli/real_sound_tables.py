# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of ``eval sound --real``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TYPE_CHECKING

from vts_ros.sound.sound_events import KINDS

if TYPE_CHECKING:
    from rich.table import Table


def real_tables(result: dict[str, Any]) -> Iterator[Table | str]:
    """Yield what a result says, in words and tables."""
    from rich.table import Table

    if result['missing']:
        yield f'missing: {" ".join(result["missing"])}'
    table = Table('', 'files', 'hours', *KINDS, 'files with an event',
                  title=f'false alarms per hour in real sound without warnings, '
                        f'{result["split"]}')
    for name, row in (('all', result['all']), *result['by_kind'].items(),
                      *result['by_package'].items()):
        table.add_row(name, str(row['files']), f'{row["hours"]:.2f}',
                      *(f'{row["per_hour"][kind]:.1f}' for kind in KINDS),
                      f'{row["share_of_files"]:.3f}')
    yield table
    table = Table('', 'files', 'named', 'named as well', title='real warnings and impacts')
    for kind, row in result['warnings'].items():
        others = ', '.join(f'{other} {count}' for other, count in row['others'].items())
        table.add_row(kind, str(row['n']), str(row['named']), others or '-')
    yield table
    if result['sirens']:
        conditions = list(result['sirens'][0]['after_sec'])
        table = Table('', 'seconds', *conditions,
                      title='real sirens, alone and over traffic: named after (s)')
        for row in result['sirens']:
            table.add_row(f'{row["package"]} {row["path"].rpartition("/")[2]}',
                          f'{row["seconds"]:.1f}', *(
                              '-' if after is None else f'{after:.1f}'
                              for after in row['after_sec'].values()))
        yield table
    if result['split'] == 'val':
        table = Table('mean', 'over steps', 'false alarms per hour', 'files with',
                      'sirens alone', 'alone and over traffic', title='thresholds of a siren')
        for row in result['thresholds']:
            table.add_row(f'{row["on"]}', str(row['steps']), f'{row["per_hour"]:.1f}',
                          str(row['files_with']), f'{row["alone"]}/{len(result["sirens"])}',
                          f'{row["named"]}/{row["of"]}')
        yield table
