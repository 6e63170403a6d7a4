# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Teaching the proposal network what a language model uses, and what it finds afterwards."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

from all_commands import app
from bag_maker import drive, picture
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from typer.testing import CliRunner

from vts_ros.lab.evaluation.proposal_recall import find_rate, RecallTarget, rendered
from vts_ros.lab.scenes.cells import true_saliency
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.lab.training import distillation as distill_module
from vts_ros.lab.training.distillation import (
    DistillationError,
    Example,
    log_likelihoods,
    saliency_targets,
    Targets,
    use_of_tokens,
)
from vts_ros.paths import model_path
from vts_ros.sparsify import Proposal, Sparsifier
from vts_ros.sparsify.proposal_network import (
    INPUT_SIZE,
    load_net,
    MAP_SIZE,
    ProposalNet,
    resample,
    SALIENCY_PARTS,
)
from vts_ros.vlm import Prepared, Vlm
from vts_ros.vlm.prompts import describe_prompt

FRAME = model_path('proposal/frame.onnx')
FRAMES = 3
CELLS = MAP_SIZE[0] * MAP_SIZE[1]


@pytest.fixture(scope='module')
def vlm(model: str) -> Vlm:
    return Vlm.load(model_path(model))


@pytest.fixture(scope='module')
def prepared(vlm: Vlm) -> Prepared:
    features = [vlm.encode(picture(7 * index, 128, 224)) for index in range(FRAMES)]
    return vlm.prepare(features, [f'{index - FRAMES + 1}.0s' for index in range(FRAMES)],
                       describe_prompt())


# What a language model uses

def test_likelihoods_are_those_of_the_model(vlm: Vlm, prepared: Prepared) -> None:
    tokens = len(prepared.layout.visual_slots)
    answer = '{"risk": "low", "object": {"label": "car", "box": [0.10, 0.20'
    keeps = [np.arange(0, tokens, step, dtype=np.int32) for step in (1, 2, 5)]
    found = log_likelihoods(vlm, prepared, keeps, answer)
    for keep, value in zip(keeps, found):
        inputs = vlm.batch([prepared], [keep], [answer])
        with torch.inference_mode():
            logs = vlm.model(**inputs, use_cache=False).logits[0].log_softmax(-1)
        places = (inputs['labels'][0] != -100).nonzero()[:, 0].tolist()
        assert len(places) > 3
        expected = sum(logs[place - 1, inputs['labels'][0, place]].item()
                       for place in places[:-1])  # the last one ends the answer
        assert value == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize('grid', [(4, 7), (8, 14)])
def test_use_is_what_likelihoods_depend_on(monkeypatch: pytest.MonkeyPatch,
                                           grid: tuple[int, int]) -> None:
    truth = np.zeros((FRAMES, *grid))
    truth[1, 2:4, 4:6] = 1.0  # of which some is enough: a place or two where tokens are grouped
    truth[2, 0, 0] = -0.5
    rng = np.random.default_rng(0)

    def likelihoods(vlm: object, prepared: object, keeps: Sequence[NDArray[np.int32]],
                    answer: str) -> NDArray[np.float64]:
        return np.array([truth.ravel()[keep].sum() + rng.normal(0, 0.1) for keep in keeps])

    monkeypatch.setattr(distill_module, 'log_likelihoods', likelihoods)
    found = use_of_tokens(None, None, '', grid, FRAMES, 256, rng)  # type: ignore[arg-type]
    assert found.shape == (FRAMES, *grid)
    used = found[1, 2:4, 4:6]
    assert used.min() > 0.6
    assert found[2, 0, 0] < -0.2
    rest = found.copy()
    rest[1, 2:4, 4:6] = rest[2, :2, :2] = 0.0
    assert np.abs(rest).max() < 0.35


def test_halves_hide_as_much_as_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NDArray[np.int32]] = []

    def likelihoods(vlm: object, prepared: object, keeps: Sequence[NDArray[np.int32]],
                    answer: str) -> NDArray[np.float64]:
        seen.extend(keeps)
        return np.zeros(len(keeps))

    monkeypatch.setattr(distill_module, 'log_likelihoods', likelihoods)
    use_of_tokens(None, None, '', (4, 7), FRAMES, 7,  # type: ignore[arg-type]
                  np.random.default_rng(1))
    assert len(seen) == 8
    for half, other in zip(seen[::2], seen[1::2]):
        assert len(half) == len(other) == 42
        assert sorted([*half, *other]) == list(range(84))
    assert len({tuple(half) for half in seen}) == 8


def test_targets_do_not_magnify_noise() -> None:
    frames = np.zeros((2, 128, 224, 3), np.uint8)
    large, noise = np.zeros((2, *MAP_SIZE), np.float32), np.full((2, *MAP_SIZE), -0.1, np.float32)
    large[0, 3, 5] = 4.0
    noise[1, 2, 2] = 0.02
    targets = saliency_targets([Example(frames, large, None), Example(frames, large, None),
                                Example(frames, noise, None)])
    assert targets[0][0, 3, 5] == 1.0
    assert targets[0].sum() == 1.0
    assert targets[2].max() < 0.01
    assert targets[2].min() == 0.0


# The network

def test_the_exported_network_can_be_trained_further() -> None:
    net = load_net(FRAME)
    rgb = picture(3, 128, 224)
    expected = Sparsifier().propose(rgb)
    with torch.no_grad():
        saliency, embedding = net(torch.from_numpy(rgb[np.newaxis]))
    np.testing.assert_allclose(saliency[0].numpy(), expected.saliency, atol=1e-4)
    np.testing.assert_allclose(embedding[0].numpy(), expected.embedding, atol=1e-3)


def test_another_graph_is_refused() -> None:
    with pytest.raises(ValueError, match='no export of this'):
        load_net(FRAME.with_name('window.onnx'))


@pytest.mark.slow
@pytest.mark.parametrize('targets', ['use', 'truth'])
def test_what_matters_is_learned_and_looks_stay(tmp_path: Path, targets: Targets) -> None:
    examples = []
    for index in range(6):
        frames = np.stack([picture(9 * index + frame, 128, 224) for frame in range(2)])
        matters, other = np.zeros((2, 2, *MAP_SIZE), np.float32)
        matters[:, 6, 2] = 1.0  # a place, whatever it shows
        other[:, 1, 11] = 1.0
        use, truth = (matters, other) if targets == 'use' else (other, matters)
        examples.append(Example(frames, use, None, truth))
    distill_module._train(examples, tmp_path / 'out', tmp_path, 24, 2, 0, targets)
    before, after = Sparsifier(), Sparsifier.load(tmp_path / 'out')
    rgb = picture(4, 128, 224)
    old, new = before.propose(rgb), after.propose(rgb)
    before_share, after_share = (
        proposal.saliency[6, 2] / proposal.saliency.mean() for proposal in (old, new))
    assert after_share > 2.0 * before_share
    row, column = np.unravel_index(new.saliency.argmax(), MAP_SIZE)
    assert max(abs(row - 6), abs(column - 2)) <= 1
    assert (new.embedding * old.embedding).sum(axis=0).mean() > 0.9


def test_a_saliency_begun_anew_has_forgotten_the_shipped_one() -> None:
    shipped, anew = load_net(FRAME).state_dict(), load_net(FRAME)
    torch.manual_seed(3)
    distill_module._forget_saliency(anew)
    torch.manual_seed(3)
    fresh = ProposalNet().state_dict()
    for name, value in anew.state_dict().items():
        is_saliency = name.startswith(SALIENCY_PARTS)
        assert torch.equal(value, (fresh if is_saliency else shipped)[name]), name
    # The weights of a network that has learned nothing are not those of the shipped one.
    for name in ('hidden.0.weight', 'seen_head.weight', 'place_head.weight'):
        assert not torch.allclose(fresh[name], shipped[name]), name


# The whole way

@pytest.mark.slow
def test_distillation_from_the_command_line_resumes(
        model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = drive(tmp_path / 'bag', 30, broken=20)
    work = tmp_path / 'work'
    command = ['train', 'proposal', '--bag', str(bag), '--vlm', model, '--windows', '6',
               '--passes', '4', '--steps', '1', '--work', str(work)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert f'VTS_MODELS_DIR={work / "models"}' in done.output.replace('\n', '')
    report = json.loads((work / 'models' / 'proposal' / 'holdout.json').read_text())
    examples = sorted((work / 'use').glob('*.npz'))
    assert 3 <= len(examples) <= 5  # the windows with the broken picture are left out
    assert report['n'] + report['train'] <= len(examples)
    for name in ('shipped', 'trained'):
        assert set(report[name]['use_recall']) == {'0.8', '0.6', '0.4', '0.2', '0.1'}
        assert report[name]['n'] == report['n']
    example = Example.load(examples[0])
    assert example.frames.shape == (5, *INPUT_SIZE, 3)
    assert np.abs(example.use).max() > 0.0

    # Only what is missing is asked again.
    examples[0].unlink()
    asked: list[Any] = []

    def use(*given: Any) -> NDArray[np.float32]:
        asked.append(given)
        return use_of_tokens(*given)

    monkeypatch.setattr(distill_module, 'use_of_tokens', use)
    assert CliRunner().invoke(app, command).exit_code == 0
    assert len(asked) == 1
    np.testing.assert_allclose(Example.load(examples[0]).use, example.use, atol=1e-4)

    other = CliRunner().invoke(app, [*command[:-4], '--passes', '6', '--work', str(work)])
    assert isinstance(other.exception, DistillationError)
    assert 'a run with other passes' in str(other.exception)


@pytest.mark.slow
def test_rendered_windows_are_distilled_and_compared_with_their_truth(
        model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / 'work'
    command = ['train', 'proposal', '--vlm', model, '--windows', '5', '--passes', '4', '--steps',
               '1', '--work', str(work), '--anew']
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    examples = [Example.load(path) for path in sorted((work / 'use').glob('*.npz'))]
    assert len(examples) == 5
    for number, example in enumerate(examples):
        scene = next(balanced_scenes('train', 1, 10_000_000 + number))
        clip = render_window(scene)
        seen = resample(torch.from_numpy(clip.frames)).round().to(torch.uint8).numpy()
        assert (example.frames == seen).all()
        assert example.truth is not None
        assert (example.truth == np.stack(
            [true_saliency(truth, *MAP_SIZE) for truth in clip.truths])).all()
        assert np.abs(example.use).max() > 0.0
    report = json.loads((work / 'models' / 'proposal' / 'holdout.json').read_text())
    # All but the ones held out are learned from: no two of them share a frame.
    assert (report['n'], report['train']) == (1, 4)
    assert report['settings']['targets'] == 'use'

    # What the model uses is known, so the truth is learned without it, and is something else.
    def load(*given: Any, **options: Any) -> Vlm:
        raise AssertionError('the model was asked again')

    monkeypatch.setattr(Vlm, 'load', load)
    taught = tmp_path / 'taught'
    done = CliRunner().invoke(app, [*command, '--targets', 'truth', '--out', str(taught)])
    assert done.exit_code == 0, done.output
    frames = [(folder / 'frame.onnx').read_bytes()
              for folder in (work / 'models' / 'proposal', taught)]
    assert frames[0] != frames[1]


def test_a_recording_has_no_truth(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ['train', 'proposal', '--bag', str(tmp_path), '--targets',
                                    'truth', '--work', str(tmp_path / 'work')])
    assert isinstance(done.exception, DistillationError)
    assert 'truth about a recording' in str(done.exception)
    assert CliRunner().invoke(app, ['train', 'proposal', '--anew']).exit_code == 2


def test_a_short_recording_is_too_little(model: str, tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 9)
    done = CliRunner().invoke(app, [
        'train', 'proposal', '--bag', str(bag), '--vlm', model, '--windows', '1', '--passes', '2',
        '--work', str(tmp_path / 'work')])
    assert isinstance(done.exception, DistillationError)
    assert 'too few' in str(done.exception)


# What is found

def _window(saliency: NDArray[np.float64], worth: Sequence[float],
            tokens: Sequence[tuple[int, int]], use: NDArray[np.float32] | None = None
            ) -> RecallTarget:
    frames = len(saliency)
    embedding = np.zeros((48, *MAP_SIZE), np.float32)
    embedding[0] = 1.0
    found = np.zeros((frames, CELLS), bool)
    for frame, token in tokens:
        found[frame, token] = True
    return RecallTarget(tuple(Proposal(values.reshape(MAP_SIZE).astype(np.float32), embedding)
                              for values in saliency), np.array(worth, np.float32), found, use)


def test_rates_by_hand() -> None:
    saliency = np.full((2, CELLS), 0.1)
    saliency[1] = 0.2
    saliency[0, :10] = 0.9  # of frame 0, the first ten tokens matter most
    use = np.zeros((2, CELLS), np.float32)
    use[0, 5], use[0, 50] = 3.0, 1.0
    windows = [
        _window(saliency, (0.1, 1.0), [(0, 4), (0, 60), (1, 3), (1, 9)], use),
        _window(saliency, (1.0, 0.89), []),
        _window(saliency, (1.0, 0.9), [(0, 2)]),
        _window(saliency, (0.0, 0.0), []),
    ]
    # Frame 1 is the key frame and whole; at a half and 5 %, ten more tokens are kept.
    whole = Sparsifier(search_radius=0, key_share=1.0, newest_share=0.0)
    found = find_rate(whole, windows, MAP_SIZE, (0.5 + 10 / (2 * CELLS), 0.5))
    assert found['n'] == 4
    assert found['key_frame_hit_rate'] == pytest.approx(2 / 3, abs=1e-4)
    high, low = found['object_recall'].values()
    assert high == pytest.approx((0.75 + 1.0) / 2)
    assert low == pytest.approx((0.5 + 0.0) / 2)
    assert list(found['use_recall'].values()) == [0.75, 0.0]


def test_rendered_windows_know_their_object() -> None:
    windows = list(rendered(Sparsifier(), 'val', 8, (4, 7)))
    assert len(windows) == 8
    with_object = [window for window in windows if window.worth.max() > 0.0]
    # A quarter of the windows has no risk.
    assert len(with_object) == 6
    for window in windows:
        assert window.object.shape == (5, 28)
        assert window.object.any() == (window.worth.max() > 0.0)


@pytest.mark.slow
def test_eval_proposal_from_the_command_line(model: str) -> None:
    done = CliRunner().invoke(app, ['eval', 'proposal', '--model', model, '--n', '8',
                                    '--budgets', '1,0.4', '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output.splitlines()[-1])
    assert result['n'] == 8
    assert result['object_recall']['1'] == 1.0
    grid = tuple(result['grid'])
    sparsifier = Sparsifier()
    expected = find_rate(
        sparsifier, rendered(sparsifier, 'test', 8, grid), grid, (1.0, 0.4))
    assert {name: result[name] for name in expected} == expected
    # At random it is 40 % of the object.
    assert result['object_recall']['0.4'] > 0.8
    assert result['key_frame_hit_rate'] >= 0.5
