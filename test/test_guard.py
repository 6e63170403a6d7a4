# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Of which pictures a model may speak."""

from __future__ import annotations

import json
import math
from pathlib import Path
import shutil

from all_commands import app
from bag_maker import drive, jpeg, picture, real_bags
import numpy as np
from numpy.typing import NDArray
import pytest
from typer.testing import CliRunner

from vts_ros.errors import GuardError
from vts_ros.lab.evaluation import guard_evaluation as guard_module
from vts_ros.lab.evaluation.guard_evaluation import CHANGES, fit_guard, measure
from vts_ros.lab.scenes.clips import balanced_scenes, SPLITS
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.paths import model_path
from vts_ros.pipeline import signature
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.guard import (
    FILE,
    FittedGuard,
    holds,
    load_guard,
    NOTHING_KNOWN,
    save_guard,
    SIGNATURE_LIMIT,
    SignatureGuard,
    structure,
    UNLIKE_TRAINING,
)
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import SceneReport
from vts_ros.vlm.answers import Answer, UNKNOWN_ACTION

#: What the signature must survive; a crop moves the picture away from it, and is refused.
KEPT = tuple(name for name in CHANGES if name not in (
    'JPEG of quality 10', 'blurred by 1/60 of the width', 'a quarter as bright', 'cropped to 98 %',
    'cropped to 80 %', 'through a lens', 'off a screen'))


# The guard that looks for the signature

def noise(seed: int, size: tuple[int, int] = (128, 224)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize('size', [(128, 224), (270, 480), (540, 960), (720, 1280), (480, 640)])
def test_a_signed_picture_is_known_at_any_size(size: tuple[int, int]) -> None:
    plain = np.full((*size, 3), 120, np.uint8)
    signed = signature.sign(plain)
    assert signature.strength(signed) > 3 * SIGNATURE_LIMIT
    # Faint: nobody sees it.
    assert np.abs(signed.astype(int) - plain).max() <= 7
    assert np.abs(signed.astype(int) - plain).mean() < 1.2


def test_chance_is_as_large_as_it_is_said_to_be() -> None:
    found = np.array([signature.strength(noise(seed)) for seed in range(400)])
    assert abs(found.mean()) < 0.2
    assert found.std() == pytest.approx(1.0, abs=0.15)
    assert np.abs(found).max() < SIGNATURE_LIMIT - 1.5


@pytest.mark.parametrize('plain', [0, 7, 255])
def test_a_picture_of_one_colour_has_no_signature(plain: int) -> None:
    assert signature.strength(np.full((96, 160, 3), plain, np.uint8)) == 0.0


def test_one_strange_picture_makes_a_window_strange() -> None:
    guard = SignatureGuard()
    clip = render_window(next(balanced_scenes('val', 1)))
    evidence = [guard.evidence(rgb) for rgb in clip.frames]
    assert holds(guard, evidence)
    assert not holds(guard, [*evidence[:2], guard.evidence(noise(0)), *evidence[2:]])


@pytest.mark.slow
def test_rendered_windows_and_the_demonstration_pass_and_survive_cameras(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, '_DRIVES', SPLITS['test'][-1:])
    # A picture is judged by itself, so those of a drive may be farther apart.
    monkeypatch.setattr(guard_module, '_DEMO_INTERVAL_SEC', 0.8)
    monkeypatch.setattr(guard_module, '_INTERVAL_SEC', 0.8)
    monkeypatch.setattr(guard_module, '_CHANGED_STEP', 2)
    found = measure(SignatureGuard(), 24)
    for part in (found['rendered'], *found['drives'].values()):
        assert part['n'] >= 24
        assert part['refused'] == 0
        # Far from the limit, not just inside.
        assert part['nearest'] < 0.7
    for name in KEPT:
        part = found['changed']['rendered'][name]
        assert (part['n'] > 30, part['refused']) == (True, 0), name
    photographs = found['real'].get('photographs of scikit-image')
    assert photographs is None or photographs['refused'] == photographs['n']
    assert found['changed']['rendered']['cropped to 80 %']['refused'] > 30


@pytest.fixture
def hardly_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have few pictures of drives rendered, where a test is about others."""
    monkeypatch.setattr(guard_module, '_DRIVES', ())
    monkeypatch.setattr(guard_module, '_DEMO_INTERVAL_SEC', 2.0)


@pytest.mark.slow
@pytest.mark.usefixtures('hardly_rendered')
def test_no_window_of_a_real_recording_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done to it: nothing was fitted to any recording, so each is held out."""
    guard = load_guard(model_path('embedded'), is_needed=True)
    assert guard is not None
    bags = real_bags()
    monkeypatch.setattr(guard_module, '_CHANGED_REAL', 4)
    found = measure(guard, 1, bags)
    assert set(found['real']) >= {bag.name for bag in bags}
    for name, part in found['real'].items():
        assert part['n'] == part['refused'], name
        # Chance alone comes no nearer than this to the limit of 1.
        assert part['nearest'] > 1.2, name
    for name, part in found['changed']['real'].items():
        assert (part['n'], part['nearest'] > 1.2) == (part['refused'], True), name


# The guard that is fitted

def waves(angle: float, size: tuple[int, int] = (128, 224), strength: float = 40.0
          ) -> NDArray[np.uint8]:
    """Return a picture whose brightness changes in one direction alone."""
    rows, columns = np.mgrid[0:size[0], 0:size[1]] / size[1]
    along = columns * math.cos(angle) + rows * math.sin(angle)
    grey = 128.0 + strength * np.sin(2 * math.pi * 14.0 * along)
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)


def grain(seed: int, strength: float = 2.0) -> NDArray[np.uint8]:
    """Return a picture of one colour, with noise."""
    rng = np.random.default_rng(seed)
    return rng.normal(120.0, strength, (128, 224, 3)).round().astype(np.uint8)


@pytest.mark.parametrize('angle', [0.0, 0.7, 1.5707963])
def test_structure_is_one_where_there_is_one_direction_whichever(angle: float) -> None:
    found = structure(waves(angle)).reshape(3, 2, 3)
    # Gradients are zero at crests, so some are weak, but around them are the strong ones.
    assert found[:2, :, 2].min() > 0.95


def test_structure_is_low_in_noise_and_does_not_know_its_strength() -> None:
    weak, strong = (structure(grain(0, strength)).reshape(3, 2, 3) for strength in (2.0, 20.0))
    assert weak[0, 1, 0] < 0.5
    assert strong[0, 1, 2] < 0.5
    # Over a larger radius, noise has less of a direction.
    assert weak[0, 1, 0] < weak[0, 0, 0]


def test_structure_of_nothing_is_finite_and_the_same_everywhere() -> None:
    plain = structure(np.zeros((300, 500, 3), np.uint8))
    assert np.unique(plain).tolist() == [0.75]
    assert len(plain) == 18


def test_structure_hardly_depends_on_the_size_of_the_picture() -> None:
    small, large = structure(waves(0.5)), structure(waves(0.5, (512, 896)))
    np.testing.assert_allclose(small, large, atol=0.06)


def test_what_fills_a_picture_matters_little() -> None:
    """Half a wall of one colour leaves the other half to be judged as before."""
    whole = np.where(np.arange(224)[:, None] < 112, waves(0.7), grain(1))
    more = np.where(np.arange(224)[:, None] < 40, waves(0.7), grain(1))
    near = np.abs(structure(whole) - structure(more)).mean()
    assert near < 0.25 * np.abs(structure(waves(0.7)) - structure(grain(1))).mean()


def cloud(seed: int, count: int, shift: float = 0.0) -> NDArray[np.float64]:
    """Return structures of windows, [count, 5, 6]."""
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1.0, (count, 1, 6)) + rng.normal(0.0, 0.3, (count, 5, 6))


def test_the_limit_leaves_its_share_outside_and_what_is_unlike() -> None:
    held_out = cloud(2, 400)
    guard = FittedGuard.fit(cloud(1, 400), held_out, 0.02)
    assert 0.005 <= np.mean([not holds(guard, list(window)) for window in held_out]) <= 0.02
    assert np.mean([holds(guard, list(window)) for window in cloud(3, 200)]) > 0.9
    assert not any(holds(guard, list(window)) for window in cloud(4, 50, shift=4.0))


def test_distance_is_that_of_mahalanobis() -> None:
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(4, 4))
    train = rng.normal(size=(5000, 1, 4)) @ mix
    guard = FittedGuard.fit(train, train, 0.1)
    windows = train[:, 0]
    for window in train[:5]:
        apart = window[0] - windows.mean(axis=0)
        plain = math.sqrt(apart @ np.linalg.inv(np.cov(windows.T)) @ apart)
        assert guard.mahalanobis(window) == pytest.approx(plain, rel=0.1)
    # 90 % of a chi distribution with four degrees of freedom.
    assert guard.limit == pytest.approx(2.79, abs=0.15)


def test_too_few_windows_are_refused() -> None:
    with pytest.raises(GuardError, match='7 windows are too few'):
        FittedGuard.fit(np.zeros((7, 5, 4)), np.zeros((7, 5, 4)), 0.1)


# Files

def test_guards_survive_the_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    saved = FittedGuard(rng.normal(size=3), rng.normal(size=(3, 3)), 12.5)
    save_guard(saved, tmp_path)
    loaded = load_guard(tmp_path)
    assert isinstance(loaded, FittedGuard)
    np.testing.assert_allclose(loaded.precision, saved.precision, rtol=1e-6)
    np.testing.assert_allclose(loaded.mean, saved.mean, rtol=1e-6)
    assert loaded.limit == 12.5
    save_guard(SignatureGuard(), tmp_path)
    assert isinstance(load_guard(tmp_path), SignatureGuard)


@pytest.mark.parametrize('text', [
    '', '{}', '{"schema": 9, "kind": "signature"}', '{"schema": 1, "kind": "other"}',
    '{"schema": 1, "kind": "fitted", "mean": [1], "precision": [1], "limit": 2}',
    '{"schema": 1, "kind": "fitted", "mean": [1], "precision": [[1]], "limit": 0}'])
def test_a_broken_guard_is_no_guard_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(GuardError, match='cannot be read'):
        load_guard(tmp_path)


def test_a_checkpoint_needs_none_but_the_embedded_model_does(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_guard(tmp_path) is None
    shutil.copytree(model_path('embedded'), tmp_path / 'embedded',
                    ignore=shutil.ignore_patterns(FILE))
    shutil.copytree(model_path('proposal'), tmp_path / 'proposal')
    own = Pipeline.load(PipelineConfig(model=str(tmp_path / 'embedded')))
    assert own.info()['guard'] == 'none: any picture is answered'
    monkeypatch.setenv('VTS_MODELS_DIR', str(tmp_path))
    with pytest.raises(GuardError, match=r'guard.json is missing: .* restore the file'):
        Pipeline.load(PipelineConfig())


# The pipeline

@pytest.fixture(scope='module')
def pipeline() -> Pipeline:
    return Pipeline.load(PipelineConfig(max_new_tokens=120))


def strange(count: int = 5) -> list[Frame]:
    """Return a window that was not rendered."""
    return [Frame('front', index * 400_000_000, jpeg(picture(index, 128, 224)))
            for index in range(count)]


def rendered() -> list[Frame]:
    clip = render_window(next(balanced_scenes('test', 1)))
    return [Frame('front', 10**12 + index * 400_000_000, rgb)
            for index, rgb in enumerate(clip.frames)]


@pytest.mark.parametrize('mode', ['window', 'causal'])
def test_answers_about_strange_pictures_are_unknown_and_give_no_orders(mode: str) -> None:
    pipeline = Pipeline.load(PipelineConfig(max_new_tokens=120, mode=mode))
    report = pipeline.describe(strange())
    pieces: list[str] = []
    answer = pipeline.ask(strange(), 'Is it safe to drive on?', on_text=pieces.append)
    assert report.answer == Answer(NOTHING_KNOWN, 'unknown', None, None, UNLIKE_TRAINING,
                                   UNKNOWN_ACTION)
    data = report.to_dict()
    assert (data['risk'], data['object'], data['confidence']) == ({'level': 'unknown'}, None, None)
    assert data['in_distribution'] is False
    # What the model wrote is still there for whoever looks for it, and nowhere else.
    written = data.pop('rejected_output')
    assert written
    assert written not in json.dumps(data)
    assert answer == ''.join(pieces) == NOTHING_KNOWN
    assert SceneReport.from_dict(json.loads(report.to_json())).to_dict() == report.to_dict()


def test_answers_about_rendered_pictures_are_given(pipeline: Pipeline) -> None:
    report = pipeline.describe(rendered())
    assert report.in_distribution is True
    assert report.rejected_output is None
    assert report.answer.risk != 'unknown'
    assert report.confidence is not None
    assert pipeline.info()['guard'] == 'pictures of the renderer alone'
    # A single picture from elsewhere is enough.
    window = [strange(1)[0], *rendered()[1:]]
    assert pipeline.describe(window).answer.risk == 'unknown'


# The commands

@pytest.mark.slow
@pytest.mark.usefixtures('hardly_rendered')
def test_the_guard_is_measured_from_the_command_line(tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 16)
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for number in range(3):
        (folder / f'{number}.jpg').write_bytes(jpeg(noise(number)))
    done = CliRunner().invoke(app, [
        'eval', 'guard', '--n', '8', '--bag', str(bag), '--pictures', str(folder),
        '--report', str(tmp_path / 'docs'), '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output.splitlines()[-1])
    assert result['rendered'] == {'n': 8, 'refused': 0, 'nearest': result['rendered']['nearest']}
    assert (result['real']['bag']['n'], result['real']['bag']['refused']) == (4, 4)
    assert (result['real']['pictures']['n'], result['real']['pictures']['refused']) == (3, 3)
    page = (tmp_path / 'docs' / 'guard.md').read_text()
    assert '| bag | 4 | 0 | ' in page


def test_a_picture_of_several_windows_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = SignatureGuard()
    pictures = [noise(seed) for seed in range(6)]
    windows = [pictures[begin:begin + 3] for begin in range(4)]
    alone = [guard.distance([guard.evidence(rgb) for rgb in window]) for window in windows]
    assert len(set(alone)) > 1
    strength, looked = signature.strength, list[NDArray[np.uint8]]()

    def look(rgb: NDArray[np.uint8]) -> float:
        looked.append(rgb)
        return strength(rgb)

    monkeypatch.setattr(signature, 'strength', look)
    assert list(guard_module._distances(guard, windows)) == alone
    assert len(looked) == 6


@pytest.mark.slow
def test_a_guard_is_fitted_to_windows_over_recordings() -> None:
    clips = [list(render_window(scene).frames) for scene in balanced_scenes('val', 60)]
    guard = fit_guard(clips[10:], clips[:10], outside=0.1)
    assert np.mean([holds(guard, [guard.evidence(rgb) for rgb in clip]) for clip in clips]) > 0.8
    assert not holds(guard, [guard.evidence(noise(0))])


def test_the_networks_see_the_picture_without_the_signature() -> None:
    plain = render_window(next(balanced_scenes('val', 1))).frames[0]
    plain = np.clip(plain, 12, 243)
    guard = SignatureGuard()
    signed = signature.sign(plain)
    cleaned = guard.clean(signed, guard.evidence(signed))
    assert np.abs(cleaned.astype(int) - plain).max() <= 1
    # What has none is left alone.
    assert guard.clean(noise(0), guard.evidence(noise(0))) is not None
    np.testing.assert_array_equal(guard.clean(noise(0), guard.evidence(noise(0))), noise(0))
