# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scores with a memory and without, what each score keeps, and the page about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
import json
from pathlib import Path

from all_commands import app
import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from typer.testing import CliRunner

from vts_ros.lab.evaluation import (
    camera_recall,
    fitted_measures,
    score_answers,
    score_recall,
    score_roads,
    token_worth,
)
from vts_ros.lab.evaluation.box_coverage import area_under_curve
from vts_ros.lab.evaluation.drawn_boxes import TrafficError
from vts_ros.lab.evaluation.fitted_measures import IMPORTANCE, network_areas
from vts_ros.lab.evaluation.kept_rows import kept_rows, Row
from vts_ros.lab.evaluation.method_comparison import compare
from vts_ros.lab.evaluation.proposal_recall import object_tokens
from vts_ros.lab.evaluation.score_answers import compared_answers
from vts_ros.lab.evaluation.score_recall import (
    evidence_of,
    gains,
    object_recall,
    past_recall,
    turning_deg,
    turning_recall,
)
from vts_ros.lab.evaluation.score_roads import road_recall, still_recall
from vts_ros.lab.evaluation.score_verdicts import CANDIDATES, JUDGED, verdicts
from vts_ros.lab.evaluation.token_worth import divergence_of_tokens, Worth, worth_of_tokens
from vts_ros.lab.evaluation.worth_windows import to_fit, WorthWindow
from vts_ros.lab.recordings import frames_of
from vts_ros.lab.rivals import recurrent_measure, temporal, worth_measure
from vts_ros.lab.rivals.recurrent_measure import cells_of, fit_recurrent, RecurrentMeasure
from vts_ros.lab.rivals.registry import KNOWN_MOTION, Method, methods, NETWORK, network_method
from vts_ros.lab.scenes.clips import balanced_scenes, make_scene, render
from vts_ros.lab.teacher import Found, RoadUser
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.lab.training.onnx_export import write_frame, write_window_step
from vts_ros.paths import model_path
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import Proposal, Sparsifier, token_budget, WindowFeatures
from vts_ros.sparsify.proposal_network import EMBEDDING_CHANNELS, load_net, MAP_SIZE

GRID = (4, 7)


@pytest.fixture(scope='module')
def pipeline() -> Iterator[Pipeline]:
    loaded = Pipeline.load(PipelineConfig())
    yield loaded
    loaded.close()


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint where nothing depends on what the model has learned."""
    model = tmp_path_factory.mktemp('models') / 'tiny'
    create_checkpoint(model, ['a car ahead', 'brake'], vocab_size=600, text_hidden=48,
                      text_layers=2, text_heads=2, text_intermediate=96, hidden_size=32, depth=2,
                      num_heads=2, intermediate_size=64)
    return model


def remembered_window(seed: int) -> tuple[WindowFeatures, NDArray[np.bool_]]:
    """Return a window whose important tokens are where something was one frame earlier."""
    rng = np.random.default_rng(seed)
    saliency = np.full((4, *MAP_SIZE), 0.5, np.float32)
    embedding = rng.normal(size=(4, EMBEDDING_CHANNELS, *MAP_SIZE)).astype(np.float32)
    top = np.zeros((4, 28), bool)
    marks: list[NDArray[np.bool_]] = []
    for frame in range(4):
        place = rng.choice(28, 3, replace=False)
        mark = np.zeros(28, bool)
        mark[place] = True
        cells = mark.reshape(GRID).repeat(3, 0).repeat(3, 1)
        embedding[frame, 0] = np.where(cells, 6.0, 0.0)
        if frame >= 1:
            top[frame] = marks[frame - 1]
        marks.append(mark)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    return WindowFeatures(
        np.zeros((4, 32, 56, 3), np.uint8),
        tuple(Proposal(*maps) for maps in zip(saliency, embedding)),
        rng.normal(size=(4, 28, 8)).astype(np.float32), GRID), top


def area(measure: RecurrentMeasure, sparsifier: Sparsifier, window: WindowFeatures,
         top: NDArray[np.bool_]) -> float:
    score = measure.scores(sparsifier, window)[1:].ravel()
    found = area_under_curve(score, 1.0 * top[1:].ravel(), 1.0 - top[1:].ravel())
    assert found is not None
    return found


@pytest.mark.slow
def test_a_memory_finds_what_was_there_before_and_the_control_cannot(
        pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is to be learned is plain: few windows teach it, in small steps often taken.
    for name, value in (('_BATCH', 4), ('_EPOCHS', 32), ('_RATE', 1e-2)):
        monkeypatch.setattr(recurrent_measure, name, value)
    windows, tops = zip(*map(remembered_window, range(16)))
    held = [remembered_window(seed) for seed in range(100, 110)]
    found = {}
    for remembers in (True, False):
        measure = fit_recurrent(pipeline.sparsifier, windows, tops, remembers)
        found[remembers] = float(np.mean([
            area(measure, pipeline.sparsifier, *window) for window in held]))
    assert found[True] > 0.8
    assert 0.35 < found[False] < 0.65


def test_a_recurrent_measure_is_small_and_sees_no_later_frame() -> None:
    torch.manual_seed(0)
    measure = RecurrentMeasure(torch.zeros(9), torch.ones(9)).eval()
    assert sum(part.numel() for part in measure.parameters()) < 50_000
    cells, known = torch.rand(1, 4, EMBEDDING_CHANNELS + 1, *MAP_SIZE), torch.rand(1, 4, 28, 9)
    whole = measure(cells, known, GRID)
    part = measure(cells[:, :2], known[:, :2], GRID)
    torch.testing.assert_close(whole[:, :2], part)
    changed = cells.clone()
    changed[:, 0] = 0.0
    assert (measure(changed, known, GRID)[:, 3] != whole[:, 3]).any()
    measure.remembers = False
    forgetful = measure(cells, known, GRID)
    torch.testing.assert_close(measure(changed, known, GRID)[:, 1:], forgetful[:, 1:])


def test_cells_are_embedding_and_saliency() -> None:
    window, _ = remembered_window(0)
    cells = cells_of(window)
    assert cells.shape == (4, EMBEDDING_CHANNELS + 1, *MAP_SIZE)
    assert (cells[2, :-1].numpy() == window.proposals[2].embedding).all()
    assert (cells[2, -1].numpy() == window.proposals[2].saliency).all()


@pytest.mark.slow
def test_the_worth_to_fit_to_is_that_of_judged_windows(tiny: Path, tmp_path: Path) -> None:
    with closing(Pipeline.load(PipelineConfig(model=str(tiny)))) as pipeline:
        window, = to_fit(pipeline, 1, tmp_path)
        again, = to_fit(pipeline, 1, tmp_path)
    assert (window.divergence == again.divergence).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['train-0000.npz']
    assert window.divergence.shape == (5, 28)
    scene = next(balanced_scenes('train', 1, 900_000_000))
    assert (window.evidence.frames == render(scene).frames).all()


@pytest.mark.slow
def test_the_divergence_alone_is_that_of_the_worth(pipeline: Pipeline) -> None:
    from vts_ros.lab.evaluation.method_comparison import prepare_window

    window = prepare_window(pipeline, make_scene(1_000_000_001, 'lead braking', 1))
    worth = worth_of_tokens(pipeline.vlm, window.prepared, 1, GRID)
    np.testing.assert_allclose(
        divergence_of_tokens(pipeline.vlm, window.prepared, 1, GRID), worth.divergence,
        rtol=1e-4, atol=1e-6)


def test_recall_is_the_share_of_the_tokens_of_the_risk_object(
        pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_recall, '_SCENES', 4)
    wanted = methods(pipeline.sparsifier, ['vts', 'newest'])
    found = object_recall(pipeline, wanted, 3, (0.4, 0.2), tmp_path)
    assert found['n'] == found['parts']['all']['n'] == 3
    shares = []
    for scene in balanced_scenes('test', 4):
        clip = render(scene)
        tokens = object_tokens(clip.truths, GRID)
        if tokens.any():
            keep = wanted[1].keep(evidence_of(pipeline, clip), token_budget(5, GRID, 0.2))
            assert keep is not None
            # The newest frame is the last fifth of the window.
            assert keep.tolist() == list(range(112, 140))
            shares.append(tokens[4].sum() / tokens.sum())
    cell = found['parts']['all']['methods']['newest']['0.2']
    assert cell['mean'] == pytest.approx(np.mean(shares), abs=1e-4)
    first = found['parts']['all']['methods']['vts']['0.2']
    assert cell['ahead'] == pytest.approx(cell['mean'] - first['mean'], abs=2e-4)
    assert first['ahead'] == 0.0
    # What was found is not looked for again, unless something is missing.
    monkeypatch.setattr(score_recall, 'evidence_of', None)
    assert object_recall(pipeline, wanted, 3, (0.2,), tmp_path)['n'] == 3
    with pytest.raises(TypeError):
        object_recall(pipeline, wanted, 3, (0.1,), tmp_path)


def test_only_missing_methods_are_looked_for(tmp_path: Path) -> None:
    path, asked = tmp_path / 'rows.json', list[list[str]]()
    known = [Method(name, 'baseline', '', '', ()) for name in ('vts', 'newest', 'oldest')]
    windows = [{'family': 'cut-in'}, {'family': 'animal'}]

    def make(missing: Sequence[Method]) -> list[Row]:
        asked.append([method.name for method in missing])
        return [{**window, 'kept': {method.name: {'0.2': len(asked)} for method in missing}}
                for window in windows]

    kept_rows(path, known[:2], (0.2,), make)
    assert kept_rows(path, known[:1], (0.2,), make)[0]['kept']['newest'] == {'0.2': 1}
    found = kept_rows(path, known, (0.2,), make)
    assert asked == [['vts', 'newest'], ['oldest']]
    assert found[1] == {'family': 'animal', 'kept': {
        'vts': {'0.2': 1}, 'newest': {'0.2': 1}, 'oldest': {'0.2': 2}}}
    assert json.loads(path.read_text(encoding='utf-8')) == found
    # Of other windows than before nothing is kept.
    windows[0]['family'] = 'red light'
    path.write_text(json.dumps([{**row, 'kept': {'vts': row['kept']['vts']}} for row in found]))
    found = kept_rows(path, known, (0.2,), make)
    assert asked[2:] == [['newest', 'oldest'], ['vts', 'newest', 'oldest']]
    assert set(found[0]['kept']) == {'vts', 'newest', 'oldest'}


def test_what_was_learned_from_something_is_kept_apart(tmp_path: Path) -> None:
    path, asked = tmp_path / 'rows.json', list[list[str]]()
    plain = Method('vts', 'vts', '', '', ())
    windows = [{'family': 'cut-in'}]

    def make(missing: Sequence[Method]) -> list[Row]:
        asked.append([method.name for method in missing])
        return [{**window, 'kept': {method.name: {'0.2': len(asked)} for method in missing}}
                for window in windows]

    def fitted(to: str) -> Method:
        return Method('time-measure', 'time', '', '', (), to)

    kept_rows(path, [plain], (0.2,), make)
    found = kept_rows(path, [plain, fitted('fit2')], (0.2,), make)
    assert asked == [['vts'], ['time-measure']]
    assert found == [{'family': 'cut-in', 'kept': {'vts': {'0.2': 1}, 'time-measure': {'0.2': 2}}}]
    # Fitted to something else, it is another; and the first is still there.
    for to, value in (('fit3', 3), ('fit2', 2)):
        row, = kept_rows(path, [plain, fitted(to)], (0.2,), make)
        assert row['kept'] == {'vts': {'0.2': 1}, 'time-measure': {'0.2': value}}
    assert asked[2:] == [['time-measure']]
    assert set(json.loads((tmp_path / 'fit2' / 'rows.json').read_text())[0]['kept']) == {
        'time-measure'}
    # A file of other windows is no part of the same row.
    windows[0]['family'] = 'red light'
    row, = kept_rows(path, [plain, fitted('fit4')], (0.2,), make)
    assert asked[3:] == [['time-measure'], ['vts', 'time-measure']]
    assert row == {'family': 'red light', 'kept': {'vts': {'0.2': 5}, 'time-measure': {'0.2': 5}}}


def test_another_network_is_looked_with(pipeline: Pipeline, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = load_net(model_path('proposal/frame.onnx'))
    torch.nn.init.normal_(net.seen_head.weight)
    write_frame(net, tmp_path / 'frame.onnx')
    write_window_step(tmp_path)
    other = Sparsifier.load(tmp_path)
    method = network_method(other, 'about', 'mark')
    first, _ = methods(pipeline.sparsifier, ['vts', 'random'])
    for seed in (1_000_000_001, 1_000_000_002):
        evidence = evidence_of(pipeline, render(make_scene(seed, 'lead braking', 5)))
        looked = evidence._replace(proposals=tuple(map(other.propose, evidence.frames)))
        wanted, = methods(other, ['vts'])
        for budget in (14, 28):
            kept = method.keep(evidence, budget)
            assert kept is not None
            assert (kept == wanted.keep(looked, budget)).all()
            assert (kept != first.keep(evidence, budget)).any()
    divergence = np.random.default_rng(0).random((5, 28), np.float32)
    window = WorthWindow('test', evidence, Worth(divergence, divergence, None, divergence), {})
    found = network_areas(pipeline.sparsifier, other, [window])['test']
    assert found['n'] == 1
    wanted_area = fitted_measures.area_of(temporal.importance(
        other, window.evidence._replace(proposals=tuple(
            map(other.propose, window.evidence.frames)))), window.worth.divergence)
    cells = found['auc']
    assert cells['vts-network']['mean'] == pytest.approx(wanted_area, abs=1e-4)
    assert cells['vts-score-importance']['ahead'] == pytest.approx(
        wanted_area - cells['vts-score-importance']['mean'], abs=2e-4)


def test_a_gain_is_beside_the_same_score_without_the_motion(pipeline: Pipeline) -> None:
    wanted = methods(pipeline.sparsifier, ['vts', 'vts-share-none', 'time-known-motion',
                                           'time-known-residual'])
    rows = [{'kept': {'vts': {'0.2': 0.1}, 'vts-share-none': {'0.2': without},
                      'time-known-motion': {'0.2': known}, 'time-known-residual': {'0.2': 0.9}}}
            for without, known in ((0.5, 0.75), (0.25, 0.25))]
    found = gains(rows, wanted, (0.2,))
    # Saliency alone was not looked at.
    assert list(found) == ['time-known-motion']
    assert found['time-known-motion']['0.2']['ahead'] == 0.125


@pytest.mark.slow
def test_windows_of_tight_bends_are_others(
        pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_recall, '_SCENES', 2)
    wanted = methods(pipeline.sparsifier, ['vts', 'vts-share-none', 'time-known-motion'])
    found = turning_recall(pipeline, wanted, 2, (0.2,), tmp_path)
    assert found['n'] == 2
    assert 10.0 < found['slowest'] < found['fastest'] < 30.0
    assert list(found['gains']) == ['time-known-motion']
    usual = object_recall(pipeline, wanted, 2, (0.2,), tmp_path)
    assert usual['most_turning'] < 10.0
    assert set(usual['gains']) == set(usual['parts'])
    # Visual tokens are not computed for what does not look at them, and nothing else changes.
    scene = make_scene(1_100_000_001, 'lead braking', 2)
    clip = render(scene)
    whole = evidence_of(pipeline, clip)
    without = evidence_of(pipeline, clip, with_tokens=False)
    assert without.grid == whole.grid
    assert without.tokens.shape == (2, 28, 0)
    assert all((mine.saliency == other.saliency).all()
               for mine, other in zip(without.proposals, whole.proposals))
    monkeypatch.setattr(score_recall, 'turning_scenes', balanced_scenes)
    with pytest.raises(ValueError, match='not over 10'):
        turning_recall(pipeline, wanted, 2, (0.2,), tmp_path / 'others')


@pytest.mark.slow
def test_of_the_past_counts_where_it_was_seen_last(
        pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_recall, '_PAIRS', 2)
    wanted = methods(pipeline.sparsifier, ['vts', 'newest'])
    cells = past_recall(pipeline, wanted, 2, (1.0, 0.1), 8, tmp_path)['parts']['all']['methods']
    assert cells['vts']['1']['mean'] == cells['newest']['1']['mean'] == 1.0
    # It is hidden in the newest frame, which is all that a tenth of 8 frames holds.
    assert cells['newest']['0.1']['mean'] == 0.0


@pytest.mark.slow
def test_answers_are_those_of_the_comparison_of_methods(
        pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_answers, '_WINDOWS', 1)
    monkeypatch.setattr(score_answers, 'FIRST_ANSWERED', 0)
    names = ['vts', 'newest']
    wanted = methods(pipeline.sparsifier, names)
    found = compared_answers(pipeline, wanted, 2, (0.05,), tmp_path)
    known = compare(pipeline, names, 'test', 2, (0.05,), brief=True)
    metrics = {'level': 'risk_accuracy', 'object': 'object_accuracy'}
    for fact, metric in metrics.items():
        assert found['dense']['all'][fact] == known['dense'][metric]
        for name in names:
            cell = found['parts']['all'][fact]['methods'][name]['0.05']
            assert cell['mean'] == known['methods'][name]['0.05'][metric]
    ahead = np.mean([known['methods']['newest']['0.05'][metric]
                     - known['methods']['vts']['0.05'][metric] for metric in metrics.values()])
    assert found['pooled']['newest']['ahead'] == pytest.approx(ahead, abs=1e-4)
    assert found['parts']['hard']['level']['n'] == known['hard']['n']
    # What was answered is not asked again.
    monkeypatch.setattr(score_answers, 'answer_all', None)
    assert compared_answers(pipeline, wanted, 1, (0.05,), tmp_path)['n'] == 1


def test_of_a_standing_car_counts_every_place_once(
        pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_roads, '_SCENES', 2)
    sparsifier = pipeline.sparsifier
    scene = next(scene for scene in balanced_scenes('test', 4, 4000, frames=1)
                 if object_tokens(render(scene).truths, GRID)[-1].any())
    window = score_roads.still_window(sparsifier, render(scene).frames[-1], GRID, scene.seed)
    assert len({frame.tobytes() for frame in window.frames}) == 5
    wanted = methods(sparsifier, ['vts', 'newest'])
    # A frame holds all places, so four more of them add nothing.
    found = still_recall(sparsifier, wanted, 4, (0.2, 0.1), GRID, tmp_path)
    assert found['methods']['newest']['0.2']['mean'] == 1.0
    assert found['methods']['vts']['0.1']['mean'] <= found['methods']['vts']['0.2']['mean'] <= 1.0
    encoded = score_roads.still_window(
        sparsifier, render(scene).frames[-1], GRID, scene.seed,
        lambda picture: np.full((28, 3), picture.mean(), np.float32))
    assert encoded.tokens[:, 0, 0] == pytest.approx(encoded.frames.mean(axis=(1, 2, 3)), abs=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_roads, 'still_window', None)
        assert still_recall(sparsifier, wanted, 4, (0.2,), GRID, tmp_path)['n'] == found['n']


def test_of_road_users_counts_the_area_on_kept_tokens(
        pipeline: Pipeline, tmp_path: Path) -> None:
    drive = tmp_path / 'drive'
    drive.mkdir()
    # Ten a second: the last ends the only window of five, 0.4 s apart.
    for number in range(17):
        picture = np.full((72, 128, 3), 10 * number, np.uint8)
        cv2.imwrite(str(drive / f'{number:02d}.png'), picture)
    users = [RoadUser('car', 0.9, (0.0, 0.0, 1.0, 0.5)), RoadUser('car', 0.2, (0., 0., 1., 1.))]
    wanted = methods(pipeline.sparsifier, ['vts', 'newest', 'random'])
    seen: list[Path] = []
    tokens: list[WindowFeatures] = []

    def find(recording: Path) -> Found:
        seen.append(recording)
        newest = list(frames_of(recording))[-1]
        return {newest.key: users}

    found = road_recall(pipeline.sparsifier, wanted, [drive], find, (1.0, 0.2),
                        tmp_path / 'found')
    assert (found['n'], found['windows'], found['users']) == (1, 1, 1)
    # Only the newest frame shows somebody, and one who is not sure does not count.
    assert found['each']['newest'] == {'1': [1.0], '0.2': [1.0]}
    assert found['methods']['random']['0.2']['mean'] == pytest.approx(0.2, abs=0.06)
    assert road_recall(pipeline.sparsifier, wanted, [drive], find, (0.2,),
                       tmp_path / 'found')['n'] == 1
    assert seen == [drive]
    # At another grid, a method that looks at visual tokens and frames gets them.
    def choose(evidence: WindowFeatures, budget: int) -> NDArray[np.int32]:
        tokens.append(evidence)
        return np.arange(budget, dtype=np.int32)

    looks = Method('looks', 'time', '', '', (choose,))
    road_recall(pipeline.sparsifier, [wanted[0], looks], [drive], find, (0.2,), tmp_path / 'own',
                grid=GRID, encode=lambda picture: np.full((28, 3), picture.mean(), np.float32))
    assert tokens[0].tokens.shape == (5, 28, 3)
    assert tokens[0].frames.shape == (5, 72, 128, 3)
    assert tokens[0].tokens[:, 0, 0] == pytest.approx(
        tokens[0].frames.mean(axis=(1, 2, 3)), abs=0.1)
    with pytest.raises(TrafficError, match='no road users in any full window'):
        road_recall(pipeline.sparsifier, wanted, [drive], lambda recording: {}, (0.2,),
                    tmp_path / 'others')


def test_the_page_says_where_a_score_is_behind() -> None:
    data = Path(__file__).parent.parent / 'docs' / 'scores.json'
    result = json.loads(data.read_text(encoding='utf-8'))['result']
    for name in JUDGED:
        sentence, = (line for line in verdicts(result) if line.startswith(f'`{name}`'))
        ahead, behind = sentence.split('; it is behind in ')
        is_behind = not behind.startswith('nothing')
        assert ('does not take' in behind) or not is_behind
        for title, part in (('a standing car', result['still']),
                            ('the risk object in tight bends', result['turning']),
                            ('what only the past shows', result['past']['parts']['all'])):
            cells = part['methods'][name]
            for words, shares in (
                    (ahead, [share for share, cell in cells.items() if cell['ahead_ci'][0] > 0]),
                    (behind, [share for share, cell in cells.items() if cell['ahead_ci'][1] < 0])):
                assert (f'{title} at' in words) == bool(shares)
                assert all(f'{float(share):.0%}' in words for share in shares)


def test_only_what_is_ahead_and_nowhere_behind_takes_the_place() -> None:
    data = Path(__file__).parent.parent / 'docs' / 'scores.json'
    result = json.loads(data.read_text(encoding='utf-8'))['result']
    parts = [result['turning'], result['past']['parts']['all'], result['still'],
             result['roads'], result['token_roads'], result['object']['parts']['all'],
             result['cameras']['parts']['all'],
             *(found for found in result['answers']['parts']['all'].values())]
    cells = [part['methods'][NETWORK]['0.2'] for part in parts]
    for part in parts:
        for cell in part['methods'][NETWORK].values():
            cell['ahead_ci'] = [-0.1, 0.1]
    areas = [found['auc'][IMPORTANCE] for found in result['network']['areas'].values()]
    for found in areas:
        found['ahead_ci'] = [-0.1, 0.1]
    words = {True: 'By the rule it takes its place.',
             False: 'By the rule it does not take its place.'}

    def takes() -> bool:
        sentence, = (line for line in verdicts(result) if line.startswith(f'`{NETWORK}`'))
        is_so = sentence.endswith(words[True])
        assert sentence.endswith(words[is_so])
        return is_so

    assert not takes()
    # More of the past alone is not enough.
    cells[1]['ahead_ci'] = [0.1, 0.2]
    assert not takes()
    cells[5]['ahead_ci'] = [0.1, 0.2]
    assert takes()
    # What finds less of what matters in recordings does not, whatever it keeps.
    areas[-1]['ahead_ci'] = [-0.2, -0.1]
    assert not takes()
    areas[-1]['ahead_ci'] = [-0.1, 0.1]
    cells[2]['ahead_ci'] = [-0.2, -0.1]
    assert not takes()


def test_the_page_says_what_known_motion_gives() -> None:
    data = Path(__file__).parent.parent / 'docs' / 'scores.json'
    result = json.loads(data.read_text(encoding='utf-8'))['result']
    for name, base in KNOWN_MOTION.items():
        for other, cells in (('vts', result['turning']['methods'][name]),
                             (base, result['turning']['gains'][name])):
            sentence, = (line for line in verdicts(result)
                         if f'`{name}` keeps more than `{other}`' in line)
            more, less = sentence.split('; less in ')
            assert f'`{other}` in' in more
            is_more = any(cell['ahead_ci'][0] > 0.0 for cell in cells.values())
            is_less = any(cell['ahead_ci'][1] < 0.0 for cell in cells.values())
            for part, wanted in ((more, is_more), (less, is_less)):
                assert ('turning over 10 deg/s at' in part) == wanted


def test_turning_is_curvature_times_speed() -> None:
    rates = [turning_deg(scene) for scene in balanced_scenes('test', 12)]
    assert min(rates) >= 0.0
    assert max(rates) > 0.5
    for scene in balanced_scenes('test', 12):
        if turning_deg(scene) > 0.5:
            s, speed, _ = scene.ego.at(float(scene.times[-1]))
            # How the heading changes over a metre, by differences.
            change = scene.road.heading(s + 1.0) - scene.road.heading(s - 1.0)
            assert turning_deg(scene) >= abs(np.degrees(change / 2.0 * speed)) - 0.3


@pytest.mark.slow
def test_the_command_compares_and_writes_the_page(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_worth, '_ANSWER_TOKENS', 8)
    monkeypatch.setattr(score_recall, '_SCENES', 4)
    monkeypatch.setattr(score_recall, '_PAIRS', 1)
    # Nothing here depends on how well the measures are fitted.
    monkeypatch.setattr(fitted_measures, 'SEEDS', 2)
    monkeypatch.setattr(recurrent_measure, '_EPOCHS', 2)
    monkeypatch.setattr(worth_measure, '_STEPS', 10)
    monkeypatch.setattr(score_roads, 'STILL', 2)
    monkeypatch.setattr(score_roads, '_SCENES', 2)
    monkeypatch.setattr(score_answers, '_WINDOWS', 2)
    monkeypatch.setattr(camera_recall, '_WINDOWS', 4)
    line = ['eval', 'scores', '--model', str(tiny), '--n', '8', '--turning', '8',
            '--cameras', '8', '--pairs', '2', '--fit', '2', '--judged', '2', '--answered', '2',
            '--network', str(model_path('proposal/frame.onnx').parent),
            '--budgets', '0.2,0.1', '--out', str(tmp_path / 'out'),
            '--worth', str(tmp_path / 'worth'), '--report', str(tmp_path / 'docs'), '--json']
    found = CliRunner().invoke(app, line)
    assert found.exit_code == 0, found.output
    assert sorted(path.name for path in (tmp_path / 'worth').iterdir()) == [
        f'{split}-000{number}.npz' for split in ('test', 'train') for number in (0, 1)]
    result = json.loads(found.stdout.splitlines()[-1])
    page = (tmp_path / 'docs' / 'scores.md').read_text(encoding='utf-8')
    auc = result['areas']['test']['auc']
    assert f'`time-recurrent` has an AUC of {auc["time-recurrent"]["mean"]:.3f}' in page
    cell = result['object']['parts']['all']['methods']['random']['0.1']
    row = next(line for line in page.splitlines() if line.startswith('| `random` |'))
    assert float(row.split('|')[3].split()[0]) == pytest.approx(100 * cell['mean'], abs=0.06)
    # The network that ships, once more: equal in everything, so ahead of nothing.
    assert ('`vts-network`, which could ship, is ahead of `vts` in nothing; it is behind in '
            'nothing.') in page
    assert '### Of three cameras' in page
    for part in (result['turning'], result['still'], result['cameras']['parts']['all']):
        cells = part['methods']
        for share in ('0.2', '0.1'):
            assert cells['vts-network'][share]['mean'] == cells['vts'][share]['mean']
    assert 'time-measure' in result['turning']['methods']
    assert 'time-measure' in result['still']['methods']
    assert f'{result["cost_ms"]:.2f} ms a frame' in page
    gain = result['turning']['gains']['time-known-residual']['0.1']['ahead']
    row = next(line for line in page.splitlines() if line.startswith('| `time-known-residual` of'))
    assert f'/ {100 * gain:+.1f} [' in row.split('|')[-2]
    answers = result['answers']
    assert set(answers['pooled']) == {'vts', *CANDIDATES, NETWORK}
    assert (answers['n'], answers['first']) == (2, 300)
    assert f'with all tokens {100 * answers["dense"]["all"]["level"]:.1f} / ' in page
    # What was found is neither fitted to nor looked for again.
    monkeypatch.setattr(fitted_measures, 'fit_one', None)
    monkeypatch.setattr(score_recall, 'render', None)
    again = CliRunner().invoke(app, line)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout.splitlines()[-1]) == result
