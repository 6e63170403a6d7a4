# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Teaching the saliency of the proposal network what a measure of importance says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import json
from pathlib import Path

from all_commands import app
from bag_maker import picture
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from vts_ros.lab.evaluation import token_worth
from vts_ros.lab.evaluation.proposal_networks import about_network
from vts_ros.lab.rivals.worth_measure import WorthMeasure
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.lab.training import importance_training
from vts_ros.lab.training.importance_training import (
    ImportanceError,
    Lesson,
    targets,
    token_saliency,
)
from vts_ros.lab.training.loop import Schedule
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.paths import model_path
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.proposal_network import load_net, MAP_SIZE, ProposalNet, SALIENCY_PARTS

GRID = (4, 7)


def test_targets_have_the_order_of_the_measure_and_the_values_of_the_saliency() -> None:
    rng = np.random.default_rng(0)
    measure, salient = rng.normal(size=(2, 6, 3, *GRID))
    # The newest frames are more important by far: the network cannot know which these are.
    measure[:, 2] += 10.0
    found = targets(measure, salient)
    for age in range(3):
        assert np.sort(found[:, age], axis=None) == pytest.approx(
            np.sort(salient[:, age], axis=None))
        assert (np.argsort(found[:, age], axis=None)
                == np.argsort(measure[:, age], axis=None)).all()


def test_tokens_are_as_salient_as_in_the_window_step() -> None:
    proposal = Sparsifier().propose(picture(3, 128, 224))
    wanted = Sparsifier(alpha=0.0).choose([proposal], GRID, 1).score[0]
    found = token_saliency(torch.from_numpy(np.asarray(proposal.saliency))[None], GRID)
    np.testing.assert_allclose(found[0].flatten().numpy(), wanted, atol=1e-6)


def test_what_matters_is_learned_and_looks_stay_bit_for_bit(tmp_path: Path) -> None:
    shipped = model_path('proposal/frame.onnx')
    net, before = load_net(shipped), load_net(shipped)
    frames = np.stack([picture(9 * index, 128, 224) for index in range(8)])
    measure = np.zeros((4, 2, *GRID), np.float32)
    measure[..., 3, 1] = 5.0
    with torch.inference_mode():
        features = net.features(torch.from_numpy(frames)).numpy().astype(np.float16)
    lessons = [Lesson(features[2 * index:2 * index + 2], measure[index],
                      np.zeros((2, 28), bool), np.zeros(2, np.float32)) for index in range(4)]
    importance_training._train(net, before, lessons, tmp_path / 'state.pt',
                               Schedule(60, learning_rate=3e-3, warmup=5), 4, {'seed': 0})
    with torch.inference_mode():
        old, new = (network(torch.from_numpy(frames)) for network in (before, net))
    assert torch.equal(old[1], new[1])
    before_share, after_share = (
        (tokens[:, 3, 1] / tokens.mean(dim=(1, 2))).mean().item()
        for tokens in (token_saliency(maps[0], GRID) for maps in (old, new)))
    assert after_share > 1.5 * before_share
    for name, value in before.state_dict().items():
        is_same = torch.equal(value, net.state_dict()[name])
        assert is_same or name.startswith(SALIENCY_PARTS), name


def test_half_way_is_the_mean_of_all_weights() -> None:
    before, after = (load_net(model_path('proposal/frame.onnx')) for _ in range(2))
    moves = {'seen_head.weight': 2.0, 'hidden.1.bias': -1.0}
    with torch.no_grad():
        for name, value in after.named_parameters():
            value.add_(moves.get(name, 0.0))
    found = importance_training.half_way(before, after).state_dict()
    for name, value in before.state_dict().items():
        wanted = value + moves[name] / 2.0 if name in moves else value
        torch.testing.assert_close(found[name], wanted)


@pytest.mark.slow
def test_the_command_learns_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # How long answers are is tested elsewhere.
    monkeypatch.setattr(token_worth, '_ANSWER_TOKENS', 4)
    work, worth = tmp_path / 'work', tmp_path / 'worth'
    tiny = tmp_path / 'tiny'
    create_checkpoint(tiny, ['a car ahead', 'brake'], vocab_size=600, text_hidden=48,
                      text_layers=2, text_heads=2, text_intermediate=96)
    command = ['train', 'proposal', '--vlm', str(tiny), '--targets', 'importance', '--windows',
               '6', '--fit', '2', '--worth', str(worth), '--steps', '2', '--work', str(work)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in worth.iterdir()) == ['train-0000.npz', 'train-0001.npz']
    judged = sorted((work / 'importance').glob('*.npz'))
    assert len(judged) == 6
    out = work / 'models' / 'proposal'
    report = json.loads((out / 'holdout.json').read_text(encoding='utf-8'))
    assert (report['n'], report['train']) == (1, 5)
    assert all(report[name]['n'] == 1 for name in ('shipped', 'trained', 'whole way'))
    assert 'a measure, fitted to 2 windows' in about_network(out)
    with np.load(judged[1]) as found:
        clip = render_window(next(balanced_scenes('train', 1, 910_000_001)))
        with torch.inference_mode():
            features = load_net(model_path('proposal/frame.onnx')).features(
                torch.from_numpy(clip.frames)).numpy()
        np.testing.assert_allclose(found['features'], features, rtol=2e-3, atol=2e-3)
        assert found['measure'].shape == (5, *GRID)
    # Only the saliency of the exported network is another.
    rgb = picture(4, 128, 224)
    old, new = Sparsifier().propose(rgb), Sparsifier.load(out).propose(rgb)
    assert (old.embedding == new.embedding).all()
    assert new.saliency.shape == MAP_SIZE
    assert (old.saliency != new.saliency).any()

    # Only what is missing is judged again.
    judged[1].unlink()
    numbers: list[int] = []
    whole = importance_training._judged

    def judged_again(pipeline: Pipeline, net: ProposalNet, measure: WorthMeasure,
                     missing: Sequence[int]) -> Iterator[tuple[int, Lesson]]:
        numbers.extend(missing)
        return whole(pipeline, net, measure, missing)

    monkeypatch.setattr(importance_training, '_judged', judged_again)
    assert CliRunner().invoke(app, command).exit_code == 0
    assert numbers == [1]
    other = CliRunner().invoke(app, [*command[:-6], '--worth', str(worth), '--work', str(work),
                                     '--fit', '3'])
    assert isinstance(other.exception, ImportanceError)
    assert 'another measure' in str(other.exception)


def test_importance_is_about_rendered_windows_and_enough_of_them(tmp_path: Path) -> None:
    command = ['train', 'proposal', '--vlm', 'embedded', '--targets', 'importance',
               '--work', str(tmp_path)]
    assert CliRunner().invoke(app, [*command, '--bag', str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(app, [*command, '--anew']).exit_code == 2
    few = CliRunner().invoke(app, [*command, '--windows', '2'])
    assert isinstance(few.exception, ImportanceError)
    assert 'too few' in str(few.exception)
