# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training: targets, shards, the loop, and both models for a few steps."""

from collections.abc import Iterator
import contextlib
import copy
from dataclasses import replace
import json
from pathlib import Path
import shutil
import time
from types import SimpleNamespace
from typing import Any, cast
import weakref

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import nn

from vts_ros.lab.evaluation.proposal_recall import NOTE
from vts_ros.lab.scenes import sentences
from vts_ros.lab.scenes.cells import overlaps, true_saliency
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.model_picture import ModelPicture, PictureSizeError
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.lab.scenes.scene_truth import Actor, FrameTruth, LABELS, MOTIONS
from vts_ros.lab.teacher import RoadUser
from vts_ros.lab.training import endless_windows, labelled_pictures, vlm_training, window_losses
from vts_ros.lab.training import shards as shards_module
from vts_ros.lab.training.cell_targets import by_token, cell_targets, CellTargets
from vts_ros.lab.training.endless_windows import EndlessWindows
from vts_ros.lab.training.fast_forward import FastVision, patches, prepare_text, read
from vts_ros.lab.training.frozen_features import Features
from vts_ros.lab.training.gpu_course import train_on_gpu
from vts_ros.lab.training.labelled_pictures import (
    KINDS,
    over_name,
    render_pictures,
    RenderedPictures,
    RoadPictures,
)
from vts_ros.lab.training.loop import fit, Losses, Schedule
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.lab.training.other_cameras import another_moment, another_view, Thing
from vts_ros.lab.training.proposal_training import (
    begin_with,
    learn_features,
    Recipe,
    train_proposal,
)
from vts_ros.lab.training.shards import render_shards, Shards
from vts_ros.lab.training.vlm_training import Course, Steps, train_vlm
from vts_ros.pipeline import signature
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.proposal_network import load_net, ProposalNet
from vts_ros.vlm import Vlm
from vts_ros.vlm.prompts import describe_prompt


def _actor(label: str, box: tuple[float, float, float, float], distance_m: float,
           is_risk: bool = False) -> Actor:
    return Actor(1, label, box, 1.0, distance_m, 0.0, 0.0, 'stopped', is_risk)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('shards')
    shards_module.render_shard(shards_module.Job(
        folder / 'train-0000.npy', 'train', 0, 8, ModelPicture()))
    return folder


def test_overlaps_are_areas_in_cells() -> None:
    shared, area = overlaps((0.25, 0.0, 0.75, 1.0), 1, 2)
    np.testing.assert_allclose(shared, [[0.5, 0.5]])
    assert area == pytest.approx(1.0)


def test_the_nearer_actor_owns_the_cell() -> None:
    far = _actor('truck', (0.0, 0.0, 1.0, 1.0), 30.0)
    near = _actor('car', (0.5, 0.0, 1.0, 1.0), 10.0)
    targets = cell_targets(FrameTruth(0, 10.0, (near, far)), 2, 2)
    truck, car = 1 + LABELS.index('truck'), 1 + LABELS.index('car')
    assert targets.label.tolist() == [[truck, car], [truck, car]]
    assert targets.distance[0, 1] == pytest.approx(np.log(10.0))
    assert (targets.motion == 1 + MOTIONS.index('stopped')).all()


def test_small_actors_claim_a_cell_and_empty_ones_stay_background() -> None:
    speck = _actor('child', (0.51, 0.51, 0.53, 0.55), 40.0, is_risk=True)
    targets = cell_targets(FrameTruth(0, 10.0, (speck,)), 4, 7)
    assert (targets.label > 0).sum() == 1 == targets.risk.sum()


def test_approach_is_measured_against_the_picture_before() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    before = FrameTruth(0, 10.0, (_actor('car', box, 22.0),))
    now = FrameTruth(500_000_000, 10.0, (replace(_actor('car', box, 20.0), lateral_m=-1.0),))
    closing, sideways = cell_targets(now, 1, 1, before).approach[0, 0]
    assert closing == pytest.approx(4.0 / 20.0)
    assert sideways == pytest.approx(-2.0 / 5.0)
    assert np.isnan(cell_targets(now, 1, 1).approach).all()


def test_saliency_is_highest_at_the_risk_object() -> None:
    risk = _actor('pedestrian', (0.5, 0.4, 0.56, 0.7), 10.0, is_risk=True)
    other = _actor('car', (0.0, 0.4, 0.2, 0.6), 10.0)
    target = true_saliency(FrameTruth(0, 10.0, (risk, other)), 8, 14)
    assert target.shape == (8, 14)
    assert target.max() == 1.0
    assert 0.0 < target[4, 1] < 1.0
    assert target[7, 13] == 0.0


def test_shards_come_back_as_rendered(folder: Path) -> None:
    data = Shards(folder)
    assert len(data) == 8
    sample = data[3]
    assert sample.frames.shape == (5, 128, 224, 3)
    assert sample.frames.dtype == np.uint8
    assert sample.frames.std() > 10.0
    assert sample.window.actors == sample.truths[-1].actors
    # Levels are balanced: each pair of four holds them all.
    assert {data[index].window.risk for index in range(4)} == {'none', 'low', 'medium', 'high'}


def test_rendering_goes_on_where_it_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, 'SHARD_WINDOWS', 8)
    before = (folder / 'train-0000.npy').stat().st_mtime_ns
    done: list[int] = []
    render_shards(folder, 'train', 8, workers=1, progress=done.append)
    assert sum(done) == 8
    assert (folder / 'train-0000.npy').stat().st_mtime_ns == before


def test_windows_of_another_size_are_refused(folder: Path) -> None:
    with pytest.raises(PictureSizeError, match='--picture-size 224x128'):
        render_shards(folder, 'train', 1, picture=ModelPicture.of('448x256'))


@pytest.mark.slow
def test_windows_come_without_end_and_only_once(tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endless_windows, '_WINDOWS', 4)
    picture = ModelPicture.of('448x256')
    data = EndlessWindows(tmp_path, picture, 1)
    order = data.order(2, 0)
    steps = [order(step, 5) for step in range(5)]
    first = min(steps[0] + steps[1])
    assert sorted(index for step in steps[:4] for index in step) == [*range(first, first + 8)]
    assert not {*steps[0]} & {*order(0, 4)}
    try:
        sample = data[steps[0][1]]
        data.frames(steps[2][0])
        folders = [tmp_path / str(first // 4 + number) for number in range(2)]
        assert all(folder.exists() for folder in folders)
        data.frames(steps[4][0])
        assert [folder.exists() for folder in folders] == [False, True]
    finally:
        data.close()
    assert not list(tmp_path.iterdir())
    assert sample.cells.label.shape == (5, 8, 14)
    drawn = render_window(next(balanced_scenes('train', 1, steps[0][1])), picture=picture)
    np.testing.assert_array_equal(sample.frames[2], signature.remove(drawn.frames[2]))


def test_a_folder_without_shards_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no rendered windows'):
        Shards(tmp_path)


@pytest.fixture(scope='module')
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    folder = tmp_path_factory.mktemp('checkpoint')
    create_checkpoint(folder, ['a text'], vocab_size=600)
    return Vlm.load(folder, dtype='float32')


def test_the_fast_encoder_is_the_encoder(vlm: Vlm, folder: Path) -> None:
    frames = Shards(folder)[0].frames
    with torch.inference_mode():
        tokens, deepstack = FastVision(vlm.model.model.visual, 128, 224)(torch.from_numpy(frames))
    for number, frame in enumerate(frames):
        expected = vlm.encode(frame)
        torch.testing.assert_close(tokens[number], expected.tokens)
        torch.testing.assert_close(deepstack[0][number], expected.deepstack[0])


def test_fast_reading_is_reading(vlm: Vlm, folder: Path) -> None:
    """Padding and dropped tokens included, hidden states are those of transformers."""
    data, prompt = Shards(folder), describe_prompt()
    captions = ['-0.4s', '0.0s']
    prepared = [vlm.prepare([vlm.encode(frame) for frame in data[index].frames[3:]], captions,
                            prompt) for index in range(2)]
    keeps = [np.arange(0, 56, 2, dtype=np.int32), np.arange(30, dtype=np.int32)]
    inputs = vlm.batch(prepared, keeps, ['a', 'a text'])
    labels = inputs.pop('labels')
    model = copy.deepcopy(vlm.model.model)
    with torch.inference_mode():
        expected = model(**inputs, use_cache=False).last_hidden_state
        encoded = inputs['mm_encoder_outputs']['image']
        prepare_text(model.language_model, compiled=False)
        visual = inputs['input_ids'] == vlm.model.config.image_token_id
        states = read(model.language_model, inputs['input_ids'], inputs['position_ids'], visual,
                      encoded.pooler_output[0], [level[0] for level in encoded.deepstack_features],
                      len(model.language_model.layers))
        found = model.language_model.norm(states[-1])
    there = inputs['attention_mask'].bool()
    assert not there.all()
    assert (labels >= 0).any()
    torch.testing.assert_close(found[there], expected[there], rtol=1e-4, atol=1e-5)


def test_cells_are_ordered_by_token() -> None:
    """The four cells of a token are those that its patches show, in the order of patches."""
    rows, columns = np.mgrid[:4, :6]
    label = (10 * rows + columns)[None]
    targets = by_token(CellTargets(*[label] * 8), 2)
    assert targets.label.shape == (1, 6, 4)
    assert targets.label[0, 4].tolist() == [22, 23, 32, 33]
    pixels = np.repeat(np.repeat(label[0], 16, 0), 16, 1)[None, :, :, None].repeat(3, 3)
    first = patches(torch.from_numpy(pixels.astype(np.uint8)), 16, 2)[0, :, 0]
    np.testing.assert_allclose((first.numpy() + 1) * 127.5, targets.label.reshape(-1), atol=1e-3)


def test_features_are_computed_once(vlm: Vlm, folder: Path, tmp_path: Path) -> None:
    data, vision = Shards(folder), FastVision(vlm.model.model.visual, 128, 224)
    first = Features(tmp_path, data, vision, Sparsifier())
    window = first.windows([2, 5])[1]
    torch.testing.assert_close(window[4].tokens, vlm.encode(data.frames(5)[4]).tokens,
                               atol=0.05, rtol=0.05)
    sparsifier = Sparsifier()
    proposals = [sparsifier.propose(frame) for frame in data.frames(5)]
    for ratio in (0.1, 0.2, 0.3, 0.6):
        expected = sparsifier.select(proposals, (4, 7), ratio)
        np.testing.assert_array_equal(first.keep(5, len(expected.keep)), expected.keep)
    again = Features(tmp_path, data, cast(FastVision, SimpleNamespace(
        grid=vision.grid, visual=vision.visual)), Sparsifier())
    assert torch.equal(again.windows([5])[0][4].tokens, window[4].tokens)


def test_fit_resumes_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    schedule = Schedule(20, 0.1, warmup=1)

    def run(checkpoint: Path, seed: int, stop: int = 20) -> tuple[torch.Tensor, list[int]]:
        torch.manual_seed(seed)
        layer, steps = nn.Linear(3, 1), []

        def losses(step: int) -> Losses:
            if step == stop:
                raise KeyboardInterrupt
            steps.append(step)
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            return {'loss': (layer(x)[:, 0] - x.sum(1)).square().mean()}

        with contextlib.suppress(KeyboardInterrupt):
            fit([layer], losses, replace(schedule, checkpoint_sec=0.0), checkpoint, 'test')
        return layer.weight.detach(), steps

    unbroken, _ = run(tmp_path / 'a.pt', seed=0)
    run(tmp_path / 'b.pt', seed=0, stop=12)
    resumed, steps = run(tmp_path / 'b.pt', seed=1)
    assert steps == list(range(12, 20))
    torch.testing.assert_close(unbroken, resumed)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    def losses(step: int) -> Losses:
        raise AssertionError

    path = tmp_path / 'x.pt'
    torch.save({'modules': {}, 'optimizers': [], 'step': 3}, path)
    with pytest.raises(ValueError, match='another model'):
        fit([nn.Linear(2, 2)], losses, Schedule(5), path, 'test')


def make_roads() -> RoadPictures:
    """Return pictures of real roads as the training takes them, one with a car in it."""
    rng = np.random.default_rng(0)
    pictures = [np.repeat(rng.integers(0, 256, (180, 320, 1), np.uint8), 3, 2) for _ in range(2)]
    return RoadPictures([[(pictures[0], [RoadUser('car', 0.25, (0.4, 0.5, 0.6, 0.8))]),
                          (pictures[1], [])]])


@pytest.fixture
def roads() -> RoadPictures:
    """Return such pictures for one test."""
    return make_roads()


def test_pictures_of_roads_are_packed_as_they_come() -> None:
    """Thousands of pictures of a camera do not fit in memory side by side."""
    alive: list[weakref.ref[Any]] = []
    most: list[int] = []

    def recording() -> Iterator[tuple[NDArray[np.uint8], list[RoadUser]]]:
        for _ in range(20):
            picture = np.zeros((90, 160, 3), np.uint8)
            alive.append(weakref.ref(picture))
            yield picture, []
            del picture
            most.append(sum(reference() is not None for reference in alive))

    assert len(RoadPictures(recording() for _ in range(2))) == 40
    assert max(most) <= 2


#: A few steps on a few pictures of every kind.
RECIPE = Recipe(rendered=4, over=4, steps=2, batch=4)


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run: its state in ``work``, the network in ``out``."""
    run = tmp_path_factory.mktemp('proposal')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelled_pictures, '_SHARD', 4)
        train_proposal(run / 'out', run / 'work', RECIPE, make_roads())
    return run


@pytest.mark.slow
def test_a_run_with_something_else_to_learn_from_is_not_gone_on_with(
        trained: Path, tmp_path: Path, roads: RoadPictures,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """The second detector would get the network of the first one, and its name beside it."""
    monkeypatch.setattr(labelled_pictures, '_SHARD', 4)
    picture = np.zeros((180, 320, 3), np.uint8)
    others = RoadPictures([[(picture, [RoadUser('person', 0.9, (0.4, 0.5, 0.6, 0.8))])]])
    assert others.fingerprint() != roads.fingerprint()
    with pytest.raises(ValueError, match='with other roads: remove it'):
        train_proposal(tmp_path / 'other', trained / 'work', RECIPE, others)
    assert not (tmp_path / 'other' / 'frame.onnx').exists()


@pytest.mark.slow
def test_the_proposal_network_trains_and_exports(trained: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    for graph in ('frame', 'window', 'window_by_counting'):
        assert (trained / 'out' / f'{graph}.onnx').exists()
    assert json.loads((trained / 'out' / NOTE).read_text()) == {
        'rendered': 4, 'over': 4, 'steps': 2, 'batch': 4, 'learning_rate': 1e-3, 'seed': 0,
        'features': 0, 'roads': 2, 'backbone': ''}
    # What it was is where another run begins.
    monkeypatch.setattr(labelled_pictures, '_SHARD', 4)
    start = trained / 'out' / 'frame.onnx'
    train_proposal(tmp_path / 'again', tmp_path / 'more', replace(RECIPE, steps=0, over=0),
                   start=start)
    again, before = load_net(tmp_path / 'again' / 'frame.onnx'), load_net(start)
    frame = torch.randint(0, 256, (1, 90, 160, 3), dtype=torch.uint8)
    torch.testing.assert_close(again(frame), before(frame), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_backbone_learns_to_say_what_that_of_a_file_says(tmp_path: Path, roads: RoadPictures
                                                           ) -> None:
    torch.manual_seed(2)
    teacher, net = ProposalNet(), ProposalNet()
    frames = torch.from_numpy(np.stack([cv2.resize(
        roads.draw(np.random.default_rng(number)).picture, (336, 192)) for number in range(2)]))
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    # So that its channels vary, as those of a network that has learned.
    wanted = teacher.train().features(frames).detach()
    torch.save(teacher.backbone.state_dict(), tmp_path / 'teacher.pt')
    learn_features(net, tmp_path / 'teacher.pt', replace(
        RECIPE, features=6, batch=2, learning_rate=5e-3), [(1.0, roads)], tmp_path / 'some.pt', {})
    with torch.no_grad():
        far, fresh = ((trained.train().features(frames) - wanted).square().mean()
                      for trained in (net, ProposalNet()))
    assert far < 0.9 * fresh


def test_a_backbone_begins_with_the_weights_of_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    # Names differ from file to file, and behind the backbone come layers that are not taken.
    state = {f'features.{name}': torch.rand_like(value.float()).to(value.dtype)
             for name, value in ProposalNet().backbone.state_dict().items()}
    torch.save({**state, 'classifier.weight': torch.zeros(3)}, tmp_path / 'all.pt')
    net = ProposalNet()
    begin_with(net, tmp_path / 'all.pt')
    for name, value in net.backbone.state_dict().items():
        torch.testing.assert_close(value, state[f'features.{name}'])
    torch.save(dict(list(state.items())[2:]), tmp_path / 'other.pt')
    with pytest.raises(ValueError, match='not of a MobileNetV2'):
        begin_with(net, tmp_path / 'other.pt')


def test_pictures_are_rendered_once_and_over_roads_with_what_is_on_them(
        tmp_path: Path, roads: RoadPictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled_pictures, '_SHARD', 4)
    for _ in range(2):
        done: list[int] = []
        render_pictures(tmp_path, 4, None, done.append)
        render_pictures(tmp_path, 4, roads, done.append)
        assert sum(done) == 8
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    render_pictures(tmp_path, 4)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
    rng = np.random.default_rng(0)
    rendered, over = (RenderedPictures(tmp_path, name) for name in (
        'rendered', over_name(roads)))
    assert len(rendered) == len(over) == 4
    assert rendered.draw(rng).is_rendered
    drawn = [over.draw(rng) for _ in range(30)]
    assert not any(example.is_rendered for example in drawn)
    assert all(example.picture.shape == (256, 448, 3) for example in drawn)
    cars = {thing.importance for example in drawn for thing in example.things
            if thing.kind == KINDS.index('car')}
    assert 0.225 in cars  # 0.45 * 0.25 / 0.5, that of the road


def test_another_view_shows_the_same_thing_where_its_box_is() -> None:
    """A red square on grey is found again in the box that is said, whatever the view."""
    frame = np.full((256, 448, 3), 90, np.uint8)
    frame[96:160, 192:288] = (220, 30, 30)
    thing = Thing(2, 1.0, (192 / 448, 96 / 256, 288 / 448, 160 / 256))
    places = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        view, things = another_view(frame, [thing], (192, 336), rng)
        assert view.shape == (192, 336, 3)
        # The square is in the middle: no view leaves it out.
        left, top, right, bottom = things[0].box
        red = view[..., 0].astype(int) - view[..., 1] > 65
        rows, columns = np.nonzero(red)
        assert abs(columns.min() / 336 - left) < 0.015
        assert abs((columns.max() + 1) / 336 - right) < 0.015
        assert abs(rows.min() / 192 - top) < 0.02
        assert abs((rows.max() + 1) / 192 - bottom) < 0.02
        places.add(things[0].box)
    assert len(places) == 60


def test_another_moment_changes_the_light_and_leaves_what_is_there() -> None:
    frame = np.full((192, 336, 3), 60, np.uint8)
    frame[60:130, 100:230] = 200
    moments = [another_moment(frame, np.random.default_rng(seed)) for seed in range(60)]
    assert all(moment.shape == frame.shape and moment.dtype == np.uint8 for moment in moments)
    brightness = [float(moment.mean()) for moment in moments]
    assert min(brightness) < 40.0
    assert max(brightness) > 150.0
    brighter = [moment[70:120, 110:220].mean() > moment[70:120, :90].mean() for moment in moments]
    assert np.mean(brighter) > 0.95


def test_captions_are_those_of_either_mode() -> None:
    assert window_losses._captions(describe_prompt(), 3, False) == ('-0.8s', '-0.4s', '0.0s')
    assert window_losses._captions(describe_prompt(), 3, True) == ('0.0s', '0.4s', '0.8s')


@pytest.fixture(scope='module')
def taught(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """Return the folder of a run of one process: its state in ``work``, the model in ``out``."""
    run = tmp_path_factory.mktemp('vlm')
    train_vlm(folder, run / 'out', run / 'work', Course(Steps(1, 1, 1, 0), batch=2))
    return run


def check_model(folder: Path, shards: Path) -> None:
    """Check that a model can be loaded and knows the words of the answers."""
    vlm = Vlm.load(folder)
    # 60 MB of float32, with room for the other weights.
    assert vlm.model.num_parameters() < 10_000_000
    text = sentences.answer(Shards(shards)[0].window, np.random.default_rng(0)).explanation
    assert vlm.tokenizer.decode(vlm.tokenizer(text)['input_ids']) == text


@pytest.mark.slow
def test_the_language_model_trains_and_loads(taught: Path, folder: Path) -> None:
    check_model(taught / 'out', folder)


@pytest.mark.slow
def test_the_language_model_trains_in_several_processes(tmp_path: Path, folder: Path) -> None:
    train_vlm(folder, tmp_path / 'out', tmp_path / 'work',
              Course(Steps(1, 1, 1, 1), batch=2, workers=2))
    check_model(tmp_path / 'out', folder)


@pytest.mark.slow
def test_the_course_for_a_gpu_in_its_tiny_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                               ) -> None:
    """It goes on at another size, with windows without end."""
    monkeypatch.setattr(endless_windows, '_WINDOWS', 4)
    monkeypatch.setattr(vlm_training, '_HEADS_STEPS', 1)
    train_on_gpu(tmp_path, 5.0, patch_px=8, tiny=True)
    trained, begun = (Vlm.load(tmp_path / name) for name in ('embedded', 'tiny'))
    assert trained.token_grid(256, 448) == (8, 14)
    for part in ('visual', 'language_model'):
        before, after = (getattr(vlm.model.model, part).state_dict() for vlm in (begun, trained))
        assert any(not torch.equal(before[name], value) for name, value in after.items())
    assert not list((tmp_path / 'ahead').iterdir())


@pytest.mark.parametrize(('course', 'said'), [
    (Course(renderers=1), 'windows without end need'),
    (Course(new_vision=True), 'a new vision encoder alone needs'),
    (Course(workers=2, minutes=1.0), '--workers 1'),
    (Course(workers=2, device='cuda'), '--workers 1')])
def test_a_course_that_cannot_be_is_refused(tmp_path: Path, course: Course, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train_vlm(tmp_path, tmp_path / 'out', tmp_path / 'work', course)


def test_a_run_ends_when_its_time_is_used_up(tmp_path: Path) -> None:
    layer = nn.Linear(2, 1)

    def losses(step: int) -> Losses:
        time.sleep(0.02)
        return {'loss': layer(torch.ones(1, 2)).square().sum()}

    schedule = Schedule(10_000, warmup=0, seconds=0.1)
    fit([layer], losses, schedule, tmp_path / 'run.pt', 'a run')
    steps = torch.load(tmp_path / 'run.pt', weights_only=True)['step']
    assert 1 <= steps < 100
    fit([layer], losses, schedule, tmp_path / 'run.pt', 'a run')
    assert torch.load(tmp_path / 'run.pt', weights_only=True)['step'] > steps
    assert schedule.rate(0) == schedule.learning_rate > schedule.rate(0, 0.05) > schedule.rate(
        0, 0.1)


@pytest.mark.slow
def test_the_vision_encoder_rests_until_all_learns_together(taught: Path, tmp_path: Path,
                                                            folder: Path) -> None:
    def first_weights(run: Path) -> torch.Tensor:
        visual = Vlm.load(run / 'out').model.model.visual
        return visual.patch_embed.proj.weight.detach()

    rested = first_weights(taught)
    seen = torch.load(taught / 'work' / 'seeing.pt', weights_only=True)['modules']
    torch.testing.assert_close(rested, seen['0.patch_embed.proj.weight'])
    # The same run goes on with all of it.
    shutil.copytree(taught, tmp_path, dirs_exist_ok=True)
    train_vlm(folder, tmp_path / 'out', tmp_path / 'work', Course(Steps(1, 1, 1, 1), batch=2))
    assert not torch.equal(first_weights(tmp_path), rested)
