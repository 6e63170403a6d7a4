# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When the language model is asked, and what is said where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import itertools
import json
from pathlib import Path
import shutil

from bag_maker import real_bags
import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

from vts_ros.errors import GateError, VlmError
from vts_ros.lab.evaluation.drive_records import drive_windows
from vts_ros.lab.scenes.clips import make_scene, render
from vts_ros.lab.scenes.composite import Backdrop, bare, render_over
from vts_ros.paths import model_path
from vts_ros.pipeline.change_gate import (
    ChangeGate,
    CHANGES,
    FEATURES,
    features,
    FILE,
    Moment,
    Standing,
)
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import SceneReport
from vts_ros.pipeline.speaking import Speaking, Stands, UntilRisk
from vts_ros.sparsify import Proposal, Sparsifier
from vts_ros.sparsify.compiled_steps import FRAME
from vts_ros.tools.bag_frames import read_frames
from vts_ros.vlm.answers import Answer, Box, RiskLevel
from vts_ros.vlm.answers import render as write
from vts_ros.vlm.vehicle import Vehicle

pytestmark = pytest.mark.slow

STEP_NS = 400_000_000
EVERY_SEC = 5.0


def gate_with(offset: float, limit: float = 1e9) -> ChangeGate:
    """Return a gate that is always open or always shut, but for changes beyond the limit."""
    return ChangeGate((0.0,) * len(FEATURES), offset, (0.0,) * len(FEATURES),
                      (limit,) * len(CHANGES))


OPEN, SHUT = gate_with(1.0), gate_with(-1.0)


@pytest.fixture(scope='module')
def loaded() -> Pipeline:
    return Pipeline.load(PipelineConfig(speak='change'))


@pytest.fixture
def pipeline(loaded: Pipeline) -> Iterator[Pipeline]:
    """Return a pipeline in which nothing stands, with a gate that is shut."""
    loaded.clear()
    loaded.speaking = Speaking(EVERY_SEC, SHUT, is_brief=False)
    yield loaded
    loaded.clear()


@pytest.fixture(scope='module')
def hazard() -> NDArray[np.uint8]:
    """Return a picture with a hazard of the world that the embedded model knows."""
    return np.asarray(render(make_scene(3, 'following', level='high')).frames[-1], np.uint8)


def still(rgb: NDArray[np.uint8], newest: int) -> list[Frame]:
    """Return a window in which nothing moves, and whose newest frame has this number."""
    return [Frame('front', number * STEP_NS, rgb) for number in range(newest - 4, newest + 1)]


# The pipeline

def test_what_stands_is_confirmed_at_the_cost_of_a_look(
        pipeline: Pipeline, hazard: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    first = pipeline.describe(still(hazard, 4))
    assert first.answer.risk not in ('none', 'unknown')
    assert not first.is_confirmed
    monkeypatch.setattr(pipeline.vlm, 'generate_batch', None)
    monkeypatch.setattr(pipeline.vlm, 'encode', None)
    second = pipeline.describe(still(hazard, 5))
    third = pipeline.describe(still(hazard, 6))
    assert (second.is_confirmed, second.stamp, second.asked_stamp) == \
        (True, 5 * STEP_NS, 4 * STEP_NS)
    assert third.asked_stamp == third.text_stamp == 4 * STEP_NS
    assert second.answer == replace(first.answer, box=None)
    assert second.risk_values['level'] == first.answer.risk
    assert second.risk_values['confirmed'] == 'true'
    assert 'confirmed' not in first.risk_values
    assert (second.keep, second.answer_tokens) == ((), 0)
    assert second.frames[-1].stamp == second.key_frame.stamp == second.stamp
    assert {'gate', 'propose', 'total'} <= set(second.latency_ms)
    assert not {'encode', 'prefill', 'decode'} & set(second.latency_ms)
    assert pipeline.stats()['speak_confirmed'] == 2


def test_frames_that_came_meanwhile_are_looked_at_once(
        pipeline: Pipeline, hazard: NDArray[np.uint8]) -> None:
    before = pipeline.cache.counters['frames_new']
    for newest in (4, 5, 6):
        pipeline.describe(still(hazard, newest))
    asked = pipeline.describe(still(hazard, 7), insist=True)
    assert pipeline.cache.counters['frames_new'] - before == 8
    pipeline.clear()
    pipeline.speaking = None
    fresh = pipeline.describe(still(hazard, 7))
    assert (asked.answer, asked.keep) == (fresh.answer, fresh.keep)


def test_the_report_says_that_it_is_confirmed(
        pipeline: Pipeline, hazard: NDArray[np.uint8]) -> None:
    first, second = (json.loads(pipeline.describe(still(hazard, newest)).to_json())
                     for newest in (4, 5))
    assert (first['confirmed'], first['asked_stamp'], first['text_stamp']) == \
        (False, first['stamp'], first['stamp'])
    assert (second['confirmed'], second['asked_stamp']) == (True, first['stamp'])
    assert json.loads(SceneReport.from_dict(second).to_json()) == second
    for name in ('confirmed', 'asked_stamp', 'text_stamp'):
        # As reports of before were.
        first.pop(name)
    assert not SceneReport.from_dict(first).is_confirmed


def test_nothing_is_said_for_longer_than_the_heartbeat(
        pipeline: Pipeline, hazard: NDArray[np.uint8]) -> None:
    reports = [pipeline.describe(still(hazard, newest)) for newest in range(4, 31)]
    ages = [0 if report.asked_stamp is None else report.stamp - report.asked_stamp
            for report in reports]
    assert max(ages) == 12 * STEP_NS  # 4.8 s; one more would be beyond 5 s
    assert ages.count(0) == 3
    # Time that stands still or goes back is no reason to say it again.
    assert not pipeline.describe(still(hazard, 8)).is_confirmed


def test_an_unknown_answer_is_never_confirmed(pipeline: Pipeline) -> None:
    grey = np.full((128, 224, 3), 128, np.uint8)
    for newest in (4, 5, 6):
        report = pipeline.describe(still(grey, newest))
        assert report.answer.risk == 'unknown'
        assert not report.is_confirmed


def test_nothing_is_confirmed_over_pictures_that_the_guard_refuses(
        pipeline: Pipeline, hazard: NDArray[np.uint8]) -> None:
    assert pipeline.describe(still(hazard, 4)).answer.risk != 'unknown'
    window = [*still(hazard, 5)[:-1], Frame('front', 5 * STEP_NS, hazard[:, ::-1].copy())]
    report = pipeline.describe(window)
    assert (report.is_confirmed, report.answer.risk) == (False, 'unknown')


def test_a_failed_or_interrupted_answer_is_not_followed_by_a_confirmation(
        pipeline: Pipeline, hazard: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise VlmError('no answer in 10 s')

    pipeline.describe(still(hazard, 4))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.vlm, 'generate_batch', fail)
        assert pipeline.describe(still(hazard, 5)).is_confirmed
        with pytest.raises(VlmError):
            pipeline.describe(still(hazard, 6), insist=True)
    assert not pipeline.describe(still(hazard, 7)).is_confirmed
    pipeline.describe(still(hazard, 8), stop=lambda: True, insist=True)
    assert not pipeline.describe(still(hazard, 9)).is_confirmed


def test_other_reasons_to_ask(pipeline: Pipeline, hazard: NDArray[np.uint8]) -> None:
    def asked(newest: int, vehicle: Vehicle | None = None, camera: str = 'front') -> bool:
        window = [replace(frame, camera=camera) for frame in still(hazard, newest)]
        return not pipeline.describe(window, None, vehicle).is_confirmed

    assert asked(4)
    assert not asked(5)
    assert asked(6, camera='rear')
    assert asked(7, Vehicle(speed_mps=10.0), 'rear')
    assert not asked(8, Vehicle(speed_mps=12.0), 'rear')
    assert asked(9, Vehicle(speed_mps=12.0, turn_signal='left'), 'rear')
    pipeline.clear()
    assert asked(10, camera='rear')
    counters = pipeline.speaking.counters if pipeline.speaking else {}
    assert counters == {'asked_nothing_stands': 2, 'confirmed': 2, 'asked_cameras': 1,
                        'asked_car': 2}


def test_the_risk_alone_is_written_where_it_is_what_it_was(
        pipeline: Pipeline, hazard: NDArray[np.uint8]) -> None:
    pipeline.speaking = Speaking(EVERY_SEC, OPEN, is_brief=True)
    # With a draft the rest may be there at once.
    pipeline.drafts = None
    whole, brief = (pipeline.describe(still(hazard, newest)) for newest in (4, 5))
    assert brief.answer == whole.answer
    assert brief.answer_tokens < 0.7 * whole.answer_tokens
    assert (brief.is_confirmed, brief.text_stamp) == (False, whole.stamp)
    assert brief.confidence == pytest.approx(whole.confidence, abs=1e-4)
    # Texts age: with the heartbeat they are written anew.
    later = [pipeline.describe(still(hazard, newest)) for newest in range(6, 18)]
    assert [report.text_stamp for report in later].count(None) == 1
    assert all(report.stamp - (report.text_stamp or report.stamp) < 1e9 * EVERY_SEC
               for report in later)


def test_all_is_written_where_the_level_is_another(
        pipeline: Pipeline, hazard: NDArray[np.uint8]) -> None:
    speaking = pipeline.speaking = Speaking(EVERY_SEC, OPEN, is_brief=True)
    whole = pipeline.describe(still(hazard, 4))
    assert speaking._stands is not None
    speaking._stands = speaking._stands._replace(report=replace(
        whole, answer=replace(whole.answer, risk='none', explanation='It is far away.')))
    again = pipeline.describe(still(hazard, 5))
    assert again.answer == whole.answer
    assert again.text_stamp is None


@pytest.mark.parametrize('mode', ['change', 'risk'])
def test_causal_mode_goes_on_reading(mode: str, hazard: NDArray[np.uint8]) -> None:
    pipeline = Pipeline.load(PipelineConfig(speak=mode, mode='causal'))
    pipeline.speaking = Speaking(EVERY_SEC, SHUT, is_brief=mode == 'risk')
    asked = pipeline.describe(still(hazard, 4))
    confirmed = [pipeline.describe(still(hazard, newest)) for newest in (5, 6)]
    assert [report.is_confirmed for report in confirmed] == [True, True]
    assert {frame.stamp for frame in pipeline.describe(
        still(hazard, 7), insist=True).frames} >= {number * STEP_NS for number in range(8)}
    assert asked.answer.risk == confirmed[-1].answer.risk


# The end of an answer

def test_an_answer_ends_after_the_same_facts_only() -> None:
    answer = Answer('A road.', 'low', 'car', (0.1, 0.2, 0.3, 0.4), 'It is far.', 'keep going')
    stands = Stands(SceneReport(0, (), None, answer, (), (1, 1)),  # type: ignore[arg-type]
                    Moment(0, {}))
    for said, ends in ((answer, True), (replace(answer, risk='high'), False),
                       (replace(answer, label='bus'), False),
                       (replace(answer, box=(0.2, 0.2, 0.4, 0.4)), True)):
        until = UntilRisk(stands, False, None)
        text = write(said)
        written = ''
        while not until.stop() and written != text:
            written = text[:len(written) + 1]
            until.on_text(written[-1])
        assert until.is_over is ends
        if ends:
            assert text[len(written):].startswith(', "explanation"')
    thinking = UntilRisk(stands, True, None)
    thinking.on_text('a draft: ' + write(answer))
    assert not thinking.stop()
    thinking.on_text('</think>' + write(answer))
    assert thinking.stop()


# The gate

def proposal(saliency: float, at: tuple[int, int], value: float, turn: float = 0.0) -> Proposal:
    cells = np.full((8, 14), saliency, np.float32)
    cells[at] = value
    embedding = np.stack([np.full((8, 14), np.cos(turn)), np.full((8, 14), np.sin(turn))])
    return Proposal(cells, embedding.astype(np.float32))


def test_features_say_what_changed() -> None:
    before = Moment(0, {'front': proposal(0.1, (4, 4), 0.5)})
    standing = Standing(before, 'low', 0.75)

    def measure(now: Proposal) -> dict[str, float]:
        return dict(zip(FEATURES, features(standing, Moment(STEP_NS, {'front': now}))['front']))

    same = measure(proposal(0.1, (4, 4), 0.5))
    assert same == pytest.approx({
        'peak_rise': 0.0, 'place_rise': 0.0, 'novelty': 0.0, 'age_sec': 0.4, 'doubt': 0.25,
        'none': 0.0, 'low': 1.0, 'medium': 0.0, 'high': 0.0}, abs=1e-6)
    # What moves a little is the same, what is as salient elsewhere is new there.
    assert measure(proposal(0.1, (5, 6), 0.5))['place_rise'] == pytest.approx(0.0, abs=1e-6)
    elsewhere = measure(proposal(0.1, (4, 9), 0.5))
    assert elsewhere['place_rise'] == pytest.approx(np.log(9.0), abs=1e-5)
    assert elsewhere['peak_rise'] == pytest.approx(0.0, abs=1e-6)
    brighter = measure(proposal(0.1, (4, 4), 0.9))
    assert brighter['peak_rise'] == pytest.approx(np.log(9.0), abs=1e-5)
    turned = measure(proposal(0.1, (4, 4), 0.5, np.pi / 3))
    assert turned['novelty'] == pytest.approx(0.5, abs=1e-6)


def test_a_change_beyond_what_was_seen_opens_any_gate() -> None:
    before, now = (Moment(stamp, {'front': proposal(0.1, (4, 4), peak)})
                   for stamp, peak in ((0, 0.5), (STEP_NS, 0.9)))
    standing = Standing(before, 'low', None)
    assert gate_with(-1e9, limit=3.0).why_open(standing, now) == ''
    assert gate_with(-1e9, limit=2.0).why_open(standing, now) == 'unusual'


def test_a_gate_goes_through_its_file_with_its_network_only(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = tmp_path / 'frame.onnx'
    shutil.copy(model_path(FRAME), network)
    assert ChangeGate.load(network) is None
    assert 'vts eval drives --tune' in caplog.text
    assert OPEN.save(network) == tmp_path / FILE
    assert ChangeGate.load(network) == OPEN
    network.write_bytes(network.read_bytes() + b'\0')
    caplog.clear()
    assert ChangeGate.load(network) is None
    assert 'another proposal network: the model is always asked' in caplog.text
    (tmp_path / FILE).write_text('{"schema": 1}')
    with pytest.raises(GateError, match='vts eval drives --tune'):
        ChangeGate.load(network)


def test_without_a_gate_the_model_is_always_asked(
        pipeline: Pipeline, hazard: NDArray[np.uint8]) -> None:
    pipeline.speaking = Speaking(EVERY_SEC, None, is_brief=False)
    assert not any(pipeline.describe(still(hazard, newest)).is_confirmed for newest in (4, 5))


def test_an_impossible_way_to_speak_is_said_before_anything_is_loaded() -> None:
    with pytest.raises(VlmError, match='always, change, risk'):
        Pipeline.load(PipelineConfig(speak='never', model='/nowhere'))


# The shipped gate

@pytest.fixture(scope='module')
def shipped() -> ChangeGate:
    gate = ChangeGate.load(model_path(FRAME))
    assert gate is not None, 'the gate is of another proposal network: vts eval drives --tune'
    return gate


@pytest.fixture(scope='module')
def sparsifier() -> Sparsifier:
    return Sparsifier()


def test_the_shipped_gate_saves_most_answers_on_a_drive(
        loaded: Pipeline, shipped: ChangeGate) -> None:
    loaded.clear()
    loaded.speaking = Speaking(EVERY_SEC, shipped, is_brief=True)
    reports = [loaded.describe(window) for window in drive_windows(1_000_000_900, 30)]
    confirmed = sum(report.is_confirmed for report in reports)
    assert 10 <= confirmed < 29


def look(sparsifier: Sparsifier, stamp_ns: int, rgb: NDArray[np.uint8]) -> Moment:
    return Moment(stamp_ns, {'front': sparsifier.propose(rgb)})


def why_open(gate: ChangeGate, sparsifier: Sparsifier, before: NDArray[np.uint8],
             now: NDArray[np.uint8], level: RiskLevel = 'none') -> str:
    """Return why a gate opens 0.4 s after a sure answer: not because of the time."""
    return gate.why_open(Standing(look(sparsifier, 0, before), level, 0.95),
                         look(sparsifier, STEP_NS, now))


@pytest.mark.parametrize('family', ['following', 'oncoming drift'])
def test_a_hazard_on_a_real_road_that_was_empty_opens_the_gate(
        shipped: ChangeGate, sparsifier: Sparsifier, family: str) -> None:
    scenes = (make_scene(seed, family, level='high') for seed in itertools.count(1_000_000_950))
    scene = next(found for scene in scenes if (found := bare(scene)) is not None)
    for bag in real_bags():
        behind = Backdrop.load(bag).behind(scene)
        assert behind is not None, bag
        empty = render_over(replace(scene, bodies=(), hazards=frozenset()), behind).frames[-1]
        entered = render_over(scene, behind).frames[-1]
        assert why_open(shipped, sparsifier, empty, empty) == '', bag.name
        assert why_open(shipped, sparsifier, empty, entered) != '', bag.name


@pytest.mark.parametrize('width', [0.25, 0.4])
def test_a_real_vehicle_that_comes_to_fill_a_real_road_opens_the_gate(
        shipped: ChangeGate, sparsifier: Sparsifier, width: float) -> None:
    """The car of one recording, drawn near ahead in all of them."""
    roads = {bag.name: next(iter(read_frames(bag))).rgb() for bag in real_bags()}
    car = _cut(roads['mit-following-car'], (0.7219, 0.563, 0.9115, 0.7519))
    for name, road in roads.items():
        rows, columns = road.shape[:2]
        side = round(width * columns)
        near = cv2.resize(car, (side, side * car.shape[0] // car.shape[1]))
        filled = road.copy()
        top, left = round(0.55 * rows), (columns - side) // 2
        filled[top:top + len(near), left:left + side] = near[:rows - top]
        # Where the answer is ``high`` already, one more vehicle need not open it.
        for level in ('none', 'low', 'medium'):
            assert why_open(shipped, sparsifier, road, filled, level) != '', (name, level)


def _cut(rgb: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    rows, columns = rgb.shape[:2]
    left, top, right, bottom = (round(edge * side) for edge, side in zip(
        box, (columns, rows, columns, rows)))
    return rgb[top:bottom, left:right]


def test_a_blank_picture_opens_the_gate(
        shipped: ChangeGate, sparsifier: Sparsifier) -> None:
    street = np.asarray(render(make_scene(3, 'following', level='high')).frames[-1], np.uint8)
    for now in (np.zeros_like(street), np.full_like(street, 255)):
        assert why_open(shipped, sparsifier, street, now) != ''
