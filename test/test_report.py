# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The scene report and its JSON form."""

from collections.abc import Callable
from dataclasses import replace
import json
from typing import Any

import pytest

from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport
from vts_ros.vlm.answers import Answer, RISK_LEVELS, UNKNOWN_ACTION

REPORT = SceneReport(
    stamp=3, frames=(FrameRef('front', 1), FrameRef('front', 3)),
    key_frame=KeyFrame('front', 3, 1),
    answer=Answer('A road.', 'high', 'car', (0.1, 0.2, 0.3, 0.4), 'A car brakes.', 'brake'),
    keep=(0, 3, 4, 5, 6, 7), grid=(2, 2), latency_ms={'total': 12.345}, age_ms=20.0,
    model='embedded', engine='onnxruntime-cpu')


def test_json_is_one_line_and_comes_back_the_same() -> None:
    line = REPORT.to_json()
    assert '\n' not in line
    again = SceneReport.from_dict(json.loads(line))
    assert again.to_dict() == REPORT.to_dict()


def test_schema_names_what_the_interface_promises() -> None:
    data = REPORT.to_dict()
    assert data['schema'] == 2
    assert data['risk'] == {'level': 'high'}
    assert data['object'] == {'label': 'car', 'camera': 'front', 'box': (0.1, 0.2, 0.3, 0.4)}
    assert data['tokens']['total'] == 8
    assert data['tokens']['kept'] == 6
    assert data['key_frame'] == {'camera': 'front', 'stamp': 3, 'index': 1}


def test_of_several_cameras_the_object_is_in_that_which_the_model_names() -> None:
    several = replace(REPORT, frames=(FrameRef('rear', 1), *REPORT.frames, FrameRef('rear', 3)),
                      answer=replace(REPORT.answer, camera='rear'))
    data = json.loads(several.to_json())
    assert data['object'] == {'label': 'car', 'camera': 'rear', 'box': [0.1, 0.2, 0.3, 0.4]}
    assert SceneReport.from_dict(data) == replace(several, latency_ms=data['latency_ms'])


def test_of_several_cameras_none_is_said_to_show_the_object() -> None:
    several = replace(REPORT, frames=(FrameRef('rear', 1), *REPORT.frames, FrameRef('rear', 3)))
    assert several.cameras == ('front', 'rear')
    data = json.loads(several.to_json())
    assert data['object'] == {'label': 'car', 'camera': None, 'box': None}
    assert data['risk'] == {'level': 'high'}
    assert json.loads(SceneReport.from_dict(data).to_json()) == data


def test_an_empty_answer_is_unknown_not_harmless() -> None:
    assert Answer().risk == 'unknown'
    assert RISK_LEVELS[-1] == 'unknown'


def test_an_unknown_risk_gives_no_orders_and_points_at_nothing() -> None:
    answer = replace(REPORT.answer, risk='unknown')
    assert (answer.label, answer.box, answer.action) == (None, None, UNKNOWN_ACTION)
    report = replace(REPORT, answer=answer)
    assert report.risk_values == {'level': 'unknown', 'object': '', 'action': UNKNOWN_ACTION}
    assert report.to_dict()['object'] is None


@pytest.mark.parametrize('damage', [
    lambda data: data.pop('tokens'), lambda data: data.update(schema=1),
    lambda data: data.update(risk=None)])
def test_damaged_reports_are_refused(damage: Callable[[dict[str, Any]], Any]) -> None:
    data = REPORT.to_dict()
    damage(data)
    with pytest.raises(ValueError, match='report'):
        SceneReport.from_dict(data)
