# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows of a warehouse: seeded, clear, with a truth that is that of the pictures."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

from conftest import ROOT
import numpy as np
import pytest
import torch

from vts_ros.errors import TaskError
from vts_ros.lab.evaluation.task_evaluation import (
    check_rendered,
    gains,
    grades,
    kept,
    size_mb,
    task_windows,
    wanted_answers,
)
from vts_ros.lab.scenes import risk_rule as risk
from vts_ros.lab.scenes.clips import SPLITS
from vts_ros.lab.scenes.silhouette import silhouette
from vts_ros.lab.scenes.warehouse_answers import answer_of, write_answered
from vts_ros.lab.scenes.warehouse_clips import (
    balanced_warehouse,
    make_warehouse,
    render_warehouse,
    ROBOT,
    WarehouseWindow,
)
from vts_ros.lab.scenes.warehouse_stage import LABELS, WAREHOUSE_FAMILIES
from vts_ros.lab.training.adapter_lessons import AdapterCourse
from vts_ros.lab.training.adapter_weights import adapted_network, go_on_from, untaught_tokens
from vts_ros.lab.training.answered_windows import read_answers, with_pictures
from vts_ros.paths import model_path
from vts_ros.pipeline.guard import SIGNATURE_LIMIT
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.signature import strength
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.answers import Answer, parse, render
from vts_ros.vlm.tasks import load_task


@cache
def windows() -> tuple[WarehouseWindow, ...]:
    return tuple(balanced_warehouse('val', 8))


def test_a_seed_gives_the_same_window_and_splits_share_none() -> None:
    again, = balanced_warehouse('val', 1, first=3)
    assert np.array_equal(again.frames, windows()[3].frames)
    assert again.truth == windows()[3].truth
    assert again.scene.seed == SPLITS['val'][3]
    train, = balanced_warehouse('train', 1, first=3)
    assert not np.array_equal(train.frames, again.frames)


@pytest.mark.parametrize('family', WAREHOUSE_FAMILIES)
def test_the_truth_follows_from_the_time_to_reach(family: str) -> None:
    for level in WAREHOUSE_FAMILIES[family].levels:
        scene, truth = make_warehouse(7, family, level)
        assert truth.risk == level
        assert (truth.label is None) == (level == 'none')
        if truth.label is None:
            continue
        assert truth.label in family or family == 'pallet on the floor'
        t = float(scene.times[-1])
        s, v, _ = scene.ego.at(t)
        body, = (body for body in scene.bodies if body.id in scene.hazards)
        mover = risk.mover(body, t, s)
        assert mover is not None
        assert mover.near > 0.0
        limits = {'high': (0.0, 2.0), 'medium': (2.0, 4.0), 'low': (4.0, 6.0)}[level]
        if truth.reach_sec is not None:
            assert limits[0] < truth.reach_sec <= limits[1]
            if truth.motion == 'stopped':
                # The rule and a simple division agree.
                assert truth.reach_sec == pytest.approx(mover.near / v, abs=0.06)
        state = body.state(t)
        aside = abs(state.d) - state.half_d > ROBOT.width_m / 2 + risk.CLEARANCE_M
        assert truth.place == ('ahead' if not aside else 'left' if state.d > 0 else 'right')


def test_the_box_holds_the_object_and_nothing_else() -> None:
    for window in windows():
        if window.truth.box is None:
            continue
        body, = (body for body in window.scene.bodies if body.id in window.scene.hazards)
        shown = silhouette(window.scene, 4, body)
        rows, columns = np.nonzero(shown)
        left, top, right, bottom = window.truth.box
        assert (columns.min() / 448, rows.min() / 256) == (left, top)
        assert ((columns.max() + 1) / 448, (rows.max() + 1) / 256) == (right, bottom)
        # Without it the pixels of its box differ, and few others.
        without = render_warehouse(window.scene.__class__(**{
            **vars(window.scene), 'bodies': tuple(
                other for other in window.scene.bodies if other is not body)}), window.truth)
        differs = np.abs(without.frames[4].astype(int) - window.frames[4]).max(axis=2) > 12
        found = np.nonzero(differs)
        assert len(found[0])
        inside = ((found[1] / 224 > left - 0.03) & (found[1] / 224 < right + 0.03)
                  & (found[0] / 128 > top - 0.03) & (found[0] / 128 < bottom + 0.06))
        assert inside.mean() > 0.95


def test_racks_hide_what_comes_out_of_a_blind_corner() -> None:
    found = Counter(make_warehouse(seed, family, 'medium')[1].motion
                    for seed in range(12) for family in ('person crossing', 'robot crossing'))
    assert found['emerging']
    assert found['crossing']
    assert found.keys() <= {'emerging', 'crossing'}


def test_pictures_have_the_signature_of_the_renderer() -> None:
    assert all(strength(frame) > SIGNATURE_LIMIT
               for window in windows()[:4] for frame in window.frames)


def test_answers_are_in_the_form_of_the_task_and_are_learned_from(tmp_path: Path) -> None:
    form = load_task('warehouse').form
    assert form.texts['label'] == {'enum': list(LABELS)}
    assert write_answered(tmp_path, windows()[:3]) == 3
    counters: Counter[str] = Counter()
    read = read_answers(tmp_path, counters)
    assert not counters
    for window, (answered, frames) in zip(windows(), with_pictures(read), strict=False):
        wanted = answer_of(window.truth)
        assert parse(render(answered.answer, of_task=form), of_task=form).label == wanted.label
        assert (answered.answer.risk, answered.answer.explanation) == (
            wanted.risk, wanted.explanation)
        assert answered.answer.box == (
            window.truth.box and pytest.approx(window.truth.box, abs=1e-4))
        for frame, picture in zip(frames, window.frames, strict=True):
            assert np.abs(frame.rgb().astype(int) - picture).mean() < 8.0


def test_gains_are_those_of_the_same_windows(tmp_path: Path) -> None:
    shown = list(task_windows('val', 4))
    stamps = [frame.key for window in shown for frame in window.frames]
    assert len(set(stamps)) == len(stamps)
    right = [window.wanted for window in shown]
    wrong = [Answer() for _ in shown]
    assert wanted_answers('val', 4) == right
    assert grades(right, right)['level'][0] == 1.0
    assert gains(right, wrong, right)['level'] == [1.0, [1.0, 1.0]]
    assert gains(right, right, right)['object'] == [0.0, [0.0, 0.0]]
    assert kept(tmp_path / 'work/a.json', lambda: right) == right
    assert kept(tmp_path / 'work/a.json', lambda: wrong) == right
    check_rendered('warehouse')
    with pytest.raises(TaskError, match=r"no windows of the task 'yard' can be rendered"):
        check_rendered('yard')


def test_words_that_a_model_never_learned_get_embeddings(tmp_path: Path) -> None:
    vlm = Vlm.load('models/embedded')
    assert not untaught_tokens(vlm, ['{"risk": "high", "object": {"label": "pedestrian"}'])
    text = render(Answer('We see nobody.', 'high', 'forklift', (0.1, 0.2, 0.3, 0.4),
                         'The way is clear.', 'keep going'))
    untaught = untaught_tokens(vlm, [text])
    spelled = vlm.tokenizer('forklift', add_special_tokens=False)['input_ids']
    assert set(untaught) == set(spelled)
    ids = torch.tensor([vlm.tokenizer(text)['input_ids']])
    plain = vlm.model(input_ids=ids).logits.detach()
    adapted = adapted_network(vlm, AdapterCourse(rank=2), untaught)
    torch.manual_seed(0)
    learned = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert all('lora_' in name or 'trainable_tokens' in name for name in learned)
    assert any('trainable_tokens' in name for name in learned)
    with torch.no_grad():
        for weight in learned.values():
            weight += 0.1 * torch.randn_like(weight)
    unmerged = adapted(input_ids=ids).logits.detach()
    adapted.save_pretrained(tmp_path)
    merged = Vlm.load('models/embedded', adapter=tmp_path).model
    # Head and embedding are still one, as in the model.
    assert merged.get_input_embeddings().weight is merged.get_output_embeddings().weight
    torch.testing.assert_close(merged(input_ids=ids).logits, unmerged, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(unmerged, plain, atol=0.1)
    # Another training goes on from there, if it has the same shape.
    again = adapted_network(Vlm.load('models/embedded'), AdapterCourse(rank=2), untaught)
    go_on_from(again, tmp_path)
    assert torch.equal(again(input_ids=ids).logits, unmerged)
    with pytest.raises(VlmError, match=r'cannot be gone on from|another shape'):
        go_on_from(adapted_network(Vlm.load('models/embedded'), AdapterCourse(rank=3), untaught),
                    tmp_path)


@pytest.mark.slow
def test_the_shipped_adapter_is_small_and_answers_in_the_words_of_the_task() -> None:
    folder = model_path('warehouse_adapter')
    assert size_mb(folder) < 8.0
    assert str(ROOT) not in (folder / 'adapter_config.json').read_text(encoding='utf-8')
    pipeline = Pipeline.load(PipelineConfig(task='warehouse', adapter='warehouse_adapter',
                                            threads=1))
    # Of those that it has learned: whether it is the file that it should be.
    shown = list(task_windows('train', 8))
    reports = [pipeline.describe(window.frames) for window in shown]
    # Its guard lets its own kind of pictures pass, but for a few that are rare in it.
    assert sum(bool(report.in_distribution) for report in reports) >= 7
    assert {report.answer.label for report in reports} <= {None, *LABELS}
    # Always saying the most frequent level is right twice.
    assert grades([window.wanted for window in shown], [
        report.answer for report in reports])['level'][0] >= 0.5
