# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Events of other senses, and the token budget that follows them."""

from __future__ import annotations

from dataclasses import replace
import json
import math

from hypothesis import example, given, strategies
import numpy as np
from numpy.typing import NDArray
import pytest

from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.pipeline.events import (
    carried_on,
    Event,
    EventLog,
    FADE_SEC,
    frame_weights,
    MOST_EVENTS,
)
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import SceneReport
from vts_ros.sparsify import Proposal, Selection, Sparsifier
from vts_ros.sparsify.frame_budgets import frame_budgets, GAIN
from vts_ros.sparsify.frame_groups import FrameGroups
from vts_ros.sparsify.proposal_network import EMBEDDING_CHANNELS, MAP_SIZE
from vts_ros.vlm.prompts import Prompt, Prompts

SEC = 1_000_000_000
INTERVAL_NS = 400_000_000
GRID, CELLS = (4, 7), 28


@pytest.fixture(scope='module')
def sparsifier() -> Sparsifier:
    return Sparsifier()


def proposals(count: int, seed: int = 0) -> list[Proposal]:
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(count, EMBEDDING_CHANNELS, *MAP_SIZE)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    return [Proposal(saliency, direction) for saliency, direction in zip(
        rng.random((count, *MAP_SIZE), np.float32) ** 3, embedding)]


def kept_of(selection: Selection, frames: int, cells: int = CELLS) -> list[int]:
    return np.bincount(selection.keep // cells, minlength=frames).tolist()


# Events


def test_frames_matter_during_an_event_and_fade_around_it() -> None:
    event = Event('hard_braking', 10 * SEC, 12 * SEC, 0.5)
    half = round(0.5 * FADE_SEC * SEC)
    stamps = [10 * SEC - 2 * half, 10 * SEC - half, 10 * SEC, 11 * SEC, 12 * SEC + half, 20 * SEC]
    assert frame_weights([event], stamps).tolist() == pytest.approx([0, 0.25, 0.5, 0.5, 0.25, 0])
    assert event.seconds == 2.0
    # The one that matters most counts: two that say the same do not add up.
    louder = Event('siren', 11 * SEC, 11 * SEC, 0.75)
    assert frame_weights([event, louder], [11 * SEC]) == [0.75]
    assert frame_weights([], [1, 2]).tolist() == [0.0, 0.0]


def test_the_newest_frames_matter_as_much_as_any_before_them() -> None:
    weights = carried_on(np.array([0.0, 0.7, 0.2, 0.1]), [False, False, True, True])
    assert weights.tolist() == [0.0, 0.7, 0.7, 0.7]
    assert carried_on(np.zeros(3), [False, False, True]).tolist() == [0.0] * 3


@pytest.mark.parametrize(('strength', 'weight'), [
    (math.nan, 0.0), (math.inf, 0.0), (-1.0, 0.0), (7.0, 1.0)])
def test_a_broken_strength_is_no_error(strength: float, weight: float) -> None:
    assert frame_weights([Event('x', 0, SEC, strength)], [SEC // 2]) == [weight]
    # Nor is an event that ends before it begins.
    assert frame_weights([Event('x', 2 * SEC, SEC)], [9 * SEC]) == [0.0]


def test_the_log_replaces_what_goes_on_and_forgets_what_is_old() -> None:
    log = EventLog()
    assert log.near([0, 5 * SEC]) == ()
    log.add(Event('siren', 3 * SEC, 4 * SEC))
    log.add(Event('siren', 3 * SEC, 5 * SEC))
    log.add(Event('horn', SEC, SEC))
    assert [(event.kind, event.end_ns) for event in log.near([0, 9 * SEC])] == [
        ('horn', SEC), ('siren', 5 * SEC)]
    assert [event.kind for event in log.near([5 * SEC])] == ['siren']
    assert log.near([]) == log.near([8 * SEC]) == ()
    log.add(Event('horn', 500 * SEC, 500 * SEC))
    assert [event.start_ns for event in log.near([0, 600 * SEC])] == [500 * SEC]
    for index in range(MOST_EVENTS + 9):
        log.add(Event('horn', 501 * SEC + index, 501 * SEC + index))
    assert len(log.near([501 * SEC])) == MOST_EVENTS
    log.clear()
    assert log.near([501 * SEC]) == ()
    # A stamp of another time costs what was there, not what comes.
    log.add(Event('horn', 10 ** 9 * SEC, 10 ** 9 * SEC))
    log.add(Event('siren', 502 * SEC, 502 * SEC))
    assert [event.kind for event in log.near([502 * SEC])] == ['siren']


def test_the_prompt_file_has_the_words() -> None:
    # A kind without words in the file, one that is not told, one with words, and one with none.
    events = [Event('whistle', 0, 2 * SEC, is_told=True, sentence='A whistle is heard.'),
              Event('horn', 0, SEC, sentence='A horn.'),
              Event('hard_braking', SEC, 2 * SEC, is_told=True),
              Event('unheard', 0, SEC, is_told=True)]
    for language, brakes in (('en', 'The car brakes hard.'), ('de', 'Das Auto bremst stark.')):
        prompt = Prompts.load(language).description
        assert prompt.telling(events).instruction == \
            f'A whistle is heard. {brakes} {prompt.instruction}'
        assert prompt.telling(events[1:2]) == prompt
    own = Prompt('S', 'I', events={'whistle': 'A whistle for {seconds} s.'})
    assert own.telling(events[:1] * 2).instruction == 'A whistle for 2 s. I'


# The budget of a window


@given(strategies.lists(strategies.tuples(
    strategies.integers(0, CELLS), strategies.floats(0.0, 1.0)), min_size=1, max_size=12))
@example([(0, 0.25), (5, 0.0), (5, 1e-38)])
def test_budgets_keep_their_total(frames: list[tuple[int, float]]) -> None:
    counts = np.array([count for count, _ in frames])
    weights = np.array([weight for _, weight in frames])
    budgets = frame_budgets(counts, CELLS, weights)
    assert budgets.sum() == counts.sum()
    assert ((budgets >= 0) & (budgets <= CELLS)).all()
    # Of two that would keep as many, the one that matters more keeps no fewer.
    for (count, weight), budget in zip(frames, budgets):
        assert all(budget >= other for (alike, less), other in zip(frames, budgets)
                   if alike == count and less < weight)


def test_a_moment_that_matters_gets_more_in_the_published_form() -> None:
    counts = np.array([10, 10, 10, 10])
    assert frame_budgets(counts, 999, np.array([0.0, 1.0, 0.0, 0.0])).tolist() == [
        8, 40 * (1 + GAIN) / (4 + GAIN), 8, 8]
    # Also one that the pictures alone would give nothing.
    assert frame_budgets(np.array([10, 0, 10]), 999, np.array([0.0, 1.0, 0.5])).tolist() == [
        7, 4, 9]
    for weight in (0.0, 0.3, 1.0):
        assert frame_budgets(counts, 999, np.full(4, weight)).tolist() == counts.tolist()
    # A frame that is full leaves the rest to the others.
    assert frame_budgets(counts, 12, np.array([1.0, 0.0, 0.0, 0.0])).tolist() == [12, 10, 9, 9]


@pytest.mark.parametrize('ratio', [0.05, 0.1, 0.37, 0.6, 1.0])
@pytest.mark.parametrize('weights', [[0, 0, 1, 0.5, 0], [0, 0, 0, 0, 1], [0.2, 1, 1, 0.9, 0]])
def test_a_selection_follows_the_moments_and_keeps_what_is_promised(
        sparsifier: Sparsifier, ratio: float, weights: list[float]) -> None:
    window = proposals(5)
    plain = sparsifier.select(window, GRID, ratio)
    found = sparsifier.select(window, GRID, ratio, weights=np.array(weights))
    assert (found.key, found.score.tolist()) == (plain.key, plain.score.tolist())
    assert len(found.keep) == len(plain.keep)
    assert found.keep.dtype == np.int32
    assert (np.diff(found.keep) > 0).all()
    before, after = np.array(kept_of(plain, 5)), np.array(kept_of(found, 5))
    assert after.tolist() == frame_budgets(before, CELLS, np.array(weights)).tolist()
    if ratio < 0.5:
        assert after[np.argmax(weights)] > before[np.argmax(weights)]
    # In every frame it is the same order: who keeps fewer keeps some of the same.
    for frame in np.flatnonzero(after <= before):
        old, new = (set(selected.keep[selected.keep // CELLS == frame].tolist())
                    for selected in (plain, found))
        assert len(new - old) <= 1  # reserves are rounded down


def test_moments_that_matter_alike_change_no_bit(sparsifier: Sparsifier) -> None:
    for seed in range(8):
        window = proposals(5, seed)
        plain = sparsifier.select(window, GRID, 0.3, previous_key=1)
        for weight in (0.0, 0.4, 1.0):
            found = sparsifier.select(window, GRID, 0.3, 1, np.full(5, weight))
            assert found.keep.tobytes() == plain.keep.tobytes()
        # Also where the budgets come out as they were, by the other way.
        counts = np.bincount(plain.keep // CELLS, minlength=5)
        nearly = np.array([1e-12, 0.0, 0.0, 0.0, 0.0])
        assert frame_budgets(counts, CELLS, nearly).tolist() == counts.tolist()
        assert sparsifier.select(window, GRID, 0.3, 1, nearly).keep.tobytes() == \
            plain.keep.tobytes()


def test_cameras_of_other_sizes_have_their_moments(sparsifier: Sparsifier) -> None:
    window = [proposal for pair in zip(proposals(3), proposals(3, seed=1)) for proposal in pair]
    grids = [(4, 7), (8, 14)] * 3
    weights = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    plain = sparsifier.select_each(window, grids, 0.2)
    found = sparsifier.select_each(window, grids, 0.2, weights=weights)
    assert len(found.keep) == len(plain.keep)
    begin = sum(rows * columns for rows, columns in grids[:4])
    assert (found.keep >= begin).sum() > (plain.keep >= begin).sum()


# The budget of a group in causal mode


@pytest.mark.parametrize('ratio', [0.3, 0.5])
def test_a_group_gives_more_to_the_moment_and_keeps_its_total(
        sparsifier: Sparsifier, ratio: float) -> None:
    def kept(weights: list[float]) -> list[int]:
        groups = FrameGroups(sparsifier.variant(hysteresis=9.0), len(weights))
        return [len(groups.take({'a': proposal}, GRID, ratio, weight)['a'].keep)
                for proposal, weight in zip(alike, weights)]

    first, = proposals(1)
    alike = [first._replace(saliency=first.saliency * np.float32(1 - 0.01 * index))
             for index in range(6)]
    plain, braking = kept([0.0] * 6), kept([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert braking[2] > plain[2]
    assert braking[:2] == plain[:2]
    assert min(braking[3:]) >= int(0.25 * ratio * CELLS)
    assert sum(braking) == sum(plain)
    # What matters all the time changes nothing.
    assert kept([1.0] * 6) == plain
    # Nor does a look spend anything.
    groups = FrameGroups(sparsifier, 6)
    groups.take({'a': alike[0]}, GRID, ratio)
    looked = groups.look({'a': alike[1]}, {'a': GRID}, ratio, 1.0)['a'].keep
    assert looked.tolist() == groups.take({'a': alike[1]}, GRID, ratio, 1.0)['a'].keep.tolist()


# The pipeline


@pytest.fixture(scope='module')
def frames() -> list[Frame]:
    clip = render(next(balanced_scenes('val', 1, first=2, frames=8)))
    return [Frame('front', SEC + index * INTERVAL_NS, picture)
            for index, picture in enumerate(clip.frames)]


@pytest.fixture(scope='module', params=['window', 'causal'])
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    return Pipeline.load(PipelineConfig(
        threads=1, max_new_tokens=24, mode=request.param, keep_ratio=0.5, group_frames=4))


@pytest.mark.slow
def test_reports_name_the_events_and_keep_more_of_their_moment(
        pipeline: Pipeline, frames: list[Frame]) -> None:
    window = frames[:5]
    pipeline.clear()
    plain = pipeline.describe(window)
    assert plain.events == ()
    pipeline.clear()
    # Of another time: nothing changes.
    pipeline.events.add(Event('hard_braking', 90 * SEC, 91 * SEC))
    assert pipeline.describe(window).keep == plain.keep
    pipeline.clear()
    at_ns = window[2].stamp_ns
    # As in a car: what is noticed is known when the next picture comes.
    pipeline.ingest(window[:2])
    pipeline.events.add(Event('hard_braking', at_ns, at_ns + SEC // 10, 1.0, is_told=True))
    report = pipeline.describe(window)
    in_event = [sum(position // CELLS == 2 for position in found.keep)
                for found in (plain, report)]
    assert in_event[1] > in_event[0]
    if pipeline.config.mode == 'window':
        assert len(report.keep) == len(plain.keep)
    event, = report.events
    assert (event.kind, event.start, event.told) == ('hard_braking', at_ns, True)
    assert SceneReport.from_dict(json.loads(report.to_json())).events == report.events
    without = report.to_dict()
    del without['events']
    assert SceneReport.from_dict(without) == replace(report, events=(), **{
        name: getattr(SceneReport.from_dict(without), name)
        for name in ('latency_ms', 'time_to_risk_ms', 'confidence', 'age_ms')})
    # It is forgotten with the pictures.
    pipeline.clear()
    assert pipeline.describe(window).keep == plain.keep


@pytest.mark.slow
def test_questions_and_keep_lists_alone_know_the_events(
        pipeline: Pipeline, frames: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    prepare = pipeline.vlm.prepare
    texts = pipeline.vlm.texts

    def noting(captions: object, prompt: Prompt) -> list[str]:
        asked.append(prompt.instruction)
        return texts(captions, prompt)  # type: ignore[arg-type]

    def preparing(features: object, captions: object, prompt: Prompt) -> object:
        asked.append(prompt.instruction)
        return prepare(features, captions, prompt)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.vlm, 'texts', noting)
    monkeypatch.setattr(pipeline.vlm, 'prepare', preparing)
    pipeline.clear()
    plain: NDArray[np.int32] = pipeline.select(frames[:5]).keep
    pipeline.clear()
    pipeline.events.add(Event('hard_braking', frames[4].stamp_ns, frames[4].stamp_ns,
                              is_told=True))
    moved = pipeline.select(frames[:5]).keep
    assert len(moved) == len(plain)
    assert (moved >= 4 * CELLS).sum() > (plain >= 4 * CELLS).sum()
    pipeline.ask(frames[:5], 'What is the main hazard?')
    assert any('The car brakes hard.' in text for text in asked)
    pipeline.clear()
