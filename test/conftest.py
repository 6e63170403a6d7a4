# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Real processes on real DDS, each test or test module in a ROS domain of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import tempfile
import time

from hypothesis import settings
import pytest

#: The same examples in every run; VTS_HYPOTHESIS=random draws new ones, for a job of its own.
settings.register_profile('fixed', derandomize=True, deadline=None)
settings.register_profile('random', deadline=None, print_blob=True)
settings.load_profile(os.environ.get('VTS_HYPOTHESIS', 'fixed'))

# A run in the background of a shell ignores interrupts, and so would all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
#: Domain ids above 101 collide with the ephemeral ports of Linux.
DOMAINS = range(1, 102)


class Process:
    """A Python module that runs as a process; its output goes to a file."""

    def __init__(self, module: str, arguments: list[str], env: Mapping[str, str]) -> None:
        with tempfile.NamedTemporaryFile(prefix='vts_test_', suffix='.log', delete=False) as log:
            self._log = Path(log.name)
            self._process = subprocess.Popen(
                [sys.executable, '-m', module, *arguments], env=dict(env), cwd=ROOT, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Return what it has written so far."""
        return self._log.read_text(errors='replace')

    def wait(self, timeout_sec: float) -> int:
        """Wait for its end and return the exit code."""
        return self._process.wait(timeout_sec)

    def wait_for_output(self, text: str, timeout_sec: float = 200.0) -> None:
        """Wait until it has written the text."""
        deadline = time.monotonic() + timeout_sec
        while text not in self.output:
            assert self._process.poll() is None, f'ended before {text!r}:\n{self.output}'
            assert time.monotonic() < deadline, f'no {text!r} in:\n{self.output}'
            time.sleep(0.05)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it whatever happened, with all that it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.unlink(missing_ok=True)


class Ros:
    """A ROS domain: environment of its processes, and their end."""

    def __init__(self, domain: int) -> None:
        self.domain = domain
        self.env = {
            **os.environ,
            'ROS_DOMAIN_ID': str(domain),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'OMP_NUM_THREADS': '1',
            'PYTHONUNBUFFERED': '1',
        }
        self._processes: list[Process] = []
        # The test itself is a participant of the domain as well.
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'

    def start(self, module: str, *arguments: str) -> Process:
        """Start a module of Python as a process."""
        process = Process(module, list(arguments), self.env)
        self._processes.append(process)
        return process

    def kill_all(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.kill()


#: Modules whose tests start processes, train, render much or build: not for `make check`.
SLOW = {
    'test_annotate', 'test_annotate_ends', 'test_bench', 'test_benchmarks', 'test_cli',
    'test_compile', 'test_composite', 'test_demo', 'test_distill', 'test_engines_tensorrt',
    'test_examples', 'test_guard', 'test_networks', 'test_package', 'test_quality', 'test_replay',
    'test_engines_cache', 'test_language', 'test_scenes', 'test_traffic', 'test_training',
    'test_vlm_annotate', 'test_vlm_families'}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what is in such a module, or has a ROS domain and so a node."""
    for item in items:
        fixtures = set(getattr(item, 'fixturenames', ()))
        if item.path.stem in SLOW or fixtures & {'ros', 'own_ros'}:
            item.add_marker(pytest.mark.slow)


@contextmanager
def _domain() -> Iterator[Ros]:
    """Hold a domain that no other test on this machine has: a locked file each."""
    folder = Path(tempfile.gettempdir()) / 'vts_ros_domains'
    folder.mkdir(exist_ok=True)
    while True:
        # Not from the first one on: what has just ended there may still be leaving.
        for number in random.sample(DOMAINS, len(DOMAINS)):
            with (folder / str(number)).open('w') as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                domain = Ros(number)
                try:
                    yield domain
                finally:
                    domain.kill_all()
                return
        time.sleep(1.0)


@pytest.fixture(scope='module')
def ros() -> Iterator[Ros]:
    """Return a domain that no other test module and no other run on this machine uses."""
    with _domain() as domain:
        yield domain


@pytest.fixture
def own_ros() -> Iterator[Ros]:
    """Return a domain for one test alone, another one than that of its module."""
    with _domain() as domain:
        yield domain


@pytest.fixture(scope='session')
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the shipped checkpoint, or one of its kind that is not trained."""
    if (ROOT / 'models' / 'embedded').is_dir():
        return 'embedded'
    from vts_ros.lab.training.new_checkpoint import create_checkpoint
    directory = tmp_path_factory.mktemp('models') / 'tiny'
    create_checkpoint(directory, ['a car ahead', 'brake'], vocab_size=600)
    return str(directory)
