# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engines and the places of models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import json
import os
from pathlib import Path
import re
import subprocess
import sys

from conftest import ROOT
import numpy as np
import onnx
from onnx import helper, TensorProto
import onnxruntime
from preloaded import run_module
import pytest
import torch
from torch import nn, Tensor

from vts_ros.engines import (
    BACKENDS,
    choose,
    EngineError,
    EngineOptions,
    gpu,
    make_engine,
    OnnxRuntimeEngine,
)
from vts_ros.engines.backends import ON_GPU
from vts_ros.engines.onnx_graph import load_graph, store_int8
from vts_ros.engines.torch_engine import TorchEngine
from vts_ros.paths import model_path
from vts_ros.sparsify.compiled_steps import FRAME, make_engines, picture_size


def has_gpu() -> bool:
    try:
        gpu.find_gpu()
    except EngineError:
        return False
    return True


WITHOUT_GPU = pytest.mark.skipif(has_gpu(), reason='about machines without a GPU')


class SumAndProduct(nn.Module):
    """Two outputs, so that a mix-up shows."""

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left + right, left * right


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Return the file of a graph that does the same as ``SumAndProduct``."""
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ['n'])
              for name in ('left', 'right', 'sum', 'product')}
    model = helper.make_model(helper.make_graph(
        [helper.make_node('Add', ['left', 'right'], ['sum']),
         helper.make_node('Mul', ['left', 'right'], ['product'])],
        'test', [values['left'], values['right']], [values['sum'], values['product']]),
        opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    helper.set_model_props(model, {'project': 'vts_ros'})
    onnx.save(model, tmp_path / 'graph.onnx')
    return tmp_path / 'graph.onnx'


def test_engines_return_outputs_by_name(graph: Path) -> None:
    engines = [make_engine('onnxruntime', graph, threads=1),
               TorchEngine(SumAndProduct(), ['left', 'right'], ['sum', 'product'])]
    inputs = {'right': np.array([4, 5], np.float32), 'left': np.array([2, 3], np.float32)}
    for engine in engines:
        found = engine.run(inputs)
        assert list(found) == ['sum', 'product']
        np.testing.assert_array_equal(found['sum'], [6, 8])
        np.testing.assert_array_equal(found['product'], [8, 15])
    assert [engine.name for engine in engines] == ['onnxruntime-cpu', 'torch-cpu']


def test_read_only_and_strided_inputs_are_taken(graph: Path) -> None:
    ramp = np.arange(8, dtype=np.float32)
    ramp.setflags(write=False)
    for engine in (make_engine('onnxruntime', graph),
                   TorchEngine(SumAndProduct(), ['left', 'right'], ['sum', 'product'])):
        found = engine.run({'left': ramp[::2], 'right': ramp[::-2]})
        np.testing.assert_array_equal(found['sum'], [7, 7, 7, 7])


def test_wrong_inputs_are_one_line(graph: Path) -> None:
    good = np.array([1, 2], np.float32)
    for engine in (make_engine('onnxruntime', graph),
                   TorchEngine(SumAndProduct(), ['left', 'right'], ['sum', 'product'])):
        for inputs in ({'left': good}, {'left': good, 'right': np.array([1, 2, 3], np.float32)},
                       {'left': good, 'right': good, 'more': good}):
            with pytest.raises(EngineError, match=f'{engine.name} failed: .+') as caught:
                engine.run(inputs)
            assert '\n' not in str(caught.value)


def test_metadata_is_read(graph: Path) -> None:
    assert OnnxRuntimeEngine(graph).metadata == {'project': 'vts_ros'}


def test_threads_are_set_and_do_not_spin(graph: Path) -> None:
    session = OnnxRuntimeEngine(graph, threads=1)._session
    options = session.get_session_options()
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry('session.intra_op.allow_spinning') == '0'


def test_engine_runs_in_several_threads(graph: Path) -> None:
    engine = make_engine('onnxruntime', graph, threads=1)

    def add(number: int) -> float:
        value = np.full(1000, number, np.float32)
        return float(engine.run({'left': value, 'right': value})['sum'].mean())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(add, range(50))) == [2.0 * number for number in range(50)]


def test_unknown_backend() -> None:
    with pytest.raises(EngineError, match="unknown engine 'abacus', expected one of auto, tensor"):
        make_engine('abacus', 'graph.onnx')


@pytest.mark.parametrize('backend', list(BACKENDS))
def test_missing_file(backend: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r'no such model file: .*nothing\.onnx'):
        make_engine(backend, tmp_path / 'nothing.onnx')
    with pytest.raises(EngineError, match='no such model file'):
        make_engine(backend, tmp_path)


@pytest.mark.parametrize('content', [b'', b'not a graph', b'\x00' * 1000])
def test_garbage_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'bad.onnx').write_bytes(content)
    with pytest.raises(EngineError, match=r'bad\.onnx cannot be loaded: .+') as caught:
        make_engine('onnxruntime', tmp_path / 'bad.onnx')
    assert '\n' not in str(caught.value)


def test_truncated_file(graph: Path) -> None:
    graph.write_bytes(graph.read_bytes()[:60])
    with pytest.raises(EngineError, match='cannot be loaded'):
        make_engine('onnxruntime', graph)


@pytest.mark.skipif('CUDAExecutionProvider' in onnxruntime.get_available_providers(),
                    reason='this ONNX Runtime has the provider')
def test_missing_provider_does_not_fall_back(graph: Path) -> None:
    with pytest.raises(EngineError, match=r'no CUDAExecutionProvider here, only .*CPU'):
        make_engine('onnxruntime-cuda', graph)


def test_provider_that_does_not_start(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A build with CUDA on a machine without a driver: listed, but replaced by the CPU.
    monkeypatch.setattr(onnxruntime, 'get_available_providers',
                        lambda: ['CUDAExecutionProvider', 'CPUExecutionProvider'])
    with pytest.warns(UserWarning, match='CUDAExecutionProvider'), \
            pytest.raises(EngineError, match='could not start CUDAExecutionProvider'):
        make_engine('onnxruntime-cuda', graph)


def test_torch_engine_does_not_train() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(100))
            self.dropout = nn.Dropout(0.9)

        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (self.dropout(x * self.scale),)

    engine = TorchEngine(Scaled().train(), ['x'], ['y'])
    np.testing.assert_array_equal(engine.run({'x': np.ones(100, np.float32)})['y'], 1.0)


# Choice

@WITHOUT_GPU
def test_auto_says_what_it_took_and_why(graph: Path) -> None:
    engine, why = choose('auto', lambda name: make_engine(name, graph))
    assert engine.name == 'onnxruntime-cpu'
    assert why.startswith('no GPU: no NVIDIA driver')


def test_auto_takes_the_next_that_works() -> None:
    def make(name: str) -> str:
        if name != 'torch':
            raise EngineError(f'{name} is broken')
        return name

    engine, why = choose('auto', make)
    assert engine == 'torch'
    assert 'no onnxruntime: onnxruntime is broken' in why
    with pytest.raises(EngineError, match=r'no engine works: .*no luck'):
        choose('auto', lambda name: make_engine('torch', 'no luck'))


@pytest.mark.slow
@WITHOUT_GPU
@pytest.mark.parametrize('backend', [name for name in BACKENDS if name in ON_GPU])
def test_named_gpu_backend_is_an_error_without_gpu(backend: str, tmp_path: Path) -> None:
    # In a process of its own: TensorRT would end it, now or when Python exits.
    (tmp_path / 'ask.py').write_text(
        'import sys\n'
        f'sys.path.insert(1, {str(ROOT)!r})\n'
        'from vts_ros.engines import EngineError\n'
        'from vts_ros.sparsify.compiled_steps import make_engines\n'
        'try:\n    make_engines(sys.argv[1])\n'
        'except EngineError as error:\n    print(error)\n')
    done = run_module(str(tmp_path / 'ask.py'), backend)
    assert done.returncode == 0, done.stderr
    line, = done.stdout.splitlines()
    assert re.search('no NVIDIA driver|not installed|finds no GPU|no CUDAExecutionProvider', line)


def test_crash_of_the_probe_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'crasher.py').write_text('import ctypes\nctypes.string_at(0)\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    assert 'was ended by SIGSEGV' in gpu._ask('tensorrt', 'crasher')['problem']
    assert 'No module named' in gpu._ask('tensorrt', 'no_such_library')['problem']


def test_probe_imports_nothing_from_its_folder(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, gpu._PROBE, 'tensorrt', 'graphs'], check=True,
                          capture_output=True, text=True, cwd=tmp_path, env={
                              name: value for name, value in os.environ.items()
                              if name != 'PYTHONPATH'})
    assert json.loads(done.stdout)['problem'] == "No module named 'graphs'"


def test_two_packages_of_onnxruntime_are_named(graph: Path, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / 'onnxruntime_gpu-1.0.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text('Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.0')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match='onnxruntime and onnxruntime-gpu are installed over'):
        make_engine('onnxruntime', graph)


# Precision

def test_shipped_network_in_pytorch_is_that_in_onnxruntime() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (1, 96, 160, 3), np.uint8)
    torch_engines, ort_engines = make_engines('torch'), make_engines('onnxruntime')
    assert torch_engines.frame.name == 'torch-cpu'
    found, expected = (engines.frame.run({'frame': frame})
                       for engines in (torch_engines, ort_engines))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)
    with pytest.raises(EngineError, match=r'runs frame\.onnx in fp32 only, not in fp16'):
        make_engines('torch', EngineOptions(precision='fp16'))


def test_fp16_keeps_types_and_positions() -> None:
    whole, half = (make_engines('onnxruntime', EngineOptions(precision=precision)).frame
                   for precision in ('fp32', 'fp16'))
    assert half.name == 'onnxruntime-cpu-fp16'
    assert half.info['precision'] == 'fp16'
    # Wide enough that FP16 cannot count its pixels.
    frame = np.random.default_rng(2).integers(0, 256, (1, 64, 4099, 3), np.uint8)
    found, expected = half.run({'frame': frame}), whole.run({'frame': frame})
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        assert 0.0 < np.abs(found[name] - value).max() < 0.05


def test_graph_without_convolutions_stays_fp32(graph: Path) -> None:
    assert load_graph(graph, 'fp16').precision == 'fp32'
    assert load_graph(graph, 'fp16').content == graph.read_bytes()


def test_int8_asks_for_calibration_and_then_runs(tmp_path: Path) -> None:
    options = EngineOptions(precision='int8', cache=tmp_path)
    with pytest.raises(EngineError, match='vts compile --precision int8 --calibrate BAG'):
        make_engines('onnxruntime', options)
    random = np.random.default_rng(3)
    frames = [random.integers(0, 256, (6, 10, 3), np.uint8).repeat(16, 0).repeat(16, 1)
              for _ in range(4)]
    with pytest.raises(EngineError, match='there are none'):
        store_int8(model_path(FRAME), [], tmp_path)
    store_int8(model_path(FRAME), frames, tmp_path)
    engine = make_engines('onnxruntime', options).frame
    assert engine.name == 'onnxruntime-cpu-int8'
    expected = make_engines('onnxruntime').frame.run({'frame': frames[0][np.newaxis]})
    found = engine.run({'frame': frames[0][np.newaxis]})
    difference = np.abs(found['embedding'] - expected['embedding'])
    assert 0.0 < difference.mean() < 0.05


def test_unknown_precision(graph: Path) -> None:
    with pytest.raises(EngineError, match="unknown precision 'fp8', expected one of fp32"):
        load_graph(graph, 'fp8')  # type: ignore[arg-type]


@pytest.mark.parametrize('text', ['848', '848x', '0x480', '848x480x3', 'x', '1x1'])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(EngineError, match='is no size of a picture'):
        picture_size(text)
    assert picture_size('848x480') == (480, 848)
    assert picture_size('') == (480, 848)


def test_models_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / 'install'
    shipped = installed / 'share' / 'vts_ros' / 'models' / 'tiny' / 'net.onnx'
    chosen = tmp_path / 'chosen' / 'tiny' / 'net.onnx'
    for file in (shipped, chosen):
        file.parent.mkdir(parents=True)
        file.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('VTS_MODELS_DIR', raising=False)
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere:{installed}')
    assert model_path('tiny/net.onnx') == shipped
    assert model_path('tiny') == shipped.parent
    monkeypatch.setenv('VTS_MODELS_DIR', str(tmp_path / 'chosen'))
    assert model_path('tiny/net.onnx') == chosen
    assert model_path(shipped) == shipped
    (tmp_path / 'tiny').mkdir()
    assert model_path('tiny') == chosen.parent  # not what lies in the working directory
    with pytest.raises(FileNotFoundError, match=r"'tiny/other' not found \(looked in .*chosen"):
        model_path('tiny/other')


def test_models_are_found_below_the_prefix(tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'share' / 'vts_ros' / 'models' / 'tiny').mkdir(parents=True)
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    monkeypatch.setattr('sys.prefix', str(tmp_path))
    assert model_path('tiny') == tmp_path / 'share' / 'vts_ros' / 'models' / 'tiny'
