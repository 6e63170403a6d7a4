# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Engines and the places of models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, TensorProto
import onnxruntime
import pytest
import torch
from torch import nn, Tensor

from vts_ros.engines import BACKENDS, EngineError, make_engine, OnnxRuntimeEngine
from vts_ros.engines.pytorch import TorchEngine
from vts_ros.models import model_path


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
