# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What tests share: drawn examples, and real processes in ROS domains of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
import gc
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from forked_workers import fork_workers
from hypothesis import HealthCheck, settings
from preloaded import EVERY, preloaded, Started
import pytest
from ros_domains import own_domain

ROOT = Path(__file__).resolve().parents[1]
#: Workers take whole files: what takes minutes is begun first, so that none is left at the end.
LONGEST = (
    'test_live_page', 'test_fleet', 'test_vlm_annotate', 'test_bench', 'test_node', 'test_scores',
    'test_traffic', 'test_adapter_training', 'test_distill', 'test_node_video', 'test_training',
    'test_soundtracks', 'test_causal', 'test_sound_sources', 'test_guard',
    'test_empty_environment', 'test_node_cameras', 'test_sparsify', 'test_cli', 'test_compile',
    'test_node_promises', 'test_speaking', 'test_drives', 'test_annotate', 'test_annotate_ends',
    'test_demo', 'test_node_sound', 'test_quality', 'test_replay', 'test_typed_interfaces',
    'test_examples')
#: How long a process has to end by itself at the end of a test.
END_SEC = 30.0

#: The same examples in every run, whatever the machine and however busy it is: a failure is
#: the fault of the change. `VTS_HYPOTHESIS=random` (`make fuzz`) draws others, and more of them.
settings.register_profile(
    'ci', derandomize=True, deadline=None, max_examples=200, database=None, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    'random', derandomize=False, deadline=None, max_examples=2000, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get('VTS_HYPOTHESIS', 'ci'))


# All that is imported while tests are collected stays: to look for garbage in it takes seconds.
gc.disable()


# A run in the background of a shell ignores interrupts, and so would all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Process:
    """A Python module that runs as a process; its output goes to a file."""

    def __init__(self, module: str, arguments: list[str], env: Mapping[str, str]) -> None:
        with tempfile.NamedTemporaryFile(prefix='vts_test_', suffix='.log', delete=False) as log:
            self._log = Path(log.name)
            self._process: subprocess.Popen[bytes] | Started
            if module.startswith('vts_ros.'):
                env = {**env, **EVERY}
                self._process = preloaded(env).start(module, arguments, env, self._log)
            else:
                self._process = subprocess.Popen(
                    [sys.executable, '-m', module, *arguments], env=dict(env), cwd=ROOT,
                    stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

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

    def wait_for_output(self, text: str, timeout_sec: float = 500.0) -> None:
        """Wait until it has written the text."""
        deadline = time.monotonic() + timeout_sec
        while text not in self.output:
            assert self._process.poll() is None, f'ended before {text!r}:\n{self.output}'
            assert time.monotonic() < deadline, f'no {text!r} in:\n{self.output}'
            time.sleep(0.05)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> None:
        """
        Have it end by itself if it does, so that it leaves nothing in shared memory.

        One that is killed while it makes a port leaves it so that others wait at it for ever.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SEC)
        self.kill()

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
        self.env = {**os.environ, 'ROS_DOMAIN_ID': str(domain), **EVERY}
        self._processes: list[Process] = []
        # The test itself is a participant of the domain as well.
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'

    def start(self, module: str, *arguments: str) -> Process:
        """Start a module of Python as a process."""
        process = Process(module, list(arguments), self.env)
        self._processes.append(process)
        return process

    def end_all(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.interrupt(signal.SIGTERM)
        for process in self._processes:
            process.end()


@contextmanager
def _own_ros() -> Iterator[Ros]:
    with own_domain() as number:
        domain = Ros(number)
        try:
            yield domain
        finally:
            domain.end_all()


@pytest.fixture(scope='module', autouse=True)
def threads_as_before() -> Iterator[None]:
    """Have as many threads of PyTorch in the next file as in this one, whatever tests set.

    On cores with other work they wait for each other, and do so by spinning: two take six times
    the computing time of one.
    """
    torch = sys.modules.get('torch')
    before = torch.get_num_threads() if torch else 0
    yield
    if torch:
        torch.set_num_threads(before)


@pytest.fixture(scope='module')
def ros() -> Iterator[Ros]:
    """Return a domain for one test module, that nobody else on this machine uses."""
    with _own_ros() as domain:
        yield domain


@pytest.fixture
def own_ros() -> Iterator[Ros]:
    """Return a domain for one test alone, that nobody else on this machine uses."""
    with _own_ros() as domain:
        yield domain


@pytest.fixture(scope='session')
def built() -> dict[str, str]:
    """Return the environment of a process that finds the messages of others; they are here, too.

    The first build takes minutes on a busy machine, and later ones none.
    """
    from interface_builder import CannotBuildError, environment, prefix, use_here

    try:
        place = prefix()
    except CannotBuildError as reason:
        # Where they must be there, as in continuous integration, that is no way out.
        if 'VTS_REQUIRE_INTERFACES' in os.environ:
            raise
        pytest.skip(str(reason))
    if place is None:
        return {}
    use_here(place)
    return environment(place)


@pytest.fixture(scope='session')
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the shipped checkpoint, or one of its kind that is not trained."""
    if (ROOT / 'models' / 'embedded').is_dir():
        return 'embedded'
    from vts_ros.lab.training.new_checkpoint import create_checkpoint
    directory = tmp_path_factory.mktemp('models') / 'tiny'
    create_checkpoint(directory, ['a car ahead', 'brake'], vocab_size=600)
    return str(directory)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Have all workers begin with what each of them would do alike."""
    fork_workers(list(config.invocation_params.args), config.invocation_params.dir, specs)


def pytest_collection_finish() -> None:
    """Look for garbage in what comes from now on, and not in all that modules hold."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by what it asks for, and have the longest files run first."""
    for item in items:
        # A domain is asked for by who starts processes in it.
        if {'ros', 'own_ros'} & set(getattr(item, 'fixturenames', ())):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: (
        LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST),
        item.path not in slow))
