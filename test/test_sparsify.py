# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Proposal network, window step, selector and baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
import math
from pathlib import Path
from typing import Any

from bag_maker import real_bags
import cv2
from hypothesis import given, strategies
import numpy as np
from numpy.typing import NDArray
import onnx
import pytest
import torch

from vts_ros.engines import make_engine, OnnxRuntimeEngine
from vts_ros.engines.torch_engine import TorchEngine
from vts_ros.errors import FrameError
from vts_ros.lab.rivals.baselines import RandomSelector
from vts_ros.lab.training.onnx_export import (
    export_frame,
    export_window,
    FRAME_INPUTS,
    FRAME_OUTPUTS,
    MAX_SIDE_PX,
    weights_sha256,
    window_example,
    WINDOW_INPUTS,
    WINDOW_OUTPUTS,
    write_frame,
    write_window_step,
)
from vts_ros.paths import model_path
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import Proposal, Sparsifier, token_budget
from vts_ros.sparsify.proposal_network import (
    _sample_positions,
    INPUT_SIZE,
    load_net,
    MAP_SIZE,
    ProposalNet,
    resample,
    SAMPLES,
)
from vts_ros.sparsify.token_grid import area_weights, neighbours
from vts_ros.sparsify.window_step import WindowStep
from vts_ros.tools.bag_frames import read_frames

GRIDS = [(8, 14), (4, 7), (15, 27), (5, 9), (1, 1), (3, 20)]
#: Grids whose area weights float32 holds exactly, so that equal maps stay equal.
EXACT_GRIDS = [(8, 14), (4, 7), (16, 28), (2, 7), (1, 1)]


@pytest.fixture(scope='session')
def net() -> ProposalNet:
    """Return a network with random weights whose maps vary over the picture."""
    torch.manual_seed(0)
    net = ProposalNet().train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # plain mean over the frames below
    coarse = torch.rand(16, 3, *MAP_SIZE) * 255
    frames = torch.nn.functional.interpolate(coarse, size=INPUT_SIZE).permute(0, 2, 3, 1)
    with torch.no_grad():
        net.raw(frames)
    return net.eval()


@pytest.fixture(scope='session')
def exported(net: ProposalNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with both graphs, which are those that an export makes (see below)."""
    directory = tmp_path_factory.mktemp('proposal')
    # From the midst of training: what is written is the evaluation, and training goes on.
    net.train()
    write_frame(net, directory / 'frame.onnx')
    assert net.training
    net.eval()
    write_window_step(directory)
    return directory


@pytest.fixture(scope='session')
def frame_engine(exported: Path) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(exported / 'frame.onnx', threads=1)


@pytest.fixture(scope='session')
def window_engine(exported: Path) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(exported / 'window.onnx', threads=1)


@pytest.fixture(scope='session')
def sparsifier(frame_engine: OnnxRuntimeEngine, window_engine: OnnxRuntimeEngine) -> Sparsifier:
    return Sparsifier(frame_engine, window_engine)


def random_window(seed: int, frames: int) -> list[Proposal]:
    """Return proposals of frames that resemble each other, as those of a camera do."""
    random = np.random.default_rng(seed)
    scene = random.normal(size=(48, *MAP_SIZE))
    proposals = []
    for _ in range(frames):
        embedding = scene + 0.5 * random.normal(size=scene.shape)
        embedding /= np.linalg.norm(embedding, axis=0)
        saliency = random.random(MAP_SIZE) ** 3
        proposals.append(Proposal(saliency.astype(np.float32), embedding.astype(np.float32)))
    return proposals


def constant_window(frames: int) -> list[Proposal]:
    embedding = np.zeros((48, *MAP_SIZE), np.float32)
    embedding[0] = 1.0
    return [Proposal(np.full(MAP_SIZE, 0.5, np.float32), embedding)] * frames


def overlap(first: tuple[float, float], second: tuple[float, float]) -> float:
    return max(0.0, min(first[1], second[1]) - max(first[0], second[0]))


def oracle(proposals: Sequence[Proposal], grid: tuple[int, int], budget: int, alpha: float,
           radius: int, hysteresis: float, previous: int | None
           ) -> tuple[int, list[int], NDArray[np.float64]]:
    """Return key, keep list and scores by the formulas, token by token, in double precision."""
    (rows, columns), (h, w) = grid, proposals[0].saliency.shape
    places = [(r, c) for r in range(rows) for c in range(columns)]
    cells = [(i, j) for i in range(h) for j in range(w)]
    area = np.array([[overlap((r / rows, (r + 1) / rows), (i / h, (i + 1) / h))
                      * overlap((c / columns, (c + 1) / columns), (j / w, (j + 1) / w))
                      for i, j in cells] for r, c in places]) * rows * columns
    salient, embedded = [], []
    for proposal in proposals:
        salient.append((area @ proposal.saliency.astype(float).ravel() ** 4) ** 0.25)
        vectors = area @ proposal.embedding.astype(float).reshape(-1, h * w).T
        embedded.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    means = [proposal.saliency.astype(float).mean() for proposal in proposals]
    if previous is not None:
        means[previous] *= 1.0 + hysteresis
    key = max(range(len(means)), key=lambda t: (means[t], -t))

    score = np.zeros((len(proposals), len(places)))
    for n, (r, c) in enumerate(places):
        near = [m for m, (r2, c2) in enumerate(places)
                if max(abs(r - r2), abs(c - c2)) <= radius]
        for t, vectors in enumerate(embedded):
            similarity = max(float(vectors[n] @ embedded[key][m]) for m in near)
            score[t, n] = alpha * (1.0 - similarity) + (1.0 - alpha) * salient[t][n]

    size = len(places)
    sure: set[int] = set()
    for t, share in ((key, math.ceil(budget / 4)), (len(proposals) - 1, budget // 4)):
        own = sorted(range(size), key=lambda n: (-salient[t][n], n))
        sure |= {t * size + n for n in own[:share]}
    others = sorted(set(range(len(proposals) * size)) - sure,
                    key=lambda i: (-score[i // size, i % size], i))
    return key, sorted([*sure, *others][:budget]), score


# The proposal network

def test_network_is_small() -> None:
    assert sum(parameter.numel() for parameter in ProposalNet().parameters()) < 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize(('height', 'width'), [(1080, 1920), (480, 848), (37, 53), INPUT_SIZE,
                                               (16, 16), (721, 1283)])
def test_frame_graph_agrees_with_torch(net: ProposalNet, frame_engine: OnnxRuntimeEngine,
                                       height: int, width: int) -> None:
    frame = np.random.default_rng(height).integers(0, 256, (1, height, width, 3), np.uint8)
    expected = TorchEngine(net, FRAME_INPUTS, FRAME_OUTPUTS).run({'frame': frame})
    found = frame_engine.run({'frame': frame})
    assert found['saliency'].shape == (1, *MAP_SIZE)
    assert found['embedding'].shape == (1, 48, *MAP_SIZE)
    for name in FRAME_OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
    assert found['saliency'].min() >= 0.0
    assert found['saliency'].max() <= 1.0
    np.testing.assert_allclose(np.linalg.norm(found['embedding'], axis=1), 1.0, atol=1e-5)


def test_network_sees_the_picture(sparsifier: Sparsifier) -> None:
    left = np.zeros((480, 848, 3), np.uint8)
    left[120:360, 60:300] = (255, 80, 0)
    seen, mirrored = sparsifier.propose(left), sparsifier.propose(left[:, ::-1])
    assert np.abs(seen.embedding - mirrored.embedding).max() > 0.1
    assert np.ptp(seen.saliency) > 1e-4


def test_batch_is_frame_by_frame(net: ProposalNet) -> None:
    frames = torch.randint(0, 256, (3, *INPUT_SIZE, 3), dtype=torch.uint8)
    with torch.no_grad():
        saliency, embedding = net(frames.float())
        raw = net.raw(frames)
        for index in range(3):
            alone = net(frames[index:index + 1])
            torch.testing.assert_close(alone[0][0], saliency[index], atol=1e-5, rtol=0)
            torch.testing.assert_close(alone[1][0], embedding[index], atol=1e-5, rtol=0)
    torch.testing.assert_close(raw.saliency_logits.sigmoid(), saliency)
    torch.testing.assert_close(torch.nn.functional.normalize(raw.embedding, dim=1), embedding)


def test_gradients_reach_every_weight() -> None:
    net = ProposalNet()
    raw = net.raw(torch.randint(0, 256, (2, *INPUT_SIZE, 3), dtype=torch.uint8))
    (raw.saliency_logits.square().mean() + raw.embedding.square().mean()).backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize('factor', [1, 2, 4])
def test_resampling_is_the_area_mean(factor: int) -> None:
    height, width = INPUT_SIZE
    frame = torch.randint(0, 256, (1, height * factor, width * factor, 3), dtype=torch.uint8)
    expected = frame.float().reshape(1, height, factor, width, factor, 3).mean(dim=(2, 4))
    torch.testing.assert_close(resample(frame), expected, atol=1e-3, rtol=0)


def test_resampling_keeps_places() -> None:
    ramp = (torch.arange(1357) + 0.5) / 1357 * 255
    ramp = ramp[None, None, :, None].expand(1, 300, 1357, 3)
    expected = (torch.arange(INPUT_SIZE[1]) + 0.5) / INPUT_SIZE[1] * 255
    torch.testing.assert_close(resample(ramp)[0, 64, :, 0], expected, atol=0.1, rtol=0)


@pytest.mark.parametrize('wanted', INPUT_SIZE)
def test_sample_positions_are_exact_in_float32(wanted: int) -> None:
    parts, odd = 2 * SAMPLES * wanted, 2 * np.arange(SAMPLES * wanted) + 1
    # Some runtimes divide in float32: what is divided must fit, and the quotient be exact.
    rest = odd[:, None] * np.arange(parts)
    assert rest.max() < 2 ** 24
    assert np.array_equal(np.floor(rest.astype(np.float32) / np.float32(parts)), rest // parts)
    for size in (1, 16, 721, 1920, 4096, 7681, MAX_SIDE_PX):
        found = _sample_positions(size, wanted, torch.device('cpu'))
        assert found.tolist() == (odd * size // parts).tolist()


# Geometry

def test_area_weights() -> None:
    np.testing.assert_array_equal(area_weights(8, 8), np.eye(8))
    np.testing.assert_array_equal(area_weights(2, 4), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(area_weights(2, 3), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    np.testing.assert_array_equal(area_weights(4, 2), [[1, 0], [1, 0], [0, 1], [0, 1]])


def test_neighbours() -> None:
    near = neighbours(3, 4, 1)
    assert near.shape == (3, 4, 9)
    assert set(near[1, 1]) == {0, 1, 2, 4, 5, 6, 8, 9, 10}
    assert set(near[0, 0]) == {0, 1, 4, 5}
    assert set(near[2, 3]) == {6, 7, 10, 11}
    np.testing.assert_array_equal(neighbours(2, 2, 0).ravel(), range(4))


# The window step

@pytest.mark.parametrize('chunk', range(4))
def test_window_graph_agrees_with_torch(window_engine: OnnxRuntimeEngine, chunk: int) -> None:
    reference = TorchEngine(WindowStep(), WINDOW_INPUTS, WINDOW_OUTPUTS)
    random = np.random.default_rng(chunk)
    for seed in range(50):
        frames, grid = int(random.integers(1, 9)), GRIDS[random.integers(len(GRIDS))]
        tokens = grid[0] * grid[1]
        budgets = [1, max(1, tokens // 2), tokens, frames * tokens,
                   int(random.integers(1, frames * tokens + 1))]
        proposals = random_window(50 * chunk + seed, frames)
        budget = budgets[seed % len(budgets)]
        inputs: dict[str, NDArray[Any]] = {
            'saliency': np.stack([p.saliency for p in proposals]),
            'embedding': np.stack([p.embedding for p in proposals]),
            'row_weights': area_weights(grid[0], MAP_SIZE[0]),
            'column_weights': area_weights(grid[1], MAP_SIZE[1]),
            'neighbours': neighbours(*grid, seed % 3),
            'budget': np.array([budget]),
            'reserves': random.multinomial(budget, (0.4, 0.3, 0.3))[:2],
            'previous_key': random.integers(-1, frames, 1),
            'hysteresis': np.array([0.05], np.float32),
            'alpha': random.random(1, np.float32)}
        found, expected = window_engine.run(inputs), reference.run(inputs)
        assert found['key'] == expected['key']
        np.testing.assert_allclose(found['frame_scores'], expected['frame_scores'], atol=1e-6)
        np.testing.assert_allclose(found['score'], expected['score'], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found['order'], expected['order'])
        assert sorted(found['order']) == list(range(frames * tokens))


@pytest.mark.parametrize(('frames', 'grid', 'ratio', 'radius', 'alpha', 'previous'), [
    (5, (4, 7), 0.6, 1, 0.5, None), (5, (8, 14), 0.6, 1, 0.5, 3), (3, (5, 9), 0.5, 0, 0.3, 0),
    (5, (4, 7), 0.1, 1, 0.5, None), (5, (4, 7), 0.2, 2, 0.7, 4), (2, (3, 20), 1.0, 1, 0.5, None),
    (8, (1, 1), 0.4, 1, 0.5, None), (1, (6, 6), 0.5, 1, 0.5, None), (4, (7, 5), 0.9, 1, 1.0, 2),
    (4, (7, 5), 0.4, 3, 0.0, 1), (2, (10, 17), 0.7, 1, 0.5, None), (4, (7, 5), 0.1, 1, 1.0, 2)])
def test_selection_is_as_defined(
        frame_engine: OnnxRuntimeEngine, window_engine: OnnxRuntimeEngine, frames: int,
        grid: tuple[int, int], ratio: float, radius: int, alpha: float,
        previous: int | None) -> None:
    sparsifier = Sparsifier(
        frame_engine, window_engine, alpha=alpha, search_radius=radius, hysteresis=0.1)
    for seed in range(3):
        proposals = random_window(seed, frames)
        budget = token_budget(frames, grid, ratio)
        key, keep, score = oracle(proposals, grid, budget, alpha, radius, 0.1, previous)
        found = sparsifier.select(proposals, grid, ratio, previous)
        assert found.key == key
        assert found.keep.tolist() == keep
        np.testing.assert_allclose(found.score, score, atol=1e-5)
        np.testing.assert_allclose(
            found.frame_scores, [p.saliency.mean() for p in proposals], atol=1e-6)


@given(frames=strategies.integers(1, 8), rows=strategies.integers(1, 17),
       columns=strategies.integers(1, 20), ratio=strategies.floats(0.001, 1.0),
       seed=strategies.integers(0, 10_000), constant=strategies.booleans())
def test_selection_invariants(sparsifier: Sparsifier, frames: int, rows: int, columns: int,
                              ratio: float, seed: int, constant: bool) -> None:
    proposals = constant_window(frames) if constant else random_window(seed, frames)
    for selector in (sparsifier, RandomSelector(seed)):
        found = selector.select(proposals, (rows, columns), ratio)
        tokens = rows * columns
        assert found.keep.dtype == np.int32
        assert len(found.keep) == token_budget(frames, (rows, columns), ratio)
        assert (np.diff(found.keep) > 0).all()
        assert found.keep[0] >= 0
        assert found.keep[-1] < frames * tokens
        assert found.score.shape == (frames, tokens)
        assert found.frame_scores.shape == (frames,)
        if selector is sparsifier:
            of_frames = np.bincount(found.keep // tokens, minlength=frames)
            assert of_frames[found.key] >= min(tokens, math.ceil(len(found.keep) / 4))
            assert of_frames[-1] >= min(tokens, len(found.keep) // 4)


@pytest.mark.parametrize('grid', EXACT_GRIDS)
def test_ties_keep_the_lower_index(sparsifier: Sparsifier, grid: tuple[int, int]) -> None:
    frames, tokens = 4, grid[0] * grid[1]
    for ratio in (0.1, 0.25, 0.5, 0.77, 1.0):
        found = sparsifier.select(constant_window(frames), grid, ratio)
        assert found.key == 0
        budget = token_budget(frames, grid, ratio)
        newest = min(tokens, budget // 4)
        last = (frames - 1) * tokens
        first = min(budget - newest, last)
        assert found.keep.tolist() == [*range(first), *range(last, last + budget - first)]
        found = sparsifier.select(constant_window(frames), grid, ratio, previous_key=2)
        sure = [*range(2 * tokens, 2 * tokens + min(tokens, math.ceil(budget / 4))),
                *range(3 * tokens, 3 * tokens + min(tokens, budget // 4))]
        key_first = [*sure, *(i for i in range(frames * tokens) if i not in sure)]
        assert found.key == 2
        assert found.keep.tolist() == sorted(key_first[:budget])


def test_few_tokens_are_not_spent_on_one_moment(frame_engine: OnnxRuntimeEngine,
                                                window_engine: OnnxRuntimeEngine) -> None:
    """A bright place that moves through the window is kept in all frames, however few tokens."""
    still = random_window(4, 1)[0].embedding
    places = [(3, column) for column in (1, 3, 5, 7, 9)]
    window = []
    for frame, place in enumerate(places):
        saliency = np.full(MAP_SIZE, 0.1, np.float32)
        saliency[place] = 0.9 + 0.01 * (frame == 2)
        window.append(Proposal(saliency, still))
    wanted = {28 * frame + 7 + column // 3 for frame, (_, column) in enumerate(places)}
    sparsifier = Sparsifier(frame_engine, window_engine)
    for ratio in (0.1, 0.2, 0.4):
        found = sparsifier.select(window, (4, 7), ratio)
        assert found.key == 2
        assert wanted <= set(found.keep.tolist())
    whole = sparsifier.variant(shares=(1.0, 0.0)).select(window, (4, 7), 0.2)
    assert whole.keep.tolist() == list(range(2 * 28, 3 * 28))
    none = sparsifier.variant(shares=(0.0, 0.0)).select(window, (4, 7), 5 / 140)
    assert set(none.keep.tolist()) == wanted
    # What the newest frame shows is kept even where the key frame shows the same.
    window[4] = Proposal(window[2].saliency * np.float32(0.99), still)
    newest = sparsifier.select(window, (4, 7), 4 / 140)
    assert 4 * 28 + 7 + 5 // 3 in newest.keep
    assert np.count_nonzero(newest.keep // 28 == 2) >= 1


def test_hysteresis_holds_the_key_frame(frame_engine: OnnxRuntimeEngine,
                                        window_engine: OnnxRuntimeEngine) -> None:
    embedding = random_window(0, 1)[0].embedding
    proposals = [Proposal(np.full(MAP_SIZE, level, np.float32), embedding)
                 for level in (0.20, 0.207, 0.19)]
    sparsifier = Sparsifier(frame_engine, window_engine, hysteresis=0.05)
    assert sparsifier.select(proposals, (4, 7), 0.6).key == 1
    assert sparsifier.select(proposals, (4, 7), 0.6, previous_key=0).key == 0
    assert sparsifier.select(proposals, (4, 7), 0.6, previous_key=2).key == 1
    without = Sparsifier(frame_engine, window_engine, hysteresis=0.0)
    assert without.select(proposals, (4, 7), 0.6, previous_key=0).key == 1


def test_radius_forgives_a_shift(frame_engine: OnnxRuntimeEngine,
                                 window_engine: OnnxRuntimeEngine) -> None:
    still = random_window(1, 1)[0]
    moved = Proposal(still.saliency * 0.5, np.roll(still.embedding, 1, axis=2))
    novelty = []
    for radius in (0, 1):
        sparsifier = Sparsifier(frame_engine, window_engine, alpha=1.0, search_radius=radius)
        found = sparsifier.select([still, moved], MAP_SIZE, 0.6)
        assert found.key == 0
        novelty.append(found.score[1].reshape(MAP_SIZE)[:, 1:])
    assert novelty[0].min() > 0.2
    np.testing.assert_allclose(novelty[1], 0.0, atol=1e-5)


def test_small_object_survives_a_coarse_grid(frame_engine: OnnxRuntimeEngine,
                                             window_engine: OnnxRuntimeEngine) -> None:
    saliency = np.full(MAP_SIZE, 0.3, np.float32)
    saliency[5, 9] = 1.0
    still = random_window(2, 1)[0]
    window = [Proposal(np.full(MAP_SIZE, 0.6, np.float32), still.embedding),
              Proposal(saliency, still.embedding)]
    sparsifier = Sparsifier(frame_engine, window_engine, alpha=0.0, key_share=1.0,
                            newest_share=0.0)
    found = sparsifier.select(window, (4, 7), 0.52)
    assert found.score[1, 7 + 3] == pytest.approx(((1.0 + 8 * 0.3 ** 4) / 9) ** 0.25, abs=1e-5)
    assert np.delete(found.score[1], 7 + 3) == pytest.approx(0.3, abs=1e-5)
    assert found.keep.tolist() == [*range(28), 28 + 7 + 3]


@pytest.mark.slow
def test_fixed_shapes_give_the_same(window_engine: OnnxRuntimeEngine, tmp_path: Path) -> None:
    export_window(tmp_path / 'fixed.onnx', frames=3, grid=(4, 7), search_radius=1)
    fixed = OnnxRuntimeEngine(tmp_path / 'fixed.onnx', threads=1)
    torch.manual_seed(3)
    values = [value.numpy() for value in window_example(3, (4, 7), 1)]
    inputs = dict(zip(WINDOW_INPUTS, values, strict=True)) | {'budget': np.array([50])}
    found, expected = fixed.run(inputs), window_engine.run(inputs)
    for name in WINDOW_OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    # A compiler needs to see constants: no shape is computed, no K is an input.
    operators = Counter(node.op_type for node in onnx.load(tmp_path / 'fixed.onnx').graph.node)
    assert operators['TopK'] == 3
    assert not {'Shape', 'Range', 'NonZero', 'Loop', 'If'} & set(operators)
    assert fixed.metadata['search_radius'] == '1'
    assert fixed.metadata['grid'] == '4x7'


@pytest.mark.slow
def test_counting_gives_the_same_as_sorting(window_engine: OnnxRuntimeEngine,
                                            tmp_path: Path) -> None:
    export_window(tmp_path / 'counting.onnx', by_counting=True)
    counting = OnnxRuntimeEngine(tmp_path / 'counting.onnx', threads=1)
    # What ships is what is made now.
    assert onnx.load(tmp_path / 'counting.onnx').graph == onnx.load(
        model_path('proposal/window_by_counting.onnx')).graph
    operators = Counter(node.op_type for node in onnx.load(tmp_path / 'counting.onnx').graph.node)
    assert not {'TopK', 'Loop', 'If'} & set(operators)
    random = np.random.default_rng(5)
    for seed in range(60):
        frames, grid = int(random.integers(1, 8)), GRIDS[random.integers(len(GRIDS))]
        torch.manual_seed(seed)
        values = [value.numpy() for value in window_example(frames, grid, seed % 3)]
        inputs = dict(zip(WINDOW_INPUTS, values, strict=True))
        if seed % 2:  # a camera that stands still: nearly everything is equal
            inputs['saliency'] = np.round(3 * inputs['saliency'][:1].repeat(frames, axis=0)) / 3
            inputs['embedding'] = inputs['embedding'][:1].repeat(frames, axis=0)
        inputs['budget'] = random.integers(1, frames * grid[0] * grid[1] + 1, 1)
        inputs['reserves'] = random.multinomial(inputs['budget'][0], (0.4, 0.3, 0.3))[:2]
        inputs['previous_key'] = random.integers(-1, frames, 1)
        found, expected = counting.run(inputs), window_engine.run(inputs)
        for name in WINDOW_OUTPUTS:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_frames_of_several_cameras_are_looked_at_together(
        frame_engine: OnnxRuntimeEngine) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 96, 160, 3), np.uint8)
    together = frame_engine.run({'frame': frames})
    for index in range(3):
        alone = frame_engine.run({'frame': frames[index:index + 1]})
        for name in FRAME_OUTPUTS:
            np.testing.assert_allclose(together[name][index], alone[name][0], atol=1e-5)


def test_exported_network_comes_back(net: ProposalNet, exported: Path, tmp_path: Path) -> None:
    again = load_net(exported / 'frame.onnx')
    frames = torch.randint(0, 256, (2, 100, 180, 3), dtype=torch.uint8)
    with torch.no_grad():
        for found, expected in zip(again(frames), net(frames)):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match='no export of this proposal network'):
        load_net(exported / 'window.onnx')


@pytest.mark.slow
def test_other_weights_in_the_shipped_graph_are_the_exported_network(
        net: ProposalNet, exported: Path, tmp_path: Path) -> None:
    net.train()
    export_frame(net, tmp_path / 'frame.onnx')
    assert net.training
    net.eval()
    export_window(tmp_path / 'window.onnx')
    # What ships is what is made now, so nothing but weights can differ.
    written, wanted = (onnx.load(folder / 'frame.onnx') for folder in (exported, tmp_path))
    assert written.graph.node == wanted.graph.node
    assert written.metadata_props == wanted.metadata_props
    found, expected = ({tensor.name: onnx.numpy_helper.to_array(tensor)
                        for tensor in model.graph.initializer} for model in (written, wanted))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert onnx.load(exported / 'window.onnx') == onnx.load(tmp_path / 'window.onnx')


def test_half_fixed_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='need frames, grid and search_radius'):
        export_window(tmp_path / 'window.onnx', frames=3)


# Export

def test_files_say_what_they_are(net: ProposalNet, exported: Path) -> None:
    frame = OnnxRuntimeEngine(exported / 'frame.onnx').metadata
    assert frame['project'] == 'vts_ros'
    assert frame['version'].count('.') == 2
    assert frame['graph'] == 'frame'
    assert frame['input_size'] == '192x336'
    assert frame['weights_sha256'] == weights_sha256(net) != weights_sha256(ProposalNet())
    assert OnnxRuntimeEngine(exported / 'window.onnx').metadata['search_radius'] == 'any'
    # What ships is what is made now.
    assert onnx.load(exported / 'window.onnx').graph == onnx.load(
        model_path('proposal/window.onnx')).graph


def test_files_do_not_tell_of_the_machine(exported: Path) -> None:
    for name in ('frame.onnx', 'window.onnx'):
        content = (exported / name).read_bytes()
        assert b'.py' not in content
        assert str(Path(__file__).parents[1]).encode() not in content


# The selector

def test_shipped_graphs_are_the_default() -> None:
    sparsifier = Sparsifier()
    frame = np.random.default_rng(0).integers(0, 256, (480, 848, 3), np.uint8)
    found = sparsifier.select([sparsifier.propose(frame)] * 5, (4, 7), 0.6)
    assert len(found.keep) == 84
    assert sparsifier.engine == 'onnxruntime-cpu'


def test_broken_frames_are_refused(sparsifier: Sparsifier) -> None:
    with pytest.raises(FrameError, match='expected uint8'):
        sparsifier.propose(np.zeros((480, 848, 3), np.float32))
    with pytest.raises(FrameError, match='smaller than'):
        sparsifier.propose(np.zeros((4, 848, 3), np.uint8))


@pytest.mark.parametrize(('frames', 'grid', 'ratio', 'previous', 'message'), [
    (0, (4, 7), 0.6, None, 'at least one frame'),
    (2, (4, 7), 0.0, None, 'keep_ratio must be above 0'),
    (2, (4, 7), 1.01, None, 'keep_ratio must be above 0'),
    (2, (4, 7), float('nan'), None, 'keep_ratio must be above 0'),
    (2, (0, 7), 0.6, None, 'no tokens in a grid of 0 x 7'),
    (2, (4, 7), 0.6, 2, 'previous key frame 2 is not in a window of 2'),
    (2, (4, 7), 0.6, -1, 'previous key frame -1')])
def test_bad_arguments_are_refused(sparsifier: Sparsifier, frames: int, grid: tuple[int, int],
                                   ratio: float, previous: int | None, message: str) -> None:
    for selector in (sparsifier, RandomSelector()):
        with pytest.raises(ValueError, match=message):
            selector.select(random_window(0, frames), grid, ratio, previous)


def test_mixed_proposals_are_refused(sparsifier: Sparsifier) -> None:
    other = RandomSelector().propose(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match='different shapes'):
        sparsifier.select([*random_window(0, 1), other], (4, 7), 0.6)


@pytest.mark.parametrize(('name', 'value'), [
    ('alpha', -0.1), ('alpha', 1.1), ('alpha', float('nan')), ('search_radius', -1),
    ('hysteresis', -0.1), ('hysteresis', float('nan')), ('key_share', 0.8),
    ('key_share', float('nan')), ('newest_share', -0.1)])
def test_bad_parameters_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Sparsifier(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(('frames', 'grid', 'ratio', 'budget'), [
    (5, (4, 7), 0.6, 84), (5, (4, 7), 1.0, 140), (5, (8, 14), 0.6, 336), (5, (8, 14), 0.2, 112),
    # halves go up, from even numbers and from odd ones
    (1, (1, 7), 0.5, 4), (1, (1, 9), 0.5, 5), (1, (1, 1), 0.5, 1), (5, (1, 1), 0.5, 3),
    # the product is a half only if 0.15 is 15 / 100 and so on, in whatever order
    (3, (10, 3), 0.15, 14), (90, (1, 1), 0.15, 14), (1, (9, 10), 0.15, 14),
    (1, (1, 10), 0.35, 4), (5, (4, 5), 0.145, 15), (1, (10, 45), 0.29, 131),
    # the next numbers are less than a half and more than one
    (3, (10, 3), math.nextafter(0.15, 0.0), 13), (3, (10, 3), math.nextafter(0.15, 1.0), 14),
    # never nothing
    (5, (4, 7), 0.001, 1), (1, (1, 1), 5e-324, 1), (8, (17, 20), 1e-05, 1)])
def test_budget_is_exact_and_halves_go_up(
        sparsifier: Sparsifier, frames: int, grid: tuple[int, int], ratio: float, budget: int
        ) -> None:
    assert token_budget(frames, grid, ratio) == budget
    assert len(sparsifier.select(constant_window(frames), grid, ratio).keep) == budget


# Baselines

def test_random_is_stratified_and_repeatable() -> None:
    window = random_window(0, 5)
    first, second, other = RandomSelector(7), RandomSelector(7), RandomSelector(8)
    kept = [selector.select(window, (4, 7), 0.62) for selector in (first, second, other)]
    assert kept[0].keep.tolist() == kept[1].keep.tolist() != kept[2].keep.tolist()
    assert first.select(window, (4, 7), 0.62).keep.tolist() != kept[0].keep.tolist()
    per_frame = np.bincount(kept[0].keep // 28, minlength=5)
    assert per_frame.sum() == 87
    assert set(per_frame) == {17, 18}
    assert kept[0].key == 4


def test_random_is_even_over_the_picture() -> None:
    selector, counts = RandomSelector(0), np.zeros(28)
    for _ in range(400):
        keep = selector.select(random_window(0, 1) * 5, (4, 7), 0.5).keep
        counts += np.bincount(keep % 28, minlength=28)
    assert counts.sum() == 400 * 70
    np.testing.assert_allclose(counts, 1000, atol=130)


def test_make_engine_reads_the_export(exported: Path) -> None:
    engine = make_engine('onnxruntime', exported / 'frame.onnx', threads=1)
    found = Sparsifier(engine).propose(np.zeros((64, 64, 3), np.uint8))
    assert found.saliency.shape == MAP_SIZE
    assert found.embedding.shape == (48, *MAP_SIZE)


@pytest.mark.slow
def test_keep_lists_follow_what_changes_on_a_real_road() -> None:
    """Of the frames beside the key frame, those cells are kept that differ more from it."""
    sparsifier = Sparsifier()
    for bag in real_bags():
        frames = tuple(read_frames(bag, counters=Counter()))
        stamps = np.array([frame.stamp_ns for frame in frames])

        @cache
        def look(index: int, frames: tuple[Frame, ...] = frames
                 ) -> tuple[Proposal, NDArray[np.float64]]:
            picture = np.asarray(cv2.resize(frames[index].rgb(), (224, 128),
                                            interpolation=cv2.INTER_AREA), np.uint8)
            return sparsifier.propose(picture), picture.mean(-1)

        kept, dropped = [], []
        # From one to the next as far as from frame to frame, so that windows share theirs.
        ends = np.arange(stamps[0] + 1_600_000_000, stamps[-1] + 1, 400_000_000)
        for end in ends:
            window = [int(np.abs(stamps - (end - back)).argmin())
                      for back in range(1_600_000_000, -1, -400_000_000)]
            proposals, grey = zip(*map(look, window))
            found = sparsifier.select(proposals, (4, 7), 0.6)
            change = np.abs(np.stack(grey) - grey[found.key])
            cells = change.reshape(5, 4, 32, 7, 32).mean((2, 4)).reshape(5, 28)
            keep = np.isin(np.arange(140), found.keep).reshape(5, 28)
            others = np.arange(5) != found.key
            kept.append(cells[others][keep[others]].mean())
            dropped.append(cells[others][~keep[others]].mean())
        assert np.mean(kept) > np.mean(dropped), bag.name
