# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Starts modules as processes that have large libraries loaded already, such as torch.

A node or a command needs four seconds of a core to import them, and the tests start more than a
hundred. So one process imports them and does nothing else; each start is a fork of it, which then
runs its module as `python -m` does: in an own session, with its own output, environment and exit.
The workers of a run share one such process (`forked_workers.py`).
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from contextlib import suppress
import ctypes
from functools import lru_cache
import gc
from hashlib import sha256
import json
import os
from pathlib import Path
import runpy
from select import select
import signal
import socket
import subprocess
import sys
from tempfile import gettempdir, TemporaryDirectory
import time
from typing import Any
import weakref

ROOT = Path(__file__).resolve().parents[1]
#: What takes the time. Not ONNX Runtime, which is to be told before it is imported that it sends
#: nothing, and nothing of the package, whose modules are to begin at their beginning.
LOADED = (
    'torch', 'transformers.models.auto.modeling_auto', 'transformers.generation.utils',
    'transformers.models.qwen3_vl.modeling_qwen3_vl', 'tokenizers', 'matplotlib.figure',
    'mpl_toolkits.mplot3d', 'rosbags.highlevel', 'rosbags.typesys.stores.ros2_jazzy',
    'mcap.reader', 'cv2', 'av', 'onnx', 'pydantic', 'rich.console', 'rich.live', 'typer',
    'PIL.ImageDraw', 'PIL.JpegImagePlugin', 'json_repair', 'openai', 'jinja2')
#: Variables that nothing of this reads: the others must be there when it is loaded.
_READ_LATER = ('ROS_', 'RMW_', 'FASTDDS_', 'FASTRTPS_', 'VTS_', 'PYTEST_', 'COLUMNS', 'LINES',
               'NO_COLOR', 'OPENAI_', 'AMENT_', 'RAY_', 'DEMO_', 'ORT_', 'KINETO_',
               'PYTHONIOENCODING', 'PYTHONBREAKPOINT', 'TORCHINDUCTOR_',
               # What a training sets for the processes that it starts, which a fork is not.
               'MALLOC_')
#: And those by which Python and the loader find modules and libraries.
_PATHS = ('PYTHONPATH', 'LD_LIBRARY_PATH')
_LONGEST_FOLDER = 60
#: Variable with the socket of the process that all workers of a run share.
SHARED = 'VTS_TEST_PRELOADED'
#: What every process that is started here has in its environment.
EVERY = {'OMP_NUM_THREADS': '1', 'GOMP_SPINCOUNT': '1000', 'PYTHONUNBUFFERED': '1',
         'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def run_module(module: str, *arguments: object, timeout_sec: float = 500.0, folder: Path = ROOT,
               **variables: str) -> subprocess.CompletedProcess[str]:
    """
    Run a module to its end, as ``subprocess.run`` does with text.

    Parameters
    ----------
    module, arguments
        As after `python -m`; or the path of a program that ends with ``.py``.
    folder
        In which it runs.
    variables
        Added to the environment.

    """
    env = {**os.environ, **EVERY, **variables}
    with TemporaryDirectory(prefix='vts_test_') as logs:
        output, errors = Path(logs, 'output'), Path(logs, 'errors')
        process = preloaded(env).start(module, list(map(str, arguments)), env, output, errors,
                                       folder)
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
    # What loads with another environment has another name.
    name = sha256(repr((sorted(env), loader_path)).encode()).hexdigest()[:16]
    shared = Path(os.environ.get(SHARED, ''))
    if shared.name == name:
        return Preloaded(shared)
    return Loading({**dict(env), 'LD_LIBRARY_PATH': loader_path,
                    'PYTHONPATH': os.environ.get('PYTHONPATH', '')}, name)


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
    place
        Path of the socket at which it is asked.

    """

    def __init__(self, place: Path) -> None:
        self.place = place

    def start(self, module: str, arguments: list[str], env: Mapping[str, str], log: Path,
              errors: Path | None = None, folder: Path = ROOT) -> Started:
        """Run a module; what it writes goes to the end of a file, or of two."""
        return Started(self, self.ask('start', module, arguments, dict(env), str(log),
                                      str(errors or log), str(folder)))

    def ask(self, *order: Any) -> Any:
        """Have it do something, and return what it says."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.place))
            asking.sendall(json.dumps(order).encode() + b'\n')
            with asking.makefile() as said:
                return json.loads(said.readline())


class Loading(Preloaded):
    """
    One that is started here, and ends with this process.

    Parameters
    ----------
    env
        Environment in which it loads; of what it starts, only what is read later may differ.
    name
        Of its socket.

    """

    def __init__(self, env: Mapping[str, str], name: str) -> None:
        # Paths of sockets may have about a hundred characters.
        self._folder = TemporaryDirectory(
            prefix='vts_test_', dir='/tmp' if len(gettempdir()) > _LONGEST_FOLDER else None)
        super().__init__(Path(self._folder.name, name))
        # What is asked before all is loaded waits.
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.place))
            listening.listen()
            # It ends when there is nobody any more who could write to it.
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__)), str(listening.fileno())], env=dict(env),
                cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True,
                pass_fds=[listening.fileno()])


class Started:
    """What was started, with the methods of ``subprocess.Popen``."""

    def __init__(self, parent: Preloaded, pid: int) -> None:
        self._parent, self.pid = parent, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code if it has ended."""
        if self.returncode is None and self._ends_within(0.0):
            self.returncode = self._parent.ask('poll', self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        begin = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - begin > timeout:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self._ends_within(None if timeout is None else begin + timeout - time.monotonic())
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _ends_within(self, seconds: float | None) -> bool:
        """Return whether it ends; its parent is not to be asked again and again."""
        file = os.pidfd_open(self.pid)
        try:
            return bool(select([file], [], [], None if seconds is None else max(seconds, 0.0))[0])
        finally:
            os.close(file)


def _poll(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _serve(listening: socket.socket) -> tuple[str, list[str]]:
    """Do what is ordered; return, in a new process alone, the module to run and its arguments."""
    waited_for: list[Any] = [0, listening]
    while listening in select(waited_for, [], [])[0]:
        # Who asked may be gone by now.
        with suppress(OSError, ValueError), listening.accept()[0] as asked:
            with asked.makefile() as orders:
                kind, *given = json.loads(orders.readline())
            answer = _poll(*given) if kind == 'poll' else os.fork()
            if answer == 0 and kind == 'start':
                listening.close()
                return _begin(*given)
            asked.sendall(json.dumps(answer).encode() + b'\n')
    sys.exit()


def _begin(module: str, arguments: list[str], env: dict[str, str], log: str,
           errors: str, folder: str) -> tuple[str, list[str]]:
    os.setsid()
    os.chdir(folder)
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


def _keep(modules: Mapping[str, object]) -> None:
    """
    Have Python end without clearing away what has been loaded for all.

    A fork would copy nearly all of it, only to give it back. What it has imported itself is
    cleared away as always, and handlers of the end have run before.
    """
    for name, module in modules.items():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _keep_in_c() -> None:
    """
    Have the C library do so as well, which runs the handlers of its libraries last.

    What is loaded from now on has its handlers run before this is the end.
    """
    libc = ctypes.CDLL(None)
    # These get the exit code, and a null pointer that stands for all open files.
    libc.on_exit(libc._exit, None)
    libc.__cxa_atexit(libc.fflush, None, None)


def _folders(env: Mapping[str, str]) -> list[str]:
    """Return what is on the PYTHONPATH."""
    return [os.path.abspath(path) for path in env.get('PYTHONPATH', '').split(os.pathsep) if path]


if __name__ == '__main__':
    gc.disable()
    kept: dict[str, object] = {}
    # The first that is registered runs last.
    atexit.register(_keep, kept)
    for name in LOADED:
        # Some are extras, and what needs them says so.
        with suppress(ImportError):
            __import__(name)
    # What is there already stays where it is: a fork that looked through it would copy all of it.
    gc.enable()
    gc.collect()
    gc.freeze()
    kept |= {name: module for name, module in sys.modules.items()
             if name not in ('builtins', 'sys', '__main__')}
    # PyTorch would take its operators out of its tables.
    for known in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        known.atexit = False
    _keep_in_c()
    chosen, rest = _serve(socket.socket(fileno=int(sys.argv[1])))
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
