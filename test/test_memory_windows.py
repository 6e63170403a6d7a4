# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows that need the past: the newest frames of a pair are equal, what came before is not."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path

from all_commands import app
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from vts_ros.lab.evaluation.key_frame_answers import KEYS
from vts_ros.lab.evaluation.memory_evaluation import (
    evaluate_memory,
    is_held,
    KEPT_METHODS,
    nearest_newest,
)
from vts_ros.lab.scenes.clips import CLEAR_PX, make_scene, render, SPLITS
from vts_ros.lab.scenes.memory_families import MEMORY_FAMILIES
from vts_ros.lab.scenes.memory_windows import (
    INTERVAL_SEC,
    LEAST_HIDDEN_SEC,
    LEAST_SIGHTS,
    make_pair,
    memory_pairs,
    memory_truth,
    MemoryPair,
    render_memory,
)
from vts_ros.lab.scenes.past_questions import past_questions
from vts_ros.lab.scenes.scene_truth import TRUE_LEVELS
from vts_ros.lab.scenes.silhouette import Sight, sight, silhouette
from vts_ros.lab.scenes.world import Body, Veil
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig

pytestmark = pytest.mark.slow

SEEDS = SPLITS['train']
#: Means of the newest frame of windows that are no memory windows, as they always were.
BEFORE = {3: (121.335, 127.157, 133.698), 1_000_000_004: (170.181, 173.519, 162.329),
          1_100_000_005: (39.994, 42.895, 50.614)}


@pytest.fixture(scope='module')
def pairs() -> dict[str, MemoryPair]:
    """Return a pair of 8 frames of each family."""
    return {pair.hazard.scene.family: pair for pair in memory_pairs('train', 8, first=16)}


def test_there_are_eight_families(pairs: dict[str, MemoryPair]) -> None:
    assert list(pairs) == list(MEMORY_FAMILIES)
    assert len(pairs) == 8


@pytest.mark.parametrize('size', [(224, 128), (480, 270)])
def test_newest_frames_of_a_pair_are_equal_and_earlier_ones_are_not(
        pairs: dict[str, MemoryPair], size: tuple[int, int]) -> None:
    for family, pair in pairs.items():
        hazard, twin = (render_memory(found, *size).frames for found in pair)
        assert np.array_equal(hazard[-1], twin[-1]), family
        different = [int((np.abs(a.astype(int) - b).max(axis=2) > 24).sum())
                     for a, b in zip(hazard, twin)]
        assert sum(pixels >= 10 for pixels in different) >= 2, (family, different)


def test_long_pairs_end_in_the_same_picture_too() -> None:
    for frames, family in ((16, 'light before glare'), (32, 'sign passed')):
        hazard, twin = (render_memory(found).frames
                        for found in make_pair(SEEDS[3], family, frames))
        assert len(hazard) == frames
        assert np.array_equal(hazard[-1], twin[-1])
        assert not np.array_equal(hazard, twin)


def test_pairs_share_everything_but_the_past(pairs: dict[str, MemoryPair]) -> None:
    for pair in pairs.values():
        assert pair.hazard.common is pair.twin.common
        for found in pair:
            own = {body.id for body in found.past.bodies}
            assert [body for body in found.scene.bodies if body.id not in own] == list(
                found.common.bodies)


def test_hazard_is_riskier_than_its_twin_by_what_is_hidden(pairs: dict[str, MemoryPair]) -> None:
    for family, pair in pairs.items():
        hazard, twin = map(memory_truth, pair)
        assert TRUE_LEVELS.index(hazard.risk) > TRUE_LEVELS.index(twin.risk), family
        assert hazard.label in {body.label for body in pair.hazard.past.bodies}
        # It is not in the newest frame: there is no box, and no actor.
        assert hazard.box is None
        assert hazard.actors == twin.actors
        assert not {body.id for body in pair.hazard.past.bodies} & {
            actor.id for actor in hazard.actors}


def test_last_sight_is_clear_and_past(pairs: dict[str, MemoryPair]) -> None:
    for found in (found for pair in pairs.values() for found in pair):
        truth = memory_truth(found)
        newest_ns = round(float(found.scene.times[-1]) * 1e9)
        assert len(truth.sights) >= LEAST_SIGHTS
        assert newest_ns - truth.seen_until_ns > 1e9 * (LEAST_HIDDEN_SEC - INTERVAL_SEC)
        assert truth.seen_until_ns == round(
            float(found.scene.times[truth.sights[-1].frame]) * 1e9)
        assert truth.seen_box == truth.sights[-1].box
        assert 128 * (truth.seen_box[3] - truth.seen_box[1]) >= CLEAR_PX
        # Later frames do not show it clearly.
        later = found.sights[truth.sights[-1].frame + 1:]
        assert not any(seen is not None and seen.is_clear for seen in later)


def test_truth_of_a_frame_has_what_tells_where_its_pixels_show_it(
        pairs: dict[str, MemoryPair]) -> None:
    found = pairs['animal behind a bush'].hazard
    clip = render_memory(found)
    shown = [any(actor.id == found.past.bodies[0].id for actor in frame.actors)
             for frame in clip.truths]
    assert shown == [seen is not None for seen in found.sights]
    assert any(shown)
    # A bush is no actor: boxes alone would still show the animal.
    assert not shown[-1]
    with pytest.raises(ValueError, match='whole clip'):
        clip.window_truth(length=5)


def test_silhouette_is_where_the_rendered_frame_changes(pairs: dict[str, MemoryPair]) -> None:
    found = pairs['animal behind a bush'].hazard
    index = found.clear[-1].frame
    bare = render(found.common)
    with_it = render(found.scene)
    changed = (bare.frames[index] != with_it.frames[index]).any(axis=2)
    mask = silhouette(found.scene, index, found.past.thing)
    # The picture is drawn at this size and averaged down.
    shown = mask.reshape(128, 2, 224, 2).any(axis=(1, 3))
    assert shown.any()
    assert (changed & ~shown).sum() == 0
    assert changed.sum() > 0.9 * shown.sum()


def test_veil_hides_what_is_under_it(pairs: dict[str, MemoryPair]) -> None:
    found = pairs['light before glare'].hazard
    last = len(found.scene.times) - 1
    clear = replace(found.scene, veils=())
    light = found.past.thing
    assert isinstance(light, Body)
    assert sight(found.scene, last, light) is None
    seen = sight(clear, last, light)
    assert seen is not None
    assert seen.is_clear
    over: Veil = found.scene.veils[0]
    assert over.start > 0.0
    assert sight(found.scene, found.clear[-1].frame, light) is not None


def test_pairs_are_reproducible_and_workers_take_disjoint_ranges() -> None:
    first = list(memory_pairs('val', 3))
    second = list(memory_pairs('val', 2, first=1))
    assert [pair.hazard.scene.seed for pair in first] == list(SPLITS['val'][:3])
    assert [memory_truth(pair.hazard) for pair in first[1:]] == [
        memory_truth(pair.hazard) for pair in second]


def test_unknown_family_and_length_are_refused() -> None:
    with pytest.raises(ValueError, match='is none of child behind a van'):
        make_pair(0, 'volcano')
    with pytest.raises(ValueError, match='9 frames'):
        make_pair(0, 'sign passed', 9)


def test_questions_about_the_past_tell_the_twins_apart(pairs: dict[str, MemoryPair]) -> None:
    for pair in pairs.values():
        asked = [past_questions(memory_truth(found), render_memory(found).truths,
                                np.random.default_rng(5)) for found in pair]
        for way, presence in asked:
            assert way.is_right(way.answer), way
            assert presence.is_right(presence.answer), presence
            assert not presence.is_right('I do not know.')
        ways = [questions[0] for questions in asked]
        # What is right of the hazard is wrong of its twin.
        assert not ways[0].is_right(ways[1].answer)
        assert not ways[1].is_right(ways[0].answer)


def test_windows_without_memory_are_as_before() -> None:
    for seed, mean in BEFORE.items():
        frame = render(make_scene(seed)).frames[-1]
        assert frame.astype(float).mean(axis=(0, 1)) == pytest.approx(mean, abs=2e-3)


def test_half_of_what_is_seen_has_to_be_kept() -> None:
    # Two by four tokens; the box covers the two in the middle of the upper row of frame 1.
    seen = Sight(1, (0.25, 0.0, 0.75, 0.5), 1.0)
    assert is_held(np.array([9], np.int32), (2, 4), seen)
    assert is_held(np.array([10], np.int32), (2, 4), seen)
    assert not is_held(np.array([8, 11, 13], np.int32), (2, 4), seen)
    # The same places of another frame do not count.
    assert not is_held(np.array([1, 2], np.int32), (2, 4), seen)
    wide = Sight(0, (0.0, 0.0, 0.75, 0.5), 1.0)
    assert not is_held(np.array([0], np.int32), (2, 4), wide)
    assert is_held(np.array([0, 2], np.int32), (2, 4), wide)


def test_equal_newest_frames_leave_chance_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    frames = rng.random((12, 16, 28, 3), np.float32)
    assert nearest_newest(np.repeat(frames, 2, axis=0)) == 0.5
    told = np.repeat(frames, 2, axis=0)
    told[::2] += 5.0
    assert nearest_newest(told) == 1.0


@pytest.mark.slow
def test_command_writes_a_page_and_tells_the_same(model: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [
        'eval', 'scenes', '--memory', '--model', model, '--split', 'val', '--n', '2',
        '--answered', '1', '--questions', '--budgets', '1,0.2', '--report', str(tmp_path),
        '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output.splitlines()[-1])
    found = result['lengths']['8']
    assert found['newest_alone'] == {'equal': 1.0, 'nearest': 0.5}
    assert found['answered'] == 1
    # Who keeps everything keeps what tells.
    assert {method: kept['last'] for method, kept in found['kept']['1'].items()} == dict.fromkeys(
        KEPT_METHODS, 1.0)
    assert all(ahead['ever'] == 0.0 for ahead in found['ahead']['1'].values())
    assert found['kept']['0.2']['newest']['last'] == 0.0
    assert found['answers']['1']['questions']['n'] == 4
    # Where all is kept, the key frame does not matter.
    keys = found['by_key']['1']
    assert keys.keys() == KEYS.keys()
    assert all(said['ahead'] == 0.0 and said['level'] == keys['learned']['level']
               for said in keys.values())
    hazard, twin = (found['answers']['1'][f'{which}_level'] for which in ('hazard', 'twin'))
    assert keys['learned']['level'] == 0.5 * (hazard + twin)
    page = (tmp_path / 'memory.md').read_text()
    assert '| 8 | 100.0% | 50.0% |' in page
    assert '- 8 frames: against newest within noise at 100%' in page
    picture = cv2.imread(str(tmp_path / 'memory.jpg'))
    assert picture is not None
    height, width = picture.shape[:2]
    rows = picture[:height // 2, -width // 8:], picture[height // 2:, -width // 8:]
    # JPEG aside, the newest frames are the same.
    assert np.abs(rows[0].astype(int) - rows[1]).mean() < 3.0


@pytest.mark.parametrize(('options', 'message'), [
    (['--memory', '--frames', '9'], 'is none of 8, 16, 32'),
    (['--frames', '8'], 'are about --memory'),
    (['--memory', '--methods', 'vts'], '--memory is not about --methods'),
])
def test_options_that_do_not_fit_are_refused(options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ['eval', 'scenes', *options])
    assert done.exit_code == 2
    assert message in ' '.join(done.output.replace('│', ' ').split())


def test_the_shipped_adapter_remembers_what_the_newest_frame_hides() -> None:
    """Figures of more pairs are in docs/method.md."""
    pipeline = Pipeline.load(PipelineConfig(adapter='past_adapter', draft=False, threads=1))
    found = evaluate_memory(pipeline, 'val', n=3, lengths=(8,), budgets=())['lengths']['8']
    # Both windows of a pair end with the same frame: only what was seen before tells.
    assert found['answers']['1']['told_apart'] >= 0.5
    assert found['answers']['1']['wrong_way'] == 0.0
    pipeline.close()
