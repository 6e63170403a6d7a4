# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files, started by launch, which comes with ROS and not from PyPI."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest

pytest.importorskip('rclpy')

from car import Car
from conftest import Ros
from launch_cases import CASES

#: What `ros2 launch` does with a file and arguments.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription, SetLaunchConfiguration
file, *given = sys.argv[1:]
service = LaunchService(noninteractive=True)
# After 5 seconds launch would end by force what it has interrupted.
patience = [SetLaunchConfiguration(name, '300') for name in ('sigterm_timeout', 'sigkill_timeout')]
service.include_launch_description(LaunchDescription([*patience, IncludeLaunchDescription(
    file, launch_arguments=[tuple(one.split(':=', 1)) for one in given])]))
sys.exit(service.run())
"""


@pytest.fixture
def folder() -> Path:
    """Return where the launch files are installed; skip where they or launch are not."""
    # Here and not at the top: a module that is skipped while launch's own plugin of pytest looks
    # at it ends the whole collection.
    reason = 'test_launch_files.py and test_launch_cases.py test the same without it'
    pytest.importorskip('launch', reason=f'launch is not in this environment; {reason}')
    pytest.importorskip('launch_ros', reason=f'launch_ros is not in this environment; {reason}')
    from ament_index_python.packages import get_package_share_directory, PackageNotFoundError

    try:
        return Path(get_package_share_directory('vts_ros'), 'launch')
    except PackageNotFoundError:
        pytest.skip('vts_ros is not installed in a workspace: colcon build, then source it')


@pytest.fixture
def car(own_ros: Ros, folder: Path) -> Iterator[Car]:
    """Return the other side of the nodes."""
    side = Car(own_ros.domain)
    yield side
    side.close()


@pytest.mark.parametrize('name', CASES)
def test_a_launch_file_works(own_ros: Ros, folder: Path, car: Car, name: str, tmp_path: Path
                             ) -> None:
    arguments = [f'{key}:={value}' for key, value in CASES[name].arguments(tmp_path).items()]
    log = tmp_path / 'launch.log'
    with log.open('w') as output:
        process = subprocess.Popen(
            [sys.executable, '-c', LAUNCH, str(folder / f'{name}.launch.py'), *arguments],
            env=own_ros.env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            CASES[name].check(car)
            process.send_signal(signal.SIGINT)
            assert process.wait(500.0) == 0, log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    assert 'Traceback' not in log.read_text()
    assert 'process has died' not in log.read_text()
