# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A command that is watched from outside: computing time of all its processes, and its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import re
import signal
import subprocess
import tempfile
import time

import numpy as np

_PROC = Path('/proc')
_TICKS_PER_SEC = os.sysconf('SC_CLK_TCK')
#: To look at all processes of a machine takes some milliseconds.
_EVERY_SEC = 0.5


@dataclass(frozen=True)
class Watched:
    """
    What a command took.

    Attributes
    ----------
    begin, end
        Seconds since the epoch.
    at, cpu_sec, part_sec
        When it was looked at, and the computing time until then: of it and all its descendants,
        and of those that were asked for.
    own_cpu_sec
        That of the process itself, at the end.
    peak_mib
        Peak of the resident memory of the process itself, without its descendants.
    output
        What it printed on stdout.

    """

    begin: float
    end: float
    at: Sequence[float]
    cpu_sec: Sequence[float]
    part_sec: Sequence[float]
    own_cpu_sec: float
    peak_mib: float
    output: str

    def cpu_between(self, first: float, last: float, of_part: bool = False) -> float:
        """Return the computing time between two moments, of all or of those asked for."""
        before, after = np.interp(
            (first, last), self.at, self.part_sec if of_part else self.cpu_sec)
        return float(after - before)


def watch(command: Sequence[str], environment: Mapping[str, str], part: str = '') -> Watched:
    """
    Run a command to its end.

    Parameters
    ----------
    part
        Regular expression for the beginning of the names of some processes, as the system has
        them: 15 characters at most.

    Raises
    ------
    RuntimeError
        If it fails, with the end of what it said.

    """
    times: dict[tuple[int, str], float] = {}
    asked: set[tuple[int, str]] = set()
    at, total, of_part, own, peak = [time.time()], [0.0], [0.0], 0.0, 0.0
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as said:
        process = subprocess.Popen(command, stdout=out, stderr=said, env=dict(environment))
        try:
            while process.poll() is None:
                for pid, name, start, seconds in _tree(process.pid):
                    times[pid, start] = seconds
                    if part and re.match(part, name):
                        asked.add((pid, start))
                    own = seconds if pid == process.pid else own
                peak = max(peak, _peak_mib(process.pid))
                at.append(time.time())
                total.append(sum(times.values()))
                of_part.append(sum(times[key] for key in asked))
                time.sleep(_EVERY_SEC)
        finally:
            if process.poll() is None:
                # As with Ctrl-C: it ends its own processes, which a signal to end does not.
                process.send_signal(signal.SIGINT)
                process.wait()
        out.seek(0)
        said.seek(0)
        if process.returncode:
            lines = (said.read() + out.read()).strip().splitlines()
            raise RuntimeError(f'{" ".join(command)} failed: {" ".join(lines[-3:])}')
        return Watched(at[0], at[-1], at, total, of_part, own, peak, out.read())


def _tree(root: int) -> list[tuple[int, str, str, float]]:
    """Return number, name, start and computing time in s of a process and its descendants."""
    parents: dict[int, int] = {}
    found: dict[int, tuple[str, str, float]] = {}
    for path in _PROC.iterdir():
        if not path.name.isdecimal():
            continue
        try:
            # The name of the program, in brackets, may have spaces and brackets.
            head, _, rest = (path / 'stat').read_text(
                encoding='ascii', errors='replace').rpartition(')')
        except OSError:
            continue  # it has ended
        pid, fields = int(path.name), rest.split()
        parents[pid] = int(fields[1])
        seconds = (int(fields[11]) + int(fields[12])) / _TICKS_PER_SEC
        found[pid] = head.partition('(')[2], fields[19], seconds
    below = {root}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return [(pid, *found[pid]) for pid in below if pid in found]


def _peak_mib(pid: int) -> float:
    try:
        status = (_PROC / str(pid) / 'status').read_text(encoding='ascii', errors='replace')
    except OSError:
        return 0.0
    found = re.search(r'^VmHWM:\s+(\d+) kB', status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
