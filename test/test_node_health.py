# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Diagnostics: every part goes to WARN or ERROR for a reason, and back when that is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
import time

import pytest

pytest.importorskip('rclpy')

from bag_maker import picture
from car import Car, LOSSLESS, start_node, values_of
from conftest import Ros
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import torch

from vts_ros.engines import make_engine
from vts_ros.nodes import diagnostics as health
from vts_ros.nodes.conversions import make_message
from vts_ros.nodes.diagnostics import CameraHealth, gpu_status, UNMATCHED
from vts_ros.paths import model_path
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.pipeline_health import PipelineHealth
from vts_ros.pipeline.report import SceneReport
from vts_ros.sparsify import Sparsifier
from vts_ros.vlm import Vlm
from vts_ros.vlm.answers import Answer

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
PARTS = ('engine', 'sparsifier', 'vlm', 'pipeline')


@pytest.fixture(scope='module')
def pipeline(model: str) -> Pipeline:
    """Return a pipeline that writes short answers."""
    return Pipeline.load(PipelineConfig(model=model, max_new_tokens=8, threads=1))


@pytest.fixture(scope='module')
def report(pipeline: Pipeline) -> SceneReport:
    """Return a report with an answer that could be read."""
    window = [Frame('front', number, picture(number)) for number in range(2)]
    return replace(pipeline.describe(window), answer=Answer(risk='low'))


def levels(state: PipelineHealth, warning: str = '') -> dict[str, bytes]:
    """Return the level of each part."""
    return {status.name.partition(': ')[2]: status.level for status in
            state.statuses(make_message, 'vts_node', {'engine': 'onnxruntime-cpu'}, 'on', warning)}


def failure(cause: Callable[[], object]) -> Exception:
    """Return what the cause raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        cause()
    return caught.value


def break_engine() -> object:
    return make_engine('onnxruntime', model_path('embedded/config.json'))


def break_sparsifier() -> object:
    frame, window = (make_engine('onnxruntime', model_path(f'proposal/{graph}.onnx'))
                     for graph in ('frame', 'window'))
    return Sparsifier(frame, window).select([], (0, 0), 0.6)


def break_vlm() -> object:
    return Vlm.load('/nowhere')


@pytest.mark.parametrize(('cause', 'part'), [
    (break_engine, 'engine'), (break_sparsifier, 'sparsifier'), (break_vlm, 'vlm'),
    (lambda: np.empty(0)[1], 'pipeline')])
def test_a_failure_is_an_error_of_the_part_it_comes_from(
        report: SceneReport, cause: Callable[[], object], part: str) -> None:
    state = PipelineHealth()
    error = failure(cause)
    text = state.failed(error)
    assert {name for name, level in levels(state).items() if level == ERROR} == {part, 'pipeline'}
    found = state.statuses(make_message, 'vts_node', {}, 'on')
    assert all(status.message == text for status in found if status.level == ERROR)
    before = state.errors
    state.described(report)
    assert levels(state) == dict.fromkeys(PARTS, OK)
    # Another thread that goes through them at this moment keeps what was there.
    assert part in before
    assert state.counters['failed'] == 1


def test_an_answer_that_is_not_understood_is_a_warning_until_the_next(
        report: SceneReport) -> None:
    state = PipelineHealth()
    state.described(replace(report, answer=Answer(), in_distribution=True))
    assert levels(state) == {**dict.fromkeys(PARTS, OK), 'vlm': WARN}
    state.described(report)
    assert levels(state)['vlm'] == OK
    assert state.counters['unparsed'] == 1


def test_keeping_everything_is_a_warning(report: SceneReport) -> None:
    state = PipelineHealth()
    state.described(replace(report, keep=tuple(range(report.tokens_total))))
    assert levels(state) == {**dict.fromkeys(PARTS, OK), 'sparsifier': WARN}
    state.described(report)
    assert levels(state)['sparsifier'] == OK


def test_speed_is_that_of_the_answer(report: SceneReport) -> None:
    state = PipelineHealth()
    for ms in range(1, 101):
        state.described(replace(report, answer_tokens=25,
                                latency_ms={'prefill': 0.4 * ms, 'decode': 0.6 * ms}))
    status = next(
        status for status in state.statuses(make_message, 'n', {}, 'on')
        if status.name == 'n: vlm')
    values = values_of(status)
    assert (values['p50_ms'], values['p95_ms'], values['tokens_per_sec']) == (
        '50.50', '95.05', '250.00')


def test_a_camera_that_fits_no_set_is_a_warning_until_it_does() -> None:
    camera = CameraHealth('/rear/image_raw')

    def level() -> bytes:
        return bytes(camera.status('vts_node', 1, 0.0, '').level)

    for number in range(UNMATCHED):
        camera.received('rear')
        assert level() == OK
        camera.placed('unmatched', number)
    assert level() == WARN
    camera.placed('admitted', UNMATCHED)
    assert level() == OK


def test_a_camera_that_falls_silent_is_an_error_until_it_speaks(
        monkeypatch: pytest.MonkeyPatch) -> None:
    camera = CameraHealth('/rear/image_raw')
    assert camera.status('n', 1, 0.0, 'nobody publishes it').level == WARN
    camera.incompatible = 'reliability'
    assert camera.status('n', 1, 0.0, '').level == ERROR
    camera.received('rear')
    camera.placed('admitted', 1)
    assert camera.status('n', 1, 0.0, '').level == OK
    monkeypatch.setattr(health, 'SILENCE_SEC', 0.01)
    time.sleep(0.02)
    assert camera.status('n', 1, 0.0, '').level == ERROR
    camera.received('rear')
    assert camera.status('n', 1, 0.0, '').level == OK
    # By its stamp it may be old although it has just come.
    assert camera.status('n', 3_000_000_000, 2.0, '').level == ERROR


def test_memory_of_the_gpu_is_shown_where_there_is_one() -> None:
    assert gpu_status('n', 'cpu') is None
    if not torch.cuda.is_available():
        pytest.skip('no GPU here')
    status = gpu_status('n', 'cuda:0')
    assert status is not None
    assert status.level in (OK, WARN)
    assert float(values_of(status)['total_mib']) > 0.0


@pytest.fixture
def car(own_ros: Ros) -> Iterator[Car]:
    """Return the other side of a node that one test alone starts."""
    side = Car(own_ros.domain)
    yield side
    side.close()


@pytest.mark.slow
def test_the_node_tells_what_is_wrong_and_that_it_is_over(
        own_ros: Ros, model: str, car: Car) -> None:
    process = start_node(own_ros, '/nowhere', 'autostart:=false', 'vlm.max_new_tokens:=8',
                         'no_answer_warn_sec:=2.0', *LOSSLESS)
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert not car.call(ChangeState, '/vts_node/change_state', request).success
    car.wait_for_status('vlm', ERROR, '/nowhere')
    car.wait_for_status('pipeline', ERROR, '/nowhere')
    assert 'on_configure failed' in process.output

    assert car.set_parameter('vlm.model', model).successful
    car.change_state(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    car.wait_for_status('vlm', OK, 'answers')
    car.wait_until_seen()
    car.wait_for_status('pipeline', WARN, 'no camera shows the present')
    car.wait_for_status('pipeline', OK, 'enabled', doing=car.show_good)
    # Pictures go on, but none is to be described any more.
    with car.parameter('pipeline.period_sec', 3600.0):
        car.wait_for_status('pipeline', WARN, 'no answer for', doing=car.show_good)
    car.wait_for_status('pipeline', OK, 'enabled', doing=car.show_good)
    with car.parameter('sparsify.keep_ratio', 1.0):
        car.wait_for_status('sparsifier', WARN, 'keep_ratio is 1', doing=car.show_good)
    car.wait_for_status('sparsifier', OK, 'keeps', doing=car.show_good)
