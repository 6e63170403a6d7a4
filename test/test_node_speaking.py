# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node that asks its model only where the scene changes, over DDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import shutil
import time

import pytest

pytest.importorskip('rclpy')

from bag_maker import jpeg
from car import Car, LOSSLESS, parameters, STEP_NS
from conftest import Ros
from std_srvs.srv import SetBool
from test_speaking import SHUT

from vts_ros.lab.scenes.clips import make_scene, render
from vts_ros.paths import model_path
from vts_ros.sparsify.compiled_steps import FRAME

pytestmark = pytest.mark.slow

#: A scene in which nothing moves.
PICTURE = jpeg(render(make_scene(3, 'following', level='high')).frames[-1])
#: Longer than an answer takes on a machine that is busy with other things.
EVERY_SEC = 60.0


@pytest.fixture
def car(own_ros: Ros, model: str, tmp_path: Path) -> Iterator[Car]:
    """Return the other side of a node whose gate opens on no change."""
    network = tmp_path / 'proposal' / 'frame.onnx'
    shutil.copytree(model_path(FRAME).parent, network.parent)
    SHUT.save(network)
    own_ros.env['VTS_MODELS_DIR'] = str(tmp_path)
    side = Car(own_ros.domain)
    own_ros.start('vts_ros.nodes.vts_node', *parameters((
        f'vlm.model:={model_path(model)}', 'cameras:=[camera/front]', 'vlm.threads:=1',
        'max_frame_age_sec:=0.0', 'max_answer_age_sec:=600.0', 'pipeline.speak:=change',
        f'pipeline.speak_every_sec:={EVERY_SEC}', *LOSSLESS)))
    side.wait_until_seen()
    yield side
    side.close()


def test_answers_are_confirmed_and_nothing_taken_back_is(car: Car) -> None:
    def show() -> None:
        car.stamp_ns = time.time_ns() - STEP_NS
        car.show(PICTURE)

    car.until(lambda: sum(report.is_confirmed for report in car.reports) >= 3, doing=show,
              every_sec=0.4)
    first, *rest = car.reports
    assert not first.is_confirmed
    assert first.answer.risk != 'unknown'
    confirmed = [report for report in rest if report.is_confirmed]
    for report in confirmed:
        assert (report.answer.risk, report.answer.label, report.answer.explanation) == \
            (first.answer.risk, first.answer.label, first.answer.explanation)
        assert report.asked_stamp is not None
        assert 0 < report.stamp - report.asked_stamp < 1e9 * EVERY_SEC
    # The risk is as fresh as the report, and says where it is from.
    values = [{value.key: value.value for value in risk.status[0].values} for risk in car.risks]
    assert values[0].get('confirmed') is None
    assert values[-1]['confirmed'] == 'true'
    car.until(lambda: car.counter('pipeline', 'confirmed') >= 3)
    assert car.counter('pipeline', 'described') >= 1
    # Who asks is answered by the model.
    before = len(car.reports)
    assert car.describe_now().success
    car.until(lambda: len(car.reports) > before)
    assert not car.reports[-1].is_confirmed
    # What was taken back is not said again without asking.
    car.call(SetBool, '/vts_node/enable', SetBool.Request(data=False))
    car.until(lambda: car.retracted)
    car.reports.clear()
    car.call(SetBool, '/vts_node/enable', SetBool.Request(data=True))
    car.until(lambda: car.reports, doing=show, every_sec=0.4)
    assert not car.reports[0].is_confirmed
