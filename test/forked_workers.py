# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Has the workers of a run begin with all tests collected already.

A worker imports the libraries, rewrites the assertions of all files and asks them for their tests:
14 s of computing time, in each of four. So one process does that, and the workers are forks of it.
What xdist starts instead of a worker is this file, which hands its input and output to the fork
and waits for its end. That one starts within 20 ms: it imports nothing that is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
import os
from pathlib import Path
from select import select
import shlex
import signal
import socket
import sys
import time
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_COLLECT = 'collect'
#: They start threads when they are imported, which a fork would not have: files of tests that
#: import them are imported by each worker.
_NOT_TO_BE_FORKED = ('rclpy', 'onnxruntime')
#: So often is looked whether the run has ended.
_LOOK_SEC = 5.0


class ForksWithoutIt(Exception):
    """Ends an import; no ImportError, which would be taken for a library that is not there."""


class _Refusal:
    """A finder of modules that ends imports of what must not be forked."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Find nothing, and let nobody else find what is refused."""
        if name in _NOT_TO_BE_FORKED:
            raise ForksWithoutIt(name)


def fork_workers(arguments: list[str], folder: Path, specs: list[Any]) -> None:
    """
    Collect the tests in a process of their own, and have xdist take forks of it as workers.

    Parameters
    ----------
    arguments, folder
        With which and where pytest was called.
    specs
        What xdist is going to start; changed.

    """
    from preloaded import EVERY, preloaded, SHARED

    libraries = preloaded({**os.environ, **EVERY})
    # The workers start their processes from the same one.
    os.environ[SHARED] = str(libraries.place)
    place = libraries.place.with_name('workers')
    collecting = libraries.start(
        str(Path(__file__)), [_COLLECT, str(place), str(folder), *arguments],
        {**os.environ, **EVERY}, Path(os.devnull))
    while not place.exists() and collecting.poll() is None:
        time.sleep(0.02)
    for spec in specs:
        if spec.popen and not spec.python:
            spec.python = shlex.join([sys.executable, '-S', '-E', __file__, str(place)])


def _collect(place: str, folder: str, *arguments: str) -> str:
    """Collect tests; then return, in a new process for each worker, the code that it runs."""
    import pytest

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f'{place}.begun')
    listening.listen()
    os.rename(f'{place}.begun', place)
    os.chdir(folder)
    sys.path.insert(0, str(ROOT))
    parent, before = os.getppid(), dict(os.environ)
    # A file that cannot be imported here is imported by the workers, which also say why not.
    sys.meta_path.insert(0, _Refusal)
    pytest.main([*arguments, '--numprocesses=0', '--dist=no', '--collect-only',
                 '-p', 'no:cacheprovider'])
    sys.meta_path.remove(_Refusal)
    # Modules that are imported now set them once.
    added = {name: value for name, value in os.environ.items() if before.get(name) != value}
    while os.getppid() == parent:
        if select([listening], [], [], _LOOK_SEC)[0]:
            asked, _ = listening.accept()
            _, files, _, _ = socket.recv_fds(asked, 1, 3)
            with asked.makefile() as orders:
                folder, environment, code = json.loads(orders.readline())
            if os.fork() == 0:
                listening.close()
                for number, file in enumerate(files):
                    os.dup2(file, number)
                    os.close(file)
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environment | added)
                # Closed by the end of the process: that is what is waited for.
                os.write(asked.detach(), b'1')
                return str(code)
            asked.close()
            for file in files:
                os.close(file)
    os._exit(0)


def _stand_for_a_worker(place: str, *arguments: str) -> None:
    """Have a worker forked and wait for its end; without forks, become a worker."""
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(place)
            socket.send_fds(asking, [b' '], [0, 1, 2])
            asking.sendall(json.dumps(
                [os.getcwd(), dict(os.environ), arguments[-1]]).encode() + b'\n')
            is_there = asking.recv(1)
        except OSError:
            is_there = b''
        if not is_there:
            os.execv(sys.executable, [sys.executable, *arguments])
        # The worker ends when xdist says so or is gone, and this with it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Else nobody would see that the worker has closed them.
        os.close(0)
        os.close(1)
        asking.recv(1)


if __name__ == '__main__':
    if sys.argv[1] == _COLLECT:
        _code = _collect(*sys.argv[2:])
        # As `python -c` has it.
        sys.argv = ['-c']
        # xdist puts others in their place, and without a name they would be closed.
        _files = sys.stdin, sys.stdout, sys.stderr
        _main = sys.modules['__main__'] = ModuleType('__main__')
        exec(_code, _main.__dict__)
    else:
        _stand_for_a_worker(*sys.argv[1:])
