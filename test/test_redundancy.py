# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a token is worth: hiding it for real, flow, scores over time, the measure, the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import json
from pathlib import Path

from all_commands import app
import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from typer.testing import CliRunner

from vts_ros.errors import VlmError
from vts_ros.lab.evaluation import camera_worth, token_worth
from vts_ros.lab.evaluation.box_coverage import area_under_curve
from vts_ros.lab.evaluation.method_comparison import EvaluatedWindow, prepare_window
from vts_ros.lab.evaluation.redundancy import (
    analyse,
    by_distance,
    effective_rank,
    is_top,
    predictions,
    rank_correlation,
    redundancy_of,
)
from vts_ros.lab.evaluation.token_worth import (
    brief,
    gradient_of_tokens,
    patch_cells,
    Worth,
    worth_of_tokens,
)
from vts_ros.lab.evaluation.worth_windows import WorthWindow
from vts_ros.lab.rivals import temporal
from vts_ros.lab.rivals.motion import carried, grey, motion_between, residual_motion
from vts_ros.lab.rivals.registry import methods, TEMPORAL_NAMES
from vts_ros.lab.rivals.worth_measure import fit_measure
from vts_ros.lab.scenes.clips import make_scene, SPLITS
from vts_ros.lab.scenes.several_cameras import make_camera_window
from vts_ros.lab.training.distillation import log_likelihoods
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import Proposal, WindowFeatures
from vts_ros.vlm.answers import AFTER_RISK

FRAMES, GRID = 2, (4, 7)


@pytest.fixture(scope='module')
def pipeline() -> Iterator[Pipeline]:
    loaded = Pipeline.load(PipelineConfig())
    yield loaded
    loaded.close()


@pytest.fixture(scope='module')
def window(pipeline: Pipeline) -> EvaluatedWindow:
    scene = make_scene(1_000_000_001, 'lead braking', FRAMES)
    return prepare_window(pipeline, scene)


@pytest.fixture(scope='module')
def worth(pipeline: Pipeline, window: EvaluatedWindow) -> Worth:
    """Of a window that the model is right about."""
    return worth_of_tokens(pipeline.vlm, window.prepared, FRAMES, GRID,
                           pipeline.vlm.generate(window.prepared).text)


def texture(seed: int, width: int = 224, smooth_px: float = 3.0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).random((128, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), smooth_px)
    low, high = smooth.min(), smooth.max()
    return np.asarray(255.0 * (smooth - low) / (high - low), np.uint8)


def shifted(picture: NDArray[np.uint8], right: int, down: int) -> NDArray[np.uint8]:
    return np.roll(picture, (down, right), axis=(0, 1))


# --- worth ------------------------------------------------------------------------------------

@pytest.mark.slow
def test_a_token_is_worth_what_the_answer_changes_without_it(
        pipeline: Pipeline, window: EvaluatedWindow, worth: Worth) -> None:
    vlm = pipeline.vlm
    assert worth.divergence.shape == (FRAMES, 28)
    assert worth.patch.shape == (FRAMES, 3, 6)
    # By hand, for one token: its columns are masked in the whole prompt, and nothing else is.
    place = int(np.argmax(worth.divergence))
    answer = brief(vlm.generate(window.prepared, stop_strings=[AFTER_RISK],
                                tokenizer=vlm.tokenizer).text)
    ids = torch.tensor(vlm.tokenizer(answer, add_special_tokens=False)['input_ids'])
    inputs = vlm.batch([window.prepared], [None], [answer])
    del inputs['labels']
    length = inputs['input_ids'].shape[1]
    slot = int(window.prepared.layout.visual_slots[place])
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    logits = []
    for hidden in (False, True):
        if hidden:
            seen[:, slot] = False
            seen[slot, slot] = True
        mask = torch.zeros(length, length).masked_fill(~seen, torch.finfo(torch.float32).min)
        with torch.inference_mode():
            # The prompt ends where the answer and the token that ends it begin.
            logits.append(vlm.model(**{**inputs, 'attention_mask': mask[None, None]},
                                    use_cache=False).logits[0, -len(ids) - 2:-2].log_softmax(-1))
    expected = float((logits[0].exp() * (logits[0] - logits[1])).sum())
    assert worth.divergence.ravel()[place] == pytest.approx(expected, rel=1e-3)
    assert worth.divergence.max() > 10 * np.median(worth.divergence) > 0.0


def test_hiding_costs_the_right_answer_what_its_likelihood_says(
        pipeline: Pipeline, window: EvaluatedWindow, worth: Worth) -> None:
    assert worth.loss is not None
    text = brief(pipeline.vlm.generate(window.prepared).text)
    everything = np.arange(FRAMES * 28, dtype=np.int32)
    for place in (0, int(np.argmax(worth.loss))):
        whole, without = log_likelihoods(
            pipeline.vlm, window.prepared, [everything], text)[0], log_likelihoods(
            pipeline.vlm, window.prepared, [np.delete(everything, place)], text)[0]
        assert worth.loss.ravel()[place] == pytest.approx(whole - without, abs=2e-3)


def test_a_gradient_is_that_of_the_loss(pipeline: Pipeline, window: EvaluatedWindow) -> None:
    answer = brief(pipeline.vlm.generate(window.prepared).text)
    found = gradient_of_tokens(pipeline.vlm, window.prepared, answer)
    assert found.shape == (FRAMES * 28,)
    # Tokens that nothing comes of have no gradient: features times zero.
    nothing = replace(window.prepared, tokens=torch.zeros_like(window.prepared.tokens))
    assert not gradient_of_tokens(pipeline.vlm, nothing, answer).any()


def test_patches_are_squares_of_neighbours_within_a_frame() -> None:
    patches = patch_cells(2, (3, 4))
    assert len(patches) == 2 * 2 * 3
    assert sorted(patches[0]) == [0, 1, 4, 5]
    assert sorted(patches[-1]) == [12 + 6, 12 + 7, 12 + 10, 12 + 11]


# --- motion -----------------------------------------------------------------------------------

def test_flow_of_a_shift_is_the_own_motion_and_leaves_nothing() -> None:
    picture = texture(1)
    found = motion_between(grey(picture), grey(shifted(picture, 5, -3)))
    middle = (slice(30, -30), slice(30, -30))
    assert np.median(found.flow[middle], axis=(0, 1)) == pytest.approx((5.0, -3.0), abs=0.3)
    assert np.median(found.own[middle], axis=(0, 1)) == pytest.approx((5.0, -3.0), abs=0.3)
    assert np.median(found.residual[middle]) < 0.05


def test_what_moves_by_itself_is_found_while_the_camera_moves() -> None:
    ground, thing = texture(2), texture(3)[:40, :50]
    frames = []
    for step in range(3):
        frame = shifted(ground, 4 * step, 0)
        frame[50:90, 100 - 6 * step:150 - 6 * step] = thing
        frames.append(frame)
    residual = residual_motion(np.stack(frames), GRID).reshape(3, *GRID)
    moving = residual[:, 1:3, 3:4].mean()
    still = residual[:, :, 5:].mean()
    assert moving > 3 * still


def test_tokens_are_carried_to_where_they_come_from() -> None:
    tokens = np.random.default_rng(0).normal(size=(28, 5)).astype(np.float32)
    # A cell is 32 pixels wide and high: what is here was one cell to the left and below.
    flow = np.broadcast_to(np.array([-32.0, 32.0], np.float32), (128, 224, 2)).copy()
    found = carried(tokens, flow, GRID).reshape(4, 7, 5)
    expected = tokens.reshape(4, 7, 5)
    np.testing.assert_allclose(found[:3, 1:], expected[1:, :6], rtol=1e-5)
    # Beyond the border the nearest cell stands in.
    np.testing.assert_allclose(found[3, 1:], expected[3, :6], rtol=1e-5)


def test_motion_taken_out_makes_a_shift_redundant() -> None:
    wide = np.random.default_rng(4).normal(size=(4, 8, 16)).astype(np.float32)
    picture = texture(5, 256, 10.0)
    frames = np.stack([picture[:, 32:], picture[:, :-32]])
    tokens = np.stack([wide[:, 1:].reshape(28, 16), wide[:, :-1].reshape(28, 16)])
    proposals = tuple(Proposal(np.ones((8, 14), np.float32), np.ones((1, 8, 14), np.float32))
                      for _ in frames)
    here, there = redundancy_of(WindowFeatures(frames, proposals, tokens, GRID))
    # All but the column that only one of both shows.
    inner = np.s_[:, :, 1:-1]
    assert here.reshape(2, 4, 7)[inner].mean() < 0.5
    assert np.median(there.reshape(2, 4, 7)[inner]) > 0.9


# --- scores -----------------------------------------------------------------------------------

def evidence_of(tokens: NDArray[np.float32]) -> WindowFeatures:
    frames, count, _ = tokens.shape
    proposals = tuple(Proposal(np.full((1, count), 0.5, np.float32),
                               np.ones((1, 1, count), np.float32)) for _ in range(frames))
    pictures = np.zeros((frames, 16, 16 * count, 3), np.uint8)
    return WindowFeatures(pictures, proposals, tokens, (1, count))


def test_scores_over_time_are_what_they_say() -> None:
    still, other, odd = (np.eye(4, dtype=np.float32)[place] for place in range(3))
    # Place 0 never changes, place 1 goes to and fro, place 2 shows something once.
    tokens = np.stack([np.stack([still, other, still]), np.stack([still, still, odd]),
                       np.stack([still, other, still])])
    evidence = evidence_of(tokens)
    assert temporal.volatility(evidence)[:, 0].tolist() == [0.0] * 3
    assert (temporal.volatility(evidence)[:, 1] > 0.0).all()
    assert (np.diff(temporal.volatility(evidence)[:, 1]) > 0.0).all()
    unique = temporal.uniqueness(evidence)
    assert unique[1, 2] == pytest.approx(1.0)
    assert np.delete(unique.ravel(), 5) == pytest.approx(0.0, abs=1e-6)
    explained = temporal.attention(evidence)
    assert explained[1, 2] == explained.max()
    assert explained[0, 0] == pytest.approx(0.0, abs=1e-4)
    assert temporal.change(evidence).tolist() == [[1, 1, 1], [0, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize('name', TEMPORAL_NAMES)
def test_methods_over_time_keep_exactly_the_budget(
        name: str, pipeline: Pipeline, window: EvaluatedWindow) -> None:
    method, = methods(pipeline.sparsifier, [name])
    keeps = [method.keep(window.evidence, budget) for budget in (1, 17, 56)]
    assert [len(keep) for keep in keeps if keep is not None] == [1, 17, 56]
    assert all(keep is not None and (np.diff(keep) > 0).all() for keep in keeps)


def test_one_frame_alone_is_no_trouble(pipeline: Pipeline, window: EvaluatedWindow) -> None:
    evidence = window.evidence
    alone = WindowFeatures(evidence.frames[:1], evidence.proposals[:1], evidence.tokens[:1], GRID,
                           path=np.zeros((1, 3)))
    for name in TEMPORAL_NAMES:
        keep = methods(pipeline.sparsifier, [name])[0].keep(alone, 5)
        assert keep is not None
        assert len(keep) == 5


# --- measure and figures ----------------------------------------------------------------------

def test_a_measure_learns_what_matters_and_nothing_of_the_scale() -> None:
    rng = np.random.default_rng(0)
    known = [rng.normal(size=(2, 50, 14)).astype(np.float32) * 7 + 3 for _ in range(44)]
    tops = [is_top(part[..., 0] - part[..., 4]) for part in known]
    measure = fit_measure(known[:40], tops[:40])
    for part, top in zip(known[40:], tops[40:]):
        logits = measure(torch.from_numpy(part)).detach().numpy()
        area = area_under_curve(logits.ravel(), 1.0 * top.ravel(), 1.0 - top.ravel())
        assert area is not None
        assert area > 0.95


def test_ranks_correlate() -> None:
    first = np.array([1.0, 2.0, 3.0, 10.0])
    assert rank_correlation(first, first ** 3) == pytest.approx(1.0)
    assert rank_correlation(first, -first) == pytest.approx(-1.0)
    assert rank_correlation(first, np.ones(4)) == 0.0
    # By hand: ranks 0 1 2 3 against 0.5 0.5 2 3.
    assert rank_correlation(first, np.array([1.0, 1.0, 2.0, 3.0])) == pytest.approx(
        4.5 / np.sqrt(5.0 * 4.5))


def test_the_effective_rank_counts_directions() -> None:
    assert effective_rank(np.concatenate([np.eye(6), -np.eye(6)])) == pytest.approx(6.0)
    assert effective_rank(np.outer(np.arange(9.0), np.ones(5))) == pytest.approx(1.0)


def test_a_model_that_writes_nothing_is_told(
        pipeline: Pipeline, window: EvaluatedWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.vlm.tokenizer, 'decode', lambda *ids, **options: '')
    with pytest.raises(VlmError, match='embedded writes nothing about a window'):
        worth_of_tokens(pipeline.vlm, window.prepared, FRAMES, GRID)


def test_windows_to_fit_to_and_to_judge_by_are_needed(
        pipeline: Pipeline, window: EvaluatedWindow, worth: Worth) -> None:
    with pytest.raises(ValueError, match='windows are needed to fit'):
        analyse(pipeline.sparsifier, [WorthWindow('val', window.evidence, worth, {})])


def test_redundancy_is_that_of_the_own_camera() -> None:
    here, there = (texture(6, 256, 10.0), texture(7, 256, 10.0))
    tokens = np.random.default_rng(8).normal(size=(2, 28, 16)).astype(np.float32)
    # Each camera sees in its newer frame what the other one has seen before.
    evidence = evidence_of(np.stack([tokens[0], tokens[1], tokens[1], tokens[0]]))._replace(
        frames=np.stack([here, there, there, here]), grid=GRID)
    cameras = np.array(['front', 'left'] * 2)
    same, _ = redundancy_of(evidence)
    assert same == pytest.approx(1.0, abs=1e-5)
    same, flown = camera_worth.redundancy_within(evidence, cameras)
    assert same.shape == flown.shape == (4, 28)
    assert abs(same).mean() < 0.5
    assert abs(flown).mean() < 0.5


def test_distance_counts_the_frames_in_between() -> None:
    tokens = np.random.default_rng(9).normal(size=(2, 28, 16)).astype(np.float32)
    evidence = evidence_of(tokens[[0, 1, 0]])._replace(
        frames=np.stack([texture(6, 256, 10.0)] * 3), grid=GRID)
    here, there = predictions(evidence)
    assert set(here) == set(there) == {(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)}
    worth = np.abs(np.stack([here[0, 1], here[1, 0], here[2, 1]]))
    first, second = by_distance(worth, here, there)
    assert abs(first['redundancy']) < 0.2
    assert second['redundancy'] == pytest.approx(1.0, abs=1e-5)
    assert second['carried'] == pytest.approx(1.0, abs=1e-4)


# --- the command ------------------------------------------------------------------------------

@pytest.mark.slow
def test_the_command_measures_goes_on_and_writes_the_page(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_worth, '_ANSWER_TOKENS', 8)
    # Two frames of each camera are the fewest of which one can predict the other.
    monkeypatch.setattr(camera_worth, 'camera_windows', lambda split, n, cameras: [
        make_camera_window(SPLITS[split][0], 'crossing traffic', 'high', cameras, frames=2)])
    model = tmp_path / 'tiny'
    create_checkpoint(model, ['a car ahead', 'brake'], vocab_size=600, text_hidden=48,
                      text_layers=2, text_heads=2, text_intermediate=96)
    line = ['eval', 'redundancy', '--model', str(model), '--n', '2', '--cameras', '1',
            '--adapter', '', '--budgets', '0.4,0.1', '--out', str(tmp_path / 'worth'), '--json']
    first = CliRunner().invoke(
        app, [*line, '--answered', '2', '--report', str(tmp_path / 'docs')])
    assert first.exit_code == 0, first.output
    files = {path: path.read_bytes() for path in (tmp_path / 'worth').iterdir()}
    assert sorted(path.name for path in files) == [
        *(f'cameras-{count}-0000.npz' for count in (1, 2, 3)),
        *(f'{split}-000{number}.npz' for split in ('test', 'val') for number in (0, 1))]
    page = (tmp_path / 'docs' / 'redundancy.md').read_text(encoding='utf-8')
    result = json.loads(first.stdout.splitlines()[-1])
    assert result['n'] == {'val': 2, 'test': 2}
    auc = result['auc']['test']
    assert auc['gradient'][0] > auc['random'][0]
    row = next(line for line in page.splitlines() if line.startswith('| importance |'))
    assert float(row.split('|')[3].split()[0]) == pytest.approx(auc['importance'][0], abs=5e-4)
    for name in ('redundancy.png', 'redundancy_conditions.png', 'redundancy.jpg'):
        picture = cv2.imread(str(tmp_path / 'docs' / name))
        assert picture is not None
        assert picture.std() > 10
    # The best of all other frames is at least as good as those of one distance.
    best = np.mean([age['redundancy'] for age in result['ages']['test']])
    distances = result['distances']['test']
    assert len(distances) == 4
    assert all(0.0 < far['redundancy'] <= best + 1e-3 for far in distances)
    assert sum(result['conditions']['all']['all']['tenths']) == pytest.approx(1.0, abs=1e-3)
    several = result['cameras']
    assert several['tokens'] == {'1': 56, '2': 112, '3': 168}
    assert several['figures']['1']['ahead_share'][0] == pytest.approx(1.0)
    assert 0.0 < several['figures']['3']['ahead_share'][0] < 1.0
    for count, shares in several['joint'].items():
        assert sum(shares) == pytest.approx(1.0, abs=1e-3)
        kept = several['figures'][count]
        assert kept['kept_0.1'][0] <= kept['kept_0.2'][0] < 1.0
    assert '| 1 camera, 56 tokens | 2 cameras, 112 tokens |' in page
    # What was measured is not measured again.
    assert CliRunner().invoke(app, line).exit_code == 0
    assert files == {path: path.read_bytes() for path in (tmp_path / 'worth').iterdir()}
