# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Starts modules as processes that have large libraries loaded already, such as torch.

A node or a command needs four seconds of a core to import them, and the tests start more than a
hundred. So one process imports them and does nothing else; each start is a fork of it, which then
runs its module as `python -m` does: in an own session, with its own output, environment and exit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
import gc
import json
import os
from pathlib import Path
import runpy
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory
import time
from typing import Any, IO

ROOT = Path(__file__).resolve().parents[1]
#: What takes the time. Not ONNX Runtime, which is to be told before it is imported that it sends
#: nothing, and nothing of the package, whose modules are to begin at their beginning.
LOADED = ('torch', 'transformers.modeling_utils', 'matplotlib.axes', 'rosbags.highlevel', 'cv2')
#: Variables that nothing of this reads: the others must be there when it is loaded.
_READ_LATER = ('ROS_', 'RMW_', 'FASTDDS_', 'FASTRTPS_', 'VTS_', 'PYTEST_', 'COLUMNS', 'NO_COLOR',
               'OPENAI_', 'AMENT_', 'RAY_', 'PYTHONIOENCODING')
#: And those by which Python and the loader find modules and libraries.
_PATHS = ('PYTHONPATH', 'LD_LIBRARY_PATH')
#: What every process that is started here has in its environment.
EVERY = {'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1',
         'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def run_module(module: str, *arguments: object, timeout_sec: float = 500.0, **variables: str
               ) -> subprocess.CompletedProcess[str]:
    """
    Run a module to its end, as ``subprocess.run`` does with text.

    Parameters
    ----------
    module, arguments
        As after `python -m`; or the path of a program that ends with ``.py``.
    variables
        Added to the environment.

    """
    env = {**os.environ, **EVERY, **variables}
    with TemporaryDirectory(prefix='vts_test_') as folder:
        output, errors = Path(folder, 'output'), Path(folder, 'errors')
        process = preloaded(env).start(module, list(map(str, arguments)), env, output, errors)
        try:
            code = process.wait(timeout_sec)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(
            [module, *map(str, arguments)], code, output.read_text(errors='replace'),
            errors.read_text(errors='replace'))


def preloaded(env: Mapping[str, str]) -> Preloaded:
    """Return a process from which one with such an environment can be started."""
    return _preloaded(frozenset((name, value) for name, value in env.items()
                                if not name.startswith((*_READ_LATER, *_PATHS))),
                      _loader_path(env))


@lru_cache(maxsize=2)
def _preloaded(env: frozenset[tuple[str, str]], loader_path: str) -> Preloaded:
    return Preloaded({**dict(env), 'LD_LIBRARY_PATH': loader_path,
                      'PYTHONPATH': os.environ.get('PYTHONPATH', '')})


def _loader_path(env: Mapping[str, str]) -> str:
    """
    Return where the loader looks for libraries, with those of the interfaces in any case.

    It is asked when a process begins, and never again. Whether a process has the interfaces is up
    to its PYTHONPATH.
    """
    from interface_builder import installation

    own = str(installation() / 'lib')
    others = env.get('LD_LIBRARY_PATH', '').split(os.pathsep)
    return os.pathsep.join([*[own] * os.path.isdir(own),
                            *(path for path in others if path not in ('', own))])


class Preloaded:
    """
    A process that waits to be forked.

    Parameters
    ----------
    env
        Environment in which it loads; of what it starts, only what is read later may differ.

    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], env=dict(env), cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)

    def start(self, module: str, arguments: list[str], env: Mapping[str, str], log: Path,
              errors: Path | None = None) -> Started:
        """Run a module; what it writes goes to the end of a file, or of two."""
        return Started(self, self.ask('start', module, arguments, dict(env), str(log),
                                      str(errors or log)))

    def ask(self, *order: Any) -> Any:
        """Have it do something, and return what it says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + '\n')
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Started:
    """What was started, with the methods of ``subprocess.Popen``."""

    def __init__(self, parent: Preloaded, pid: int) -> None:
        self._parent, self.pid = parent, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code if it has ended."""
        if self.returncode is None:
            self.returncode = self._parent.ask('poll', self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        begin = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - begin > timeout:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _poll(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _serve(orders: IO[str], answers: IO[str]) -> tuple[str, list[str]]:
    """Do what is ordered; return, in a new process alone, the module to run and its arguments."""
    for order in orders:
        kind, *given = json.loads(order)
        answer = _poll(*given) if kind == 'poll' else os.fork()
        if answer == 0 and kind == 'start':
            return _begin(*given)
        answers.write(json.dumps(answer) + '\n')
        answers.flush()
    sys.exit()


def _begin(module: str, arguments: list[str], env: dict[str, str], log: str,
           errors: str) -> tuple[str, list[str]]:
    os.setsid()
    for number, (path, flags) in enumerate((
            (os.devnull, os.O_RDONLY), (log, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
            (errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT))):
        os.dup2(os.open(path, flags), number)
    before = _folders(os.environ)
    os.environ.clear()
    os.environ.update(env)
    # As Python does it when it begins: behind the folder of what it runs.
    sys.path[1:] = [*_folders(env), *(path for path in sys.path[1:] if path not in before)]
    return module, arguments


def _folders(env: Mapping[str, str]) -> list[str]:
    """Return what is on the PYTHONPATH."""
    return [os.path.abspath(path) for path in env.get('PYTHONPATH', '').split(os.pathsep) if path]


if __name__ == '__main__':
    gc.disable()
    for name in LOADED:
        __import__(name)
    # What is there already stays where it is: a fork that looked through it would copy all of it.
    gc.enable()
    gc.collect()
    gc.freeze()
    # Copies: the first three files are those of what is started.
    chosen, rest = _serve(os.fdopen(os.dup(0)), os.fdopen(os.dup(1), 'w'))
    encoding = os.environ.get('PYTHONIOENCODING')
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(0, encoding=encoding), os.fdopen(1, 'w', buffering=1, encoding=encoding),
        os.fdopen(2, 'w', buffering=1, encoding=encoding, errors='backslashreplace'))
    sys.argv = [chosen, *rest]
    if chosen.endswith('.py'):
        sys.path[0] = str(Path(chosen).parent)
        runpy.run_path(chosen, run_name='__main__')
    else:
        sys.path[0] = str(ROOT)
        runpy.run_module(chosen, run_name='__main__', alter_sys=True)
