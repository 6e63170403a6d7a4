# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Advice on keep ratio and frames for a road: what is asked, kept, counted and said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from all_commands import app
from bag_maker import real_bags
import pytest
from typer.testing import CliRunner

from vts_ros.errors import BagError
from vts_ros.lab.evaluation import advice
from vts_ros.lab.evaluation.advice import advise, draw_advice, in_words
from vts_ros.lab.scenes.clips import make_scene
from vts_ros.lab.scenes.scene_bag import write_bag
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import token_budget
from vts_ros.vlm import Vlm


@pytest.fixture(scope='module')
def pipeline() -> Iterator[Pipeline]:
    loaded = Pipeline.load(PipelineConfig())
    yield loaded
    loaded.close()


@pytest.fixture(scope='module')
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('drives') / 'drive'
    write_bag(path, make_scene(1_100_000_007, 'lead braking', 6, 0.4), 448, 256)
    return path


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask about two lengths and two shares."""
    monkeypatch.setattr(advice, 'FRAMES', (2, 3))
    monkeypatch.setattr(advice, 'RATIOS', (0.6, 0.1))


@pytest.mark.slow
@pytest.mark.usefixtures('fewer')
def test_windows_are_asked_about_with_fewer_frames_and_tokens(
        pipeline: Pipeline, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    generate = Vlm.generate

    def counted(vlm: Vlm, prepared: object, keep: object = None, *rest: object, **options: object
                ) -> object:
        asked.append(0 if keep is None else len(keep))  # type: ignore[arg-type]
        return generate(vlm, prepared, keep, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Vlm, 'generate', counted)
    result = advise(pipeline, [drive], 2, tmp_path)
    of = {(frames, ratio): token_budget(frames, (4, 7), ratio)
          for frames in (2, 3) for ratio in (0.6, 0.1)}
    assert sorted(asked) == sorted(2 * ([0, 0] + 3 * list(of.values())))
    assert result['n'] == 2
    assert result['refused'] == 0
    assert result['frames_same']['3'] == [1.0, 1.0, 1.0]
    assert sum(result['levels'].values()) == 2
    # Said again without asking again.
    asked.clear()
    assert advise(pipeline, [drive], 2, tmp_path) == result
    assert not asked
    assert draw_advice(result).axes[0].lines


@pytest.mark.slow
@pytest.mark.usefixtures('fewer')
def test_a_road_out_of_the_world_of_the_model_is_told(pipeline: Pipeline, tmp_path: Path) -> None:
    result = advise(pipeline, real_bags()[:1], 2, tmp_path)
    assert result['refused'] == 2
    assert any('a node would answer "unknown" there' in line for line in in_words(result))


def test_too_short_a_recording_is_told(pipeline: Pipeline, drive: Path, tmp_path: Path) -> None:
    with pytest.raises(BagError, match='too short, a window needs 8 frames'):
        advise(pipeline, [drive], 2, tmp_path)


def facts(pruned: dict[float, str], shorter: str = 'high') -> dict[str, tuple[str, str]]:
    """Return what a model says of a window: another level at some shares, or of fewer frames."""
    found = {}
    for frames in advice.FRAMES:
        dense = 'high' if frames == max(advice.FRAMES) else shorter
        found[f'{frames}/1/vts'] = (dense, 'car')
        for ratio in advice.RATIOS:
            for way in advice.WAYS:
                level = pruned.get(ratio, dense) if way == 'vts' else 'none'
                found[f'{frames}/{ratio:g}/{way}'] = (level, 'car')
    return found


def test_the_least_that_is_enough_is_advised() -> None:
    # One of forty windows changes at 60 %, a quarter at 40 %, which ends the search.
    answers = [facts({0.6: 'low'})] + 10 * [facts({0.4: 'low'})] + 29 * [facts({})]
    result = advice._figures(answers, 'model', ['drive'])
    assert result['advice']['frames'] == min(advice.FRAMES)
    assert result['advice']['keep_ratio'] == 0.6
    assert result['advice']['same'][0] == 0.975
    assert result['advice']['half']['keep_ratio'] in (0.2, 0.4)
    lines = in_words(result)
    assert lines[0] == 'buffer.frames: 2, sparsify.keep_ratio: 0.6'
    assert any('the choice of the tokens matters' in line for line in lines)
    assert any('says "high" of every window' in line for line in lines)


def test_frames_are_needed_where_fewer_say_something_else() -> None:
    result = advice._figures(20 * [facts({}, 'low')], 'model', ['drive'])
    assert result['advice']['frames'] == max(advice.FRAMES)
    assert result['frames_same'][str(min(advice.FRAMES))][0] == 0.0


def test_all_tokens_are_advised_where_nothing_less_will_do() -> None:
    changed = dict.fromkeys(advice.RATIOS, 'low')
    result = advice._figures(20 * [facts(changed)], 'model', ['drive'])
    assert result['advice']['keep_ratio'] == 1.0
    assert not any('matters' in line for line in in_words(result))


@pytest.mark.slow
@pytest.mark.usefixtures('fewer')
def test_the_command_says_it_in_words_and_a_picture(drive: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ['advise', '--bag', str(drive), '--n', '2', '--out',
                                    str(tmp_path / 'advice')])
    assert done.exit_code == 0, done.output
    assert 'sparsify.keep_ratio: ' in done.output
    assert 'nobody knows the truth here' in ' '.join(done.output.split())
    assert (tmp_path / 'advice' / 'advice.png').stat().st_size > 5000
