# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`vts compile`, `vts bench engines` and the script in bench/, as their users run them."""

from __future__ import annotations

import json
from pathlib import Path

from bag_maker import drive
from conftest import Process, Ros
from preloaded import run_module
import pytest
from test_cli import vts
from test_engines import WITHOUT_GPU

from vts_ros.engines import EngineError
from vts_ros.engines.engine_cache import EngineCache
from vts_ros.lab.evaluation.engine_precision import compare
from vts_ros.tools.bag_frames import read_windows

# Each test starts processes, which import PyTorch.
pytestmark = pytest.mark.slow

pytest.importorskip('tensorrt_rtx_bindings', reason='pip install "vts_ros[rtx]"')


def test_compile_builds_and_finds_again(tmp_path: Path) -> None:
    command = ('compile', '--target', 'sm86', '--target', 'sm89', '--grid', '4x7', '--size',
               '160x96', '--cache', tmp_path)
    done = vts(*command, timeout_sec=500.0)
    assert done.returncode == 0, done.stderr
    assert 'building frame for sm86 in fp32 with tensorrt_rtx' in done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ['built', graph, target, 'fp32'] for target in ('sm86', 'sm89')
        for graph in ('frame', 'window_by_counting')]
    assert all(Path(line.rpartition(': ')[2]).is_file() for line in lines)
    again = vts(*command, timeout_sec=500.0)
    assert [line.split()[0] for line in again.stdout.splitlines()] == ['found'] * 4
    assert 'building' not in again.stderr


def test_compile_calibrates_int8_with_the_pictures_of_a_bag(tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 24)
    done = vts('compile', '--target', 'sm86', '--grid', '4x7', '--size', '160x96', '--precision',
               'int8', '--calibrate', bag, '--cache', tmp_path / 'cache', timeout_sec=500.0)
    assert done.returncode == 0, done.stderr
    assert 'calibrated ' in done.stdout
    assert 'built frame sm86 int8' in done.stdout
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith('int8 against fp32 on ')
    change = compare('int8', EngineCache(tmp_path / 'cache'), read_windows(bag), (4, 7))
    assert f'{change.windows} windows of the bags: {change.same_tokens:.1%}' in last
    assert change.windows >= 4
    assert 0.6 < change.same_tokens <= 1.0


def test_fp32_changes_nothing(tmp_path: Path) -> None:
    windows = list(read_windows(drive(tmp_path / 'bag', 24)))
    change = compare('fp32', EngineCache(tmp_path), windows, (4, 7))
    assert change == (len(windows), 1.0, len(windows))
    with pytest.raises(EngineError, match='no full window'):
        compare('fp32', EngineCache(tmp_path), [], (4, 7))


@pytest.mark.parametrize(('arguments', 'reason'), [
    (('--target', 'sm87'), 'does not build for sm87'),
    (('--target', 'sm86', '--precision', 'int8'), 'has not been calibrated for int8'),
    (('--backend', 'onnxruntime'), 'needs no build'),
    (('--size', '848'), 'is no size of a picture'),
    (('--target', 'sm86', '--precision', 'int8', '--calibrate', '/nowhere'), '/nowhere does not'),
])
def test_compile_errors_are_one_line(arguments: tuple[str, ...], reason: str, tmp_path: Path
                                     ) -> None:
    done = vts('compile', '--grid', '4x7', '--cache', tmp_path, *arguments)
    assert done.returncode == 1
    line, = done.stderr.strip().splitlines()
    assert line.startswith('vts: ')
    assert reason in line


@WITHOUT_GPU
def test_current_target_without_gpu(tmp_path: Path) -> None:
    done = vts('compile', '--grid', '4x7', '--cache', tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == 'vts: no NVIDIA driver (libcuda.so.1 is not there)'


def test_bench_prints_medians_of_every_engine() -> None:
    done = vts('bench', 'engines', '--runs', 5, '--threads', 1, '--backend', 'onnxruntime',
               '--backend', 'torch', '--backend', 'tensorrt', '--json', timeout_sec=500.0)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result) == {'proposal_ms', 'window_ms', 'while_generating'}
    for part in (result, result['while_generating']):
        for step in ('proposal_ms', 'window_ms'):
            assert set(part[step]) >= {'onnxruntime-cpu', 'torch-cpu'}
            assert all(0.0 < value < 5000.0 for value in part[step].values())
    rates = result['while_generating']['tokens_per_sec']
    assert rates['alone'] > 0.0
    assert rates['onnxruntime-cpu'] > 0.0


# The node

def build_only(ros: Ros, *parameters: str) -> Process:
    given = [word for parameter in ('engine.build_only:=true', *parameters)
             for word in ('-p', parameter)]
    return ros.start('vts_ros.nodes.vts_node', '--ros-args', *given)


@WITHOUT_GPU
def test_node_builds_and_ends(ros: Ros, model: str) -> None:
    node = build_only(ros, 'engine.frame_size:=160x96', 'engine.precision:=fp16',
                      f'vlm.model:={model}')
    assert node.wait(500.0) == 0, node.output
    # What the engines log is in the log of the node.
    assert '[vts_node]: engine: onnxruntime (no GPU: no NVIDIA driver' in node.output
    assert 'loaded: engine onnxruntime-cpu-fp16, engine_choice no GPU' in node.output


@pytest.mark.parametrize(('parameter', 'reason'), [
    ('engine.frame_size:=large', "'large' is no size of a picture"),
    ('engine.precision:=fp8', 'expected one of fp32, fp16, int8')])
def test_node_refuses_what_is_none(ros: Ros, model: str, parameter: str, reason: str) -> None:
    node = build_only(ros, parameter, f'vlm.model:={model}')
    assert node.wait(500.0) == 1
    assert reason in node.output
    assert 'Traceback' not in node.output


@WITHOUT_GPU
def test_gpu_script_says_that_there_is_nothing_to_measure() -> None:
    done = run_module('vts_ros.lab.bench.gpu_engines')
    assert done.returncode == 1
    assert done.stderr.strip() == (
        'nothing to measure: no NVIDIA driver (libcuda.so.1 is not there)')
