# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files, started by launch_testing, which comes with ROS and not from PyPI."""

from __future__ import annotations

import os
from pathlib import Path
import tempfile
from typing import Any
import unittest

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('launch_testing', reason='launch_testing is not in this environment; '
                    'test_launch_cases.py starts the same processes without it')
pytest.importorskip('launch_ros', reason='launch_ros is not in this environment; '
                    'test_launch_cases.py starts the same processes without it')

from ament_index_python.packages import get_package_share_directory, PackageNotFoundError
from car import Car
from conftest import DOMAINS
from launch import LaunchDescription  # type: ignore[attr-defined]
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable
from launch_cases import CASES
import launch_testing
import launch_testing.actions
import launch_testing.asserts

try:
    LAUNCH = Path(get_package_share_directory('vts_ros'), 'launch')
except PackageNotFoundError:
    pytest.skip('vts_ros is not installed in a workspace: colcon build, then source it',
                allow_module_level=True)

DOMAIN = DOMAINS[os.getpid() % len(DOMAINS)]


@pytest.mark.launch_test
@launch_testing.parametrize('case', list(CASES))
def generate_test_description(case: str) -> LaunchDescription:
    """Return the launch file, in a domain of its own."""
    folder = Path(tempfile.mkdtemp(prefix='vts_launch_'))
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    return LaunchDescription([
        SetEnvironmentVariable('ROS_DOMAIN_ID', str(DOMAIN)),
        SetEnvironmentVariable('PYTHONUNBUFFERED', '1'),
        # More threads than cores make everything slower.
        SetEnvironmentVariable('OMP_NUM_THREADS', '1'),
        IncludeLaunchDescription(
            str(LAUNCH / f'{case}.launch.py'),
            launch_arguments=CASES[case].arguments(folder).items()),
        launch_testing.actions.ReadyToTest(),
    ])


class TestRunning(unittest.TestCase):
    """While the nodes run."""

    def test_it_works_together(self, case: str) -> None:
        car = Car(DOMAIN)
        try:
            CASES[case].check(car)
        finally:
            car.close()


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """After SIGINT."""

    def test_all_end_cleanly(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
