# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a fleet scales: what is computed from what was measured, and the watch on a command."""

from __future__ import annotations

from datetime import date
import json
import os
from pathlib import Path
import sys
from typing import Any

from conftest import ROOT
import pytest

from vts_ros.errors import VtsError
from vts_ros.lab.bench.fleet_cost import (
    cost,
    DRIVER,
    Driving,
    least_gpu_sec,
    MODEL,
    NETWORK,
    Node,
    PICTURES,
    rates,
    Stages,
    STORE,
    turns,
)
from vts_ros.lab.bench.fleet_scale import (
    measure_scale,
    ScaleSettings,
    stages_of,
    steady,
    WAYS,
)
from vts_ros.lab.bench.fleet_scale_page import section
from vts_ros.lab.bench.watched_process import watch
from vts_ros.lab.cli.fleet_scale_command import SECTION
from vts_ros.lab.evaluation.generated_page import Run, write_section

STAGES = Stages(processor_sec=0.08, driver_sec=0.01)
NODE = Node(gpus=1, processors=8, gbit_per_sec=10.0, store_gbit_per_sec=100.0)
#: 3.6 GB per hour are 8 Mbit/s, and an answer every 0.4 s takes 3.2 Mbit.
DRIVING = Driving(hours=10_000.0, recording_sec=900.0, gb_per_hour=3.6)


def test_rates_of_the_parts() -> None:
    assert DRIVING.answers == pytest.approx(90e6)
    assert DRIVING.bits_per_answer == pytest.approx(3.2e6)
    assert rates(10, 0.5, STAGES, NODE, DRIVING) == pytest.approx({
        MODEL: 20.0, PICTURES: 1000.0, NETWORK: 31250.0, STORE: 31250.0, DRIVER: 225_000.0})


def test_the_bottleneck_moves_from_model_to_processors_to_storage_to_driver() -> None:
    def bottleneck(nodes: int, gpu_sec: float, stages: Stages = STAGES, node: Node = NODE) -> str:
        return cost(nodes, gpu_sec, stages, node, DRIVING).bottleneck

    assert bottleneck(100, 0.5) == MODEL
    # The eight cores of a node make 100 answers a second.
    assert least_gpu_sec(STAGES, NODE, DRIVING) == pytest.approx(0.01)
    assert bottleneck(1, 0.0101) == MODEL
    assert bottleneck(1, 0.0099) == PICTURES
    assert turns(0.001, STAGES, NODE, DRIVING) == pytest.approx({STORE: 312.5, DRIVER: 2250.0})
    assert bottleneck(312, 0.001) == PICTURES
    assert bottleneck(313, 0.001) == STORE
    many = Node(store_gbit_per_sec=1000.0)
    assert bottleneck(2249, 0.001, node=many) == PICTURES
    assert bottleneck(2251, 0.001, node=many) == DRIVER
    assert bottleneck(1, 0.0003, Stages(0.0001, 0.01)) == NETWORK
    assert least_gpu_sec(Stages(0.0001, 0.01), NODE, DRIVING) == pytest.approx(1 / 3125)


def test_hours_and_node_hours() -> None:
    found = cost(10, 0.5, STAGES, NODE, DRIVING)
    assert found.hours == pytest.approx(1250.0)
    assert found.node_hours == pytest.approx(12_500.0)
    assert found.uses[MODEL] == pytest.approx(1.0)
    assert found.uses[PICTURES] == pytest.approx(0.02)
    # Where nodes decide, ten times as many are ten times as fast, for the same node-hours.
    more = cost(100, 0.5, STAGES, NODE, DRIVING)
    assert (more.hours, more.node_hours) == pytest.approx((125.0, 12_500.0))


@pytest.mark.parametrize('workers', [1, 2])
def test_start_and_end_do_not_count_in_the_steady_part(workers: int) -> None:
    """Workers that answer three times a second, the second of which starts later."""
    done = [(100.0 + 0.5 * worker + number, 3) for worker in range(workers)
            for number in range(20)]
    begin, end, answers = steady(done, workers)
    assert answers / (end - begin) == pytest.approx(3.0 * workers, rel=0.03)
    assert begin >= 100.0 + 0.5 * (workers - 1)
    assert end <= 119.0
    with pytest.raises(VtsError, match='too few'):
        steady(done[:2 * workers - 1], workers)


def test_a_watched_command_and_its_children_are_counted() -> None:
    child = 'i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; sleep 1.2'
    program = (f'import subprocess\nheld = bytearray(200 << 20)\n'
               f'subprocess.run(["sh", "-c", {child!r}])\nprint("done")')
    found = watch([sys.executable, '-c', program], os.environ, 'sh$')
    assert found.output == 'done\n'
    # The child is not in its memory.
    assert 200.0 < found.peak_mib < 260.0
    of_child = found.cpu_between(found.begin, found.end, of_part=True)
    assert of_child > 0.1
    assert found.cpu_between(found.begin, found.end) == pytest.approx(
        of_child + found.own_cpu_sec)
    with pytest.raises(RuntimeError, match='no such thing'):
        watch([sys.executable, '-c', 'raise SystemExit("no such thing")'], os.environ)


def test_what_was_measured_is_not_measured_again_and_other_settings_are_refused(
        tmp_path: Path) -> None:
    """All parts are there: nothing is run, and the figures follow from them."""
    settings = ScaleSettings(drives=20, rounds=2, tiny=(100, 1100))
    (tmp_path / 'results').mkdir()
    (tmp_path / 'drives').mkdir()
    for number in range(20):
        (tmp_path / 'drives' / f'drive_{number:04}').mkdir()
    stages = {'read': 10.0, 'guard': 1.0, 'propose': 20.0, 'select': 2.0, 'encode': 50.0,
              'decode': 400.0, 'total': 500.0}

    def keep(name: str, **found: Any) -> None:
        (tmp_path / 'results' / f'{name}.json').write_text(json.dumps(found))

    for number in range(2):
        for way, workers in WAYS.items():
            keep(f'{way}-{number}'.replace(' ', '_'), per_sec=(2.0, 1.9, 3.6)[workers],
                 cpu_sec=0.5 + 0.05 * workers, worker_cpu_sec=0.53,
                 seconds=100.0 / max(workers, 1), start_sec=5.0, stages_ms=stages, load=number)
    keep('memory-100', driver_mib=400.0, driver_cpu_sec=10.0)
    keep('memory-1100', driver_mib=401.0, driver_cpu_sec=11.0)
    result = measure_scale(tmp_path, settings, lambda *_: None)
    assert result['efficiency']['2 workers'] == {
        'wall': pytest.approx([0.9, 0.9]), 'cpu': pytest.approx([0.5 / 0.6] * 2),
        'whole': pytest.approx([1.0, 1.0])}
    assert result['stages_ms'] == pytest.approx({
        'read': 10.0, 'guard': 1.0, 'propose': 20.0, 'select': 2.0, 'language model': 467.0,
        'beside': 30.0})
    assert result['ray_cores'] == pytest.approx(0.5 * (0.02 * 1.9 + 0.07 * 3.6))
    assert stages_of(result) == pytest.approx(Stages(0.063, 0.01))
    run = Run('vts fleet scale', date(2026, 11, 27), 'a machine', 60.0)
    # As it is read back from a file.
    lines = list(section(json.loads(json.dumps(result)), [500.0, 1.0], NODE, DRIVING, run))
    text = '\n'.join(lines)
    assert '| 2 workers | 3.60 | 0.90 [0.90, 0.90] | 0.83 [0.83, 0.83] | 5 s | 1.00' in text
    assert 'at least 0.90 (goal: 0.9): met' in text
    assert 'of the run before: at most 1.0.' in text
    assert '400 MiB at most with 100 recordings, 401 MiB with 1,100: +1.0 MiB, or 1.0 KiB' in text
    assert ('| 500 ms | 12,500 h (12,500 node-hours) | 1,250 h (12,500 node-hours) | 125 h '
            '(12,500 node-hours) | language model |') in text
    # Eight cores at 63 ms: 127 answers a second.
    assert '| 1 ms | 197 h (197 node-hours) |' in text
    page = tmp_path / 'fleet.md'
    page.write_text((ROOT / 'docs' / 'fleet.md').read_text())
    assert '| 2 workers | 3.60 |' in write_section(page, SECTION, lines).read_text()
    with pytest.raises(VtsError, match='other settings'):
        measure_scale(tmp_path, ScaleSettings(drives=40), lambda *_: None)
