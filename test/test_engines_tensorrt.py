# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
TensorRT: real builds of the shipped graphs without a GPU, and real runs where there is one.

A build runs the real parser and compiler, so that an operator they refuse is found here.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import helper, TensorProto
import pytest
import torch

from vts_ros.engines import EngineError, EngineOptions, Precision
from vts_ros.engines.engine_cache import EngineCache
from vts_ros.engines.gpu import find_gpu
from vts_ros.engines.onnx_graph import fix_shapes, load_graph, spans, store_int8
from vts_ros.engines.tensorrt_engine import compile_graph, Library, load_library
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.paths import model_path
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.compiled_steps import FRAME, make_engines, window_graph
from vts_ros.sparsify.proposal_network import FRAME_OUTPUTS, MAP_SIZE
from vts_ros.sparsify.window_step import WINDOW_INPUTS, WINDOW_OUTPUTS
from vts_ros.tools.engine_builder import compile_engines, compiler, window_shapes


def why_no_gpu() -> str:
    """Return why engines cannot run here, empty if they can."""
    try:
        find_gpu()
    except EngineError as error:
        return str(error)
    return '' if torch.cuda.is_available() else f'PyTorch {torch.__version__} has no CUDA'


WHY_NO_GPU = why_no_gpu()
NEEDS_GPU = pytest.mark.skipif(bool(WHY_NO_GPU), reason=f'needs a GPU: {WHY_NO_GPU}')
TARGETS = ('sm86', 'sm89', 'sm120')


@pytest.fixture(scope='module')
def library() -> Library:
    try:
        return load_library('tensorrt_rtx')
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module')
def cache(tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    """Return a cache with a graph for INT8 in it."""
    directory = tmp_path_factory.mktemp('engines')
    random = np.random.default_rng(0)
    store_int8(model_path(FRAME), [
        random.integers(0, 256, (6, 10, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        for _ in range(3)], directory)
    return EngineCache(directory)


# Builds

@pytest.mark.slow
@pytest.mark.parametrize('target', TARGETS)
@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'int8'])
def test_shipped_graphs_build(library: Library, cache: EngineCache, target: str,
                              precision: Precision) -> None:
    built = list(compile_engines(
        library, target, precision, cache, sizes=[(480, 848)], batch=1, frames=5,
        grids=[(4, 7)], search_radius=1))
    frame, window = (json.loads(engine.path.with_suffix('.json').read_text()) for engine in built)
    assert [engine.key.target for engine in built] == [target] * 2
    assert [engine.key.precision for engine in built] == [precision, 'fp32']
    for engine, notes in zip(built, (frame, window)):
        assert engine.path.stat().st_size == notes['engine_bytes'] > 100_000
    assert tensors(frame) == {
        'frame': ('input', 'uint8', [1, 480, 848, 3]),
        'saliency': ('output', 'float', [1, *MAP_SIZE]),
        'embedding': ('output', 'float', [1, 48, *MAP_SIZE])}
    assert tensors(window) == {
        # Any number of frames up to eight: a window that lost one needs no other engine.
        'saliency': ('input', 'float', [-1, *MAP_SIZE]),
        'embedding': ('input', 'float', [-1, 48, *MAP_SIZE]),
        'row_weights': ('input', 'float', [4, MAP_SIZE[0]]),
        'column_weights': ('input', 'float', [7, MAP_SIZE[1]]),
        'neighbours': ('input', 'int64', [4, 7, 9]), 'budget': ('input', 'int64', [1]),
        'reserves': ('input', 'int64', [2]),
        'previous_key': ('input', 'int64', [1]), 'hysteresis': ('input', 'float', [1]),
        'alpha': ('input', 'float', [1]), 'key': ('output', 'int64', [1]),
        'frame_scores': ('output', 'float', [-1]), 'score': ('output', 'float', [-1, 28]),
        'order': ('output', 'int32', [-1])}
    assert window['key']['shapes']['saliency'][0] == [1, 8, 8]


def tensors(notes: dict[str, Any]) -> dict[str, tuple[str, str, list[int]]]:
    return {tensor['name']: (tensor['mode'], tensor['type'], tensor['shape'])
            for tensor in notes['tensors']}


def test_several_cameras_and_large_grids_build(library: Library, cache: EngineCache) -> None:
    # 6,075 tokens: TensorRT sorts 3,840 at most.
    built = list(compile_engines(
        library, 'sm86', 'fp32', cache, sizes=[(128, 224)], batch=3, frames=15,
        grids=[(15, 27)], search_radius=1))
    frame, window = (json.loads(engine.path.with_suffix('.json').read_text()) for engine in built)
    assert tensors(frame)['embedding'][2] == [3, 48, *MAP_SIZE]
    assert tensors(window)['score'][2] == [-1, 405]
    assert window['key']['shapes']['saliency'][0] == [1, 16, 16]


def test_built_once(library: Library, cache: EngineCache) -> None:
    graph = load_graph(model_path(FRAME))
    shapes = spans(graph.model, {'frame': (1, 64, 96, 3)})
    hits = [compile_graph(library, graph, shapes, cache, 'sm89')[1] for _ in range(2)]
    assert hits == [False, True]


def test_refused_operator_is_one_line(library: Library, cache: EngineCache, tmp_path: Path
                                      ) -> None:
    # The mistakes that the shipped graphs must not make: uint8 moved around before it is cast.
    values = [helper.make_tensor_value_info('x', TensorProto.UINT8, [1, 4, 6, 3]),
              helper.make_tensor_value_info('y', TensorProto.UINT8, [1, 3, 4, 6])]
    model = helper.make_model(helper.make_graph(
        [helper.make_node('Transpose', ['x'], ['y'], perm=[0, 3, 1, 2])], 'moved',
        values[:1], values[1:]), opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    onnx.save(model, tmp_path / 'moved.onnx')
    graph = load_graph(tmp_path / 'moved.onnx')
    with pytest.raises(EngineError, match=r'tensorrt_rtx (does not take|cannot build) moved: .+'
                       ) as caught:
        compile_graph(library, graph, spans(graph.model, {'x': (1, 4, 6, 3)}), cache, 'sm86')
    assert '\n' not in str(caught.value)
    assert 'it does not say why' not in str(caught.value)


def test_unknown_target(library: Library, cache: EngineCache) -> None:
    graph = load_graph(model_path(FRAME))
    shapes = spans(graph.model, {'frame': (1, 64, 96, 3)})
    with pytest.raises(EngineError, match=r'does not build for sm87, only for .*sm86, sm89'):
        compile_graph(library, graph, shapes, cache, 'sm87')


@pytest.mark.skipif(not WHY_NO_GPU, reason='about machines without a GPU')
def test_current_target_needs_a_gpu(library: Library, cache: EngineCache) -> None:
    graph = load_graph(model_path(FRAME))
    with pytest.raises(EngineError, match=r'no NVIDIA driver \(libcuda'):
        compile_graph(library, graph, spans(graph.model, {'frame': (1, 64, 96, 3)}), cache)


def test_what_is_no_compiler() -> None:
    with pytest.raises(EngineError, match='onnxruntime needs no build'):
        compiler('onnxruntime', 'current')


def test_other_inputs_are_refused() -> None:
    model = load_graph(model_path(FRAME)).model
    with pytest.raises(EngineError, match='expected inputs frame, got picture'):
        spans(model, {'picture': (1, 64, 96, 3)})
    with pytest.raises(EngineError, match='frame has 4 axes, not 3'):
        spans(model, {'frame': (64, 96, 3)})


def test_fixed_shapes_are_those_of_the_inputs() -> None:
    graph = load_graph(window_graph('tensorrt'))
    shapes = spans(graph.model, window_shapes(5, (4, 7), 1))
    assert list(shapes) == list(WINDOW_INPUTS)
    fixed = fix_shapes(graph.model, shapes)
    axes = {tensor.name: [axis.dim_value for axis in tensor.type.tensor_type.shape.dim]
            for tensor in fixed.graph.input}
    assert axes['neighbours'] == [4, 7, 9]
    assert axes['saliency'] == [0, *MAP_SIZE]
    assert [tensor.name for tensor in fixed.graph.output] == list(WINDOW_OUTPUTS)


# Runs, on a GPU only

GPU_BACKENDS = ('tensorrt', 'tensorrt_rtx', 'torch-cuda', 'onnxruntime-cuda')


def gpu_sparsifier(backend: str, directory: Path, precision: Precision = 'fp32') -> Sparsifier:
    try:
        engines = make_engines(backend, EngineOptions(precision=precision, cache=directory))
    except EngineError as error:
        pytest.skip(str(error))
    return Sparsifier(engines.frame, engines.window)


def rendered(count: int) -> Iterator[NDArray[np.uint8]]:
    for scene in balanced_scenes('val', count):
        yield render(scene, 848, 480).frames


def same_tokens(found: Sparsifier, expected: Sparsifier, windows: int) -> float:
    """Return the share of the tokens that both keep."""
    shares = []
    for frames in rendered(windows):
        left, right = (
            sparsifier.select([sparsifier.propose(frame) for frame in frames], (4, 7), 0.6).keep
            for sparsifier in (found, expected))
        shares.append(np.isin(left, right).mean())
    return float(np.mean(shares))


@NEEDS_GPU
@pytest.mark.parametrize('backend', GPU_BACKENDS)
def test_keep_lists_on_the_gpu_are_those_of_the_cpu(backend: str, tmp_path: Path) -> None:
    assert same_tokens(gpu_sparsifier(backend, tmp_path), Sparsifier(), 200) == 1.0


@NEEDS_GPU
@pytest.mark.parametrize('backend', ['tensorrt', 'tensorrt_rtx', 'onnxruntime-cuda'])
def test_fp16_keeps_nearly_the_same(backend: str, tmp_path: Path) -> None:
    assert same_tokens(gpu_sparsifier(backend, tmp_path, 'fp16'), Sparsifier(), 200) >= 0.99


@NEEDS_GPU
@pytest.mark.parametrize('backend', ['tensorrt', 'tensorrt_rtx', 'torch-cuda'])
def test_tensors_stay_on_the_gpu(backend: str, tmp_path: Path) -> None:
    sparsifier = gpu_sparsifier(backend, tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (480, 848, 3), np.uint8)
    uploaded = torch.from_numpy(picture).cuda()
    expected = sparsifier.propose(picture)
    # In a stream of the caller's: the order of the results must be that of this stream.
    with torch.cuda.stream(torch.cuda.Stream()):
        found = [sparsifier.propose(uploaded) for _ in range(5)]
    torch.cuda.synchronize()
    for proposal in found:
        assert proposal.embedding.is_cuda
        assert proposal.saliency.is_cuda
        torch.testing.assert_close(proposal.embedding, expected.embedding, rtol=0, atol=1e-6)
    # No run writes into what another has returned.
    assert len({proposal.embedding.data_ptr() for proposal in found}) == len(found)
    events = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[events.CPU, events.CUDA]) as profile:
        sparsifier.propose(uploaded)
        torch.cuda.synchronize()
    copies = [event.name for event in profile.events() if 'memcpy' in event.name.lower()]
    assert not [name for name in copies if 'HtoD' in name or 'DtoH' in name]


@NEEDS_GPU
@pytest.mark.parametrize('backend', ['tensorrt', 'tensorrt_rtx'])
def test_second_start_builds_nothing(backend: str, tmp_path: Path) -> None:
    picture = np.zeros((96, 160, 3), np.uint8)
    found = []
    for _ in range(2):
        sparsifier = gpu_sparsifier(backend, tmp_path)
        sparsifier.propose(picture)
        found.append(sparsifier.info['engine_cache'])
    assert found == ['built', 'hit']


@NEEDS_GPU
@pytest.mark.parametrize('backend', ['tensorrt', 'tensorrt_rtx'])
def test_wrong_types_and_shapes_are_refused(backend: str, tmp_path: Path) -> None:
    frame = gpu_sparsifier(backend, tmp_path)._frame
    for value in (np.zeros((1, 96, 160, 3), np.float32), np.zeros((96, 160, 3), np.uint8)):
        with pytest.raises(EngineError, match=r'failed|axes'):
            frame.run({'frame': value})
    good = frame.run({'frame': np.zeros((1, 96, 160, 3), np.uint8)})
    assert set(good) == set(FRAME_OUTPUTS)
