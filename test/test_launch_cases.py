# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the launch files start, started without launch: it works together and ends cleanly."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from car import Car
from conftest import ROOT, Ros
from launch_cases import CASES


@pytest.mark.parametrize('name', CASES)
def test_what_a_launch_file_starts_works_together(
        own_ros: Ros, name: str, tmp_path: Path) -> None:
    car = Car(own_ros.domain)
    try:
        processes = [own_ros.start(module, *arguments)
                     for module, arguments in CASES[name].processes(tmp_path)]
        CASES[name].check(car)
        for process in processes:
            process.interrupt()
        for process in processes:
            assert process.wait(500.0) == 0, process.output
            assert 'Traceback' not in process.output
    finally:
        car.close()


def test_every_launch_file_has_a_case() -> None:
    names = {path.name.removesuffix('.launch.py') for path in (ROOT / 'launch').iterdir()
             if path.suffix == '.py'}
    assert names == set(CASES)
