# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""That runs of these tests which are on one machine at a time do not meet."""

from __future__ import annotations

from contextlib import ExitStack
import fcntl
from pathlib import Path
import subprocess
import sys

from conftest import Ros
import pytest
import ros_domains
from ros_domains import FIRST_PORT, left_alone, own_domain, PORTS

HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import ros_domains
folder = Path(sys.argv[2])
ros_domains.LOCKS, ros_domains.SHARED_MEMORY = folder / 'locks', folder / 'memory'
ros_domains.DOMAINS = range(1, 3)
with ros_domains.own_domain() as number:
    print(number, flush=True)
    sys.stdin.read()
"""

PARTICIPANT = """
import sys
import rclpy
rclpy.init()
node = rclpy.create_node('somebody')
print('here', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def two_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not those of the machine: others hold them while this runs.
    monkeypatch.setattr(ros_domains, 'LOCKS', tmp_path / 'locks')
    monkeypatch.setattr(ros_domains, 'SHARED_MEMORY', tmp_path / 'memory')
    monkeypatch.setattr(ros_domains, 'DOMAINS', range(1, 3))


@pytest.mark.usefixtures('two_domains')
def test_no_domain_is_held_twice() -> None:
    with own_domain() as first:
        with own_domain() as second:
            assert {first, second} == {1, 2}
            with pytest.raises(AssertionError, match='all ROS domains'), own_domain(0.0):
                pass
        with own_domain() as again:
            assert again == second


@pytest.mark.slow
@pytest.mark.usefixtures('two_domains')
def test_another_process_has_another_domain_until_it_ends(tmp_path: Path) -> None:
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(
            [sys.executable, '-c', HOLDER, str(Path(__file__).parent), str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        held = int(process.stdout.readline())
        mine = stack.enter_context(own_domain())
        assert {held, mine} == {1, 2}
        with pytest.raises(AssertionError, match='all ROS domains'), own_domain(0.0):
            pass
        # Nothing has to be cleared away, however a run ends.
        process.kill()
        process.wait()
        with own_domain(60.0) as number:
            assert number == held


def port_files(domain: int) -> list[Path]:
    """Make what a participant has in shared memory, its port empty as of one that was killed."""
    port = FIRST_PORT + PORTS * domain + 11
    ros_domains.SHARED_MEMORY.mkdir(exist_ok=True)
    files = [ros_domains.SHARED_MEMORY / name for name in (
        f'fastrtps_port{port}', f'fastrtps_port{port}_el', f'sem.fastrtps_port{port}_mutex')]
    for file in files:
        file.touch()
    return files


@pytest.mark.usefixtures('two_domains')
def test_what_was_killed_in_a_domain_is_cleared_away_and_nothing_else() -> None:
    ours, next_one = port_files(1), port_files(2)
    assert left_alone(1)
    assert not any(file.exists() for file in ours)
    assert all(file.exists() for file in next_one)


@pytest.mark.usefixtures('two_domains')
def test_a_domain_that_somebody_is_in_without_holding_it_is_left_to_them() -> None:
    files = port_files(1)
    with files[1].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with own_domain() as number:
            assert number == 2
    assert all(file.exists() for file in files)
    with own_domain() as number:
        assert number == 1


def test_participants_are_seen_and_a_port_of_none_holds_nobody_up(own_ros: Ros) -> None:
    """The files of Fast DDS are as this takes them to be."""
    pytest.importorskip('rclpy')
    assert left_alone(own_ros.domain)
    # As a participant leaves it that is killed between making its file and giving it a size.
    Path('/dev/shm', f'fastrtps_port{FIRST_PORT + PORTS * own_ros.domain + 11}').touch()
    assert left_alone(own_ros.domain)
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(
            [sys.executable, '-c', PARTICIPANT], env=own_ros.env, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == 'here\n'
        assert not left_alone(own_ros.domain)
        process.kill()
        process.wait()
        assert left_alone(own_ros.domain)
