# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Signals of the car: their map, what they say, and the same from a recording. No ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bag_maker import compressed, COMPRESSED_TOPIC, header, jpeg, picture, START_NS, STEP_NS, write
import numpy as np
import pytest

from vts_ros.errors import SignalError
from vts_ros.pipeline.events import Event, EventLog
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.signal_map import (
    check_path,
    parse_signal,
    parse_signals,
    stamp_of,
    UNITS,
    value_of,
)
from vts_ros.pipeline.vehicle_signals import HARD_BRAKING_MPS2, VALID_SEC, VehicleSignals
from vts_ros.tools.annotate import annotate
from vts_ros.tools.answer_files import ANSWERS
from vts_ros.tools.bag_signals import BagSignals, fields_of, SignalUse
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.vehicle import Vehicle

SEC = 1_000_000_000
FLOAT, JOY = 'std_msgs/msg/Float32', 'sensor_msgs/msg/Joy'
IMU, TWIST = 'sensor_msgs/msg/Imu', 'geometry_msgs/msg/TwistStamped'
BRAKE = f'brake /vehicle/brake {FLOAT} data over=0.1 event=0.8'


# The map


def test_a_line_says_where_a_signal_is() -> None:
    brake = parse_signal(BRAKE)
    assert (brake.name, brake.topic, brake.msgtype, brake.path, brake.over, brake.event) == (
        'brake', '/vehicle/brake', FLOAT, ('data',), 0.1, 0.8)
    speed = parse_signal(f'speed /can {TWIST} twist.linear.x unit=km/h valid=0.2')
    assert speed.path == ('twist', 'linear', 'x')
    assert (speed.factor, speed.valid_sec) == (1 / 3.6, 0.2)
    turn = parse_signal(f'turn_signal /t {JOY} buttons[2] left=4 right=5')
    assert turn.path == ('buttons', 2)
    assert turn.turns == {'off': 0.0, 'left': 4.0, 'right': 5.0, 'hazard': 3.0}


@pytest.mark.parametrize(('line', 'problem'), [
    ('brake /b std_msgs/msg/Float32', 'is not of the form name topic type field'),
    (f'horn /b {FLOAT} data', "no signal 'horn', there are: speed, acceleration"),
    ('brake /b Float32 data', "'Float32' of brake is no type of a message"),
    (f'brake /b {FLOAT} data..x', "'data..x' of brake names no field"),
    (f'speed /b {FLOAT} data unit=knots', 'unit=m/s|km/h|mph, valid=NUMBER'),
    (f'brake /b {FLOAT} data over=much', "'over=much' is no option of brake, which has: over="),
    (f'wipers /b {FLOAT} data event=1', 'is no option of wipers, which has: over=NUMBER, valid'),
    (f'brake /b {FLOAT} data over=nan', 'is no option'),
    (f'turn_signal /b {FLOAT} data middle=1', 'left=NUMBER, right=NUMBER')])
def test_a_line_that_is_wrong_is_one_clear_line(line: str, problem: str) -> None:
    with pytest.raises(SignalError, match=r'^signals\.topics: ') as caught:
        parse_signal(line)
    assert problem in str(caught.value)
    assert '\n' not in str(caught.value)
    refused: list[SignalError] = []
    assert [signal.name for signal in parse_signals(['', line, BRAKE], refused.append)] == [
        'brake']
    assert len(refused) == 1


#: As rclpy writes them.
OF_RCLPY: Mapping[str, Mapping[str, str]] = {
    FLOAT: {'data': 'float'},
    JOY: {'header': 'std_msgs/Header', 'axes': 'sequence<float>', 'buttons': 'sequence<int32>'},
    TWIST: {'header': 'std_msgs/Header', 'twist': 'geometry_msgs/Twist'},
    'geometry_msgs/msg/Twist': {'linear': 'geometry_msgs/Vector3',
                                'angular': 'geometry_msgs/Vector3'},
    'geometry_msgs/msg/Vector3': dict.fromkeys('xyz', 'double'),
    IMU: {'linear_acceleration_covariance': 'double[9]'},
    'std_msgs/msg/Header': {'frame_id': 'string'},
}


@pytest.mark.parametrize('fields', [
    OF_RCLPY.get, lambda kind: fields_of(TYPESTORE, kind)], ids=['rclpy', 'rosbags'])
@pytest.mark.parametrize(('rest', 'problem'), [
    (f'{FLOAT} data', ''), (f'{TWIST} twist.linear.x', ''), (f'{JOY} axes[3]', ''),
    (f'{IMU} linear_acceleration_covariance[0]', ''),
    (f'{FLOAT} pressure', "std_msgs/msg/Float32 has no field 'pressure'; there are: data"),
    (f'{TWIST} twist.linear.w', "has no field 'w'; there are: x, y, z"),
    (f'{TWIST} twist.linear', 'and no number'), (f'{JOY} axes', 'and no number'),
    (f'{TWIST} header.frame_id', 'is a string and no number'),
    (f'{FLOAT} data[0]', f'{FLOAT}.data is no sequence'),
    (f'{FLOAT} data.x', "has no field 'x'"),
    ('nobody_msgs/msg/Brake data', 'no message nobody_msgs/msg/Brake here')])
def test_fields_are_checked_against_the_type(fields: Any, rest: str, problem: str) -> None:
    signal = parse_signal(f'brake /b {rest}')
    if not problem:
        check_path(signal, fields)
        return
    with pytest.raises(SignalError, match=r'signal brake \(/b\): ') as caught:
        check_path(signal, fields)
    assert problem in str(caught.value)


def test_numbers_come_in_the_units_of_ros() -> None:
    message = SimpleNamespace(axes=[1.0, 36.0, math.nan], on=True, small=b'\x05', text='x')
    assert value_of(parse_signal(f'speed /s {JOY} axes[1] unit=km/h'), message) == \
        pytest.approx(10.0)
    assert value_of(parse_signal(f'yaw_rate /s {JOY} axes[1] unit=deg/s'), message) == \
        pytest.approx(math.radians(36.0))
    assert value_of(parse_signal(f'wipers /s {JOY} on'), message) == 1.0
    assert value_of(parse_signal(f'wipers /s {JOY} small'), message) == 5.0
    for path in ('axes[7]', 'axes[2]', 'nothing', 'text', 'axes'):
        with pytest.raises(SignalError, match='signal wipers'):
            value_of(parse_signal(f'wipers /s {JOY} {path}'), message)
    assert stamp_of(message, 7) == 7
    stamped = SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=2, nanosec=5)))
    assert stamp_of(stamped, 7) == 2 * SEC + 5
    stamped.header.stamp = SimpleNamespace(sec=0, nanosec=0)
    assert stamp_of(stamped, 7) == 7


# What they say


class Told:
    """Signals whose clock and switches are in the hand of a test."""

    def __init__(self) -> None:
        self.seconds, self.is_told, self.is_evidence = 10.0, True, True
        self.log = EventLog()
        self.signals = VehicleSignals(lambda: self.seconds, lambda: self.is_told,
                                      lambda: self.is_evidence, lambda: self.log)

    def course(self, name: str, values: list[float], step_sec: float = 0.1,
               source: str = '') -> None:
        """Let values come one after the other."""
        for value in values:
            self.signals.take(name, value, round(self.seconds * SEC), source=source)
            self.seconds += step_sec

    def events(self) -> list[tuple[str, float, float]]:
        """Return kind, start and end in seconds."""
        return [(event.kind, event.start_ns / SEC, event.end_ns / SEC)
                for event in self.log.near([0, round(self.seconds * SEC)])]


def test_what_the_car_does_is_known_for_a_moment_and_where_it_is_wanted() -> None:
    told = Told()
    assert told.signals.vehicle() is None
    told.course('speed', [12.5], 0.0)
    told.course('yaw_rate', [-0.1], 0.0)
    assert told.signals.vehicle() == Vehicle(speed_mps=12.5, yaw_rate_radps=-0.1)
    told.is_told = False
    assert told.signals.vehicle() is None
    told.is_told, told.seconds = True, 10.0 + VALID_SEC
    assert told.signals.vehicle() is None
    # A clock that went back makes it no younger.
    told.seconds = 9.0
    assert told.signals.vehicle() is None


def test_signals_of_the_map_are_told_and_come_before_others() -> None:
    told = Told()
    take = told.signals.take

    def of(name: str, value: float, options: str = '') -> None:
        take(name, value, 10 * SEC, parse_signal(f'{name} /x {FLOAT} data {options}'))

    of('speed', 20.0)
    take('speed', 5.0, 10 * SEC)
    of('brake', 0.3, 'over=0.1')
    of('turn_signal', 2.0)
    of('wipers', 1.0, 'valid=0')
    of('steering', -0.8)
    vehicle = told.signals.vehicle()
    assert vehicle == Vehicle(20.0, None, 'right', True, True, 'right')
    assert list(vehicle.facts()) == [
        'speed', 'steering_right', 'braking', 'signal_right', 'wipers_on']
    of('brake', 0.05, 'over=0.1')
    of('steering', 0.1)
    assert told.signals.vehicle() == Vehicle(20.0, None, 'right', False, True)
    told.seconds = 12.0
    # What is published when it changes holds until then; another source may take over.
    assert told.signals.vehicle() == Vehicle(has_wipers_on=True)
    take('speed', 5.0, 12 * SEC)
    assert told.signals.vehicle() == Vehicle(5.0, has_wipers_on=True)
    assert set(UNITS) >= {'speed', 'brake', 'turn_signal', 'wipers', 'steering'}


@pytest.mark.parametrize('name', ['acceleration', 'speed'])
def test_hard_braking_is_one_event_and_a_pothole_is_none(name: str) -> None:
    def values(*accelerations: float) -> list[float]:
        if name == 'acceleration':
            return list(accelerations)
        speed, speeds = 15.0, []
        for acceleration in accelerations:
            speed += 0.1 * acceleration
            speeds.append(speed)
        return speeds

    told = Told()
    told.course(name, values(*[0.0] * 5, -7.0, *[0.0] * 5))
    told.course(name, values(*[-0.8 * HARD_BRAKING_MPS2] * 9)[:9])
    assert told.events() == []
    told = Told()
    told.course(name, values(*[0.0] * 5, *[-6.0] * 10, *[0.0] * 5))
    (kind, start, end), = told.events()
    assert kind == 'hard_braking'
    assert 10.2 <= start <= 10.6
    assert 11.3 <= end <= 11.7
    # After a pause it is another one.
    told.course(name, values(*[0.0] * 10, *[-6.0] * 8))
    assert len(told.events()) == 2


def test_backing_up_and_holes_are_no_braking() -> None:
    told = Told()
    # Faster backwards.
    told.course('speed', [-0.5 * index for index in range(12)])
    # Once in two seconds: nobody knows what was between.
    told.course('speed', [20.0, 9.0, 20.0], 2.0, source='slow')
    # Time goes back: no slope from another drive.
    told.course('speed', [20.0], source='jump')
    told.seconds -= 5.0
    told.course('speed', [5.0, 5.0, 5.0, 5.0, 5.0], source='jump')
    assert told.events() == []
    told.course('speed', [-8.0 + 0.5 * index for index in range(12)], source='back')
    assert [kind for kind, _, _ in told.events()] == ['hard_braking']


def test_a_sharp_turn_and_what_the_map_calls_an_event() -> None:
    told = Told()
    told.course('yaw_rate', [0.0] * 4 + [-0.6] * 8)
    assert [kind for kind, _, _ in told.events()] == ['sharp_turn']
    told = Told()
    told.course('yaw_rate', [0.25] * 9)
    assert told.events() == []
    pedal = parse_signal(BRAKE)
    told.signals.take('brake', 0.5, 20 * SEC, pedal)
    assert told.events() == []
    told.seconds = 30.0
    told.signals.take('brake', 0.9, 20 * SEC, pedal)
    told.signals.take('brake', 0.9, 20 * SEC + SEC // 10, pedal)
    assert told.events() == [('hard_braking', 20.0, 20.1)]


def test_each_use_is_switched_off_alone() -> None:
    def event(is_told: bool, is_evidence: bool) -> list[Event]:
        told = Told()
        told.is_told, told.is_evidence = is_told, is_evidence
        told.course('acceleration', [-6.0] * 9)
        return list(told.log.near([10 * SEC]))

    assert event(False, False) == []
    for is_told, is_evidence in ((True, False), (False, True), (True, True)):
        found, = event(is_told, is_evidence)
        assert (found.is_told, found.strength) == (is_told, float(is_evidence))


def test_without_a_log_nothing_happens() -> None:
    signals = VehicleSignals(lambda: 0.0, lambda: True, lambda: True)
    for index in range(9):
        signals.take('acceleration', -9.0, index * SEC // 10)
    assert signals.vehicle() == Vehicle()


# A recording


def message(kind: str, **values: Any) -> bytes:
    return bytes(TYPESTORE.serialize_cdr(TYPESTORE.types[kind](**values), kind))


def vector(x: float = 0.0, z: float = 0.0) -> Any:
    return TYPESTORE.types['geometry_msgs/msg/Vector3'](x, 0.0, z)


def drive_that_brakes(path: Path, *, brakes: bool = True, count: int = 16) -> Path:
    """Write a drive whose car brakes hard from its tenth picture on, at first by its twist."""
    types, messages = TYPESTORE.types, []
    for number in range(count):
        stamp = START_NS + number * STEP_NS
        messages.append((COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp,
                         compressed(stamp, jpeg(picture(number)))))
        for part in range(2):
            at = stamp + part * STEP_NS // 2
            speed = 15.0 - (5.0 * max(0.0, (at - START_NS) / SEC - 1.8) if brakes else 0.0)
            twist = types['geometry_msgs/msg/Twist'](vector(speed), vector())
            messages += [
                ('/car/twist', TWIST, at, message(TWIST, header=header(at), twist=twist)),
                ('/vehicle/brake', FLOAT, at, message(
                    FLOAT, data=0.9 if brakes and number >= 9 else math.nan
                    if number == 2 else 0.0))]
    return write(path, messages)


@pytest.fixture(scope='module')
def pipeline() -> Pipeline:
    return Pipeline.load(PipelineConfig(threads=1, max_new_tokens=12, keep_ratio=0.3))


@pytest.fixture
def told(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model is asked."""
    asked: list[str] = []
    prepare = pipeline.vlm.prepare

    def noting(features: Any, captions: Any, prompt: Prompt) -> Any:
        asked.append(prompt.instruction)
        return prepare(features, captions, prompt)

    monkeypatch.setattr(pipeline.vlm, 'prepare', noting)
    return asked


def answers(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / ANSWERS).read_text().splitlines()]


@pytest.mark.slow
def test_a_recording_is_described_with_its_signals(
        pipeline: Pipeline, tmp_path: Path, told: list[str],
        caplog: pytest.LogCaptureFixture) -> None:
    bag = drive_that_brakes(tmp_path / 'bag')
    lines = [BRAKE, f'wipers /vehicle/wipers {FLOAT} data', f'steering /vehicle/brake {FLOAT} x']
    annotate(bag, tmp_path / 'off', pipeline, signals=lines)
    plain, asked = answers(tmp_path / 'off'), list(told)
    assert all(answer['events'] == [] for answer in plain)
    assert not any('brakes' in text or 'km/h' in text for text in asked)
    told.clear()
    with caplog.at_level(logging.WARNING):
        annotate(bag, tmp_path / 'on', pipeline, signals=lines, evidence=True)
    found = answers(tmp_path / 'on')
    assert told == asked  # evidence alone is not told
    assert len(found) == len(plain) == 4
    braking = [bool(answer['events']) for answer in found]
    # Windows of 0.4 s: the first ones know nothing, the last ones all.
    assert not braking[0]
    assert braking[-1]
    for before, after in zip(plain, found):
        assert len(after['tokens']['keep']) == len(before['tokens']['keep'])
        if not after['events']:
            assert after['tokens']['keep'] == before['tokens']['keep']
    moved = [after['tokens']['keep'] != before['tokens']['keep']
             for before, after in zip(plain, found)]
    assert any(moved)
    assert {event['kind'] for answer in found for event in answer['events']} == {'hard_braking'}
    problems = [record.getMessage() for record in caplog.records]
    assert sum('signal wipers (/vehicle/wipers) is not in the recording; the pictures are '
               'described without it' in text for text in problems) == 1
    assert sum("has no field 'x'" in text for text in problems) == 1
    # A number that is none costs its message alone.
    assert sum('has nan as its number' in text for text in problems) == 2


@pytest.mark.slow
def test_a_recording_tells_the_model_what_the_car_does(
        pipeline: Pipeline, tmp_path: Path, told: list[str]) -> None:
    bag = drive_that_brakes(tmp_path / 'bag')
    annotate(bag, tmp_path / 'off', pipeline)
    told.clear()
    annotate(bag, tmp_path / 'told', pipeline, signals=[BRAKE], tell_vehicle=True)
    assert told[0].startswith('The car drives at 54 km/h. Pictures')
    assert told[-1].startswith('The car brakes hard. The car drives at ')
    assert 'It brakes.' in told[-1]
    for before, after in zip(answers(tmp_path / 'off'), answers(tmp_path / 'told')):
        # It is told, and moves nothing.
        assert after['tokens']['keep'] == before['tokens']['keep']
        assert all(event['told'] and event['strength'] == 0.0 for event in after['events'])


@pytest.mark.slow
def test_a_fleet_is_described_with_the_signals_as_one_recording_is(
        pipeline: Pipeline, tmp_path: Path, told: list[str]) -> None:
    pytest.importorskip('pyarrow')
    from vts_ros.fleet.stretches import describe_whole, WindowSettings

    bag = drive_that_brakes(tmp_path / 'bag')
    for number, use in enumerate((SignalUse((BRAKE,), tell_vehicle=True),
                                  SignalUse((BRAKE,), evidence=True), SignalUse((BRAKE,)))):
        annotate(bag, tmp_path / f'{number}', pipeline, signals=use.topics,
                 tell_vehicle=use.tell_vehicle, evidence=use.evidence)
        asked = list(told)
        told.clear()
        counters: Counter[str] = Counter()
        found = [report for _, report in describe_whole(
            pipeline, bag, WindowSettings(), counters, use)]
        assert told == asked
        told.clear()
        expected = answers(tmp_path / f'{number}')
        assert [list(report.keep) for report in found] == [
            answer['tokens']['keep'] for answer in expected]
        assert [len(report.events) for report in found] == [
            len(answer['events']) for answer in expected]
        assert any(report.events for report in found) == use.is_any
        assert counters['signals_unreadable'] == (2 if use.is_any else 0)


def test_what_was_received_before_a_picture_is_known(tmp_path: Path) -> None:
    log, counters = EventLog(), Counter[str]()
    car = BagSignals(drive_that_brakes(tmp_path / 'bag'), [BRAKE], log, is_told=True,
                     is_evidence=True, counters=counters)
    known = [(car.signals.vehicle(), log.near([frame.stamp_ns])) for frame in car.frames()]
    assert len(known) == 16
    vehicles = [vehicle for vehicle, _ in known if vehicle]
    assert vehicles[1].speed_mps == 15.0
    assert (vehicles[8].is_braking, vehicles[-1].is_braking) == (False, True)
    assert not any(events for _, events in known[:8])
    assert all(events for _, events in known[10:])
    assert counters['signals_unreadable'] == 2


@pytest.mark.parametrize('is_known', [True, False])
def test_an_imu_that_has_no_such_estimate_says_so(tmp_path: Path, *, is_known: bool) -> None:
    covariance = np.zeros(9)
    covariance[0] = 0.0 if is_known else -1.0
    messages = []
    for number in range(8):
        stamp = START_NS + number * STEP_NS
        messages += [
            ('/sensors/imu', IMU, stamp, message(
                IMU, header=header(stamp),
                orientation=TYPESTORE.types['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0),
                orientation_covariance=np.zeros(9), angular_velocity=vector(z=0.9),
                angular_velocity_covariance=covariance, linear_acceleration=vector(-9.0, 9.81),
                linear_acceleration_covariance=covariance)),
            (COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp, compressed(stamp, jpeg(picture(number))))]
    log = EventLog()
    car = BagSignals(write(tmp_path / 'bag', messages), [], log, is_told=False, is_evidence=True,
                     counters=Counter())
    assert len(list(car.frames())) == 8
    assert {event.kind for event in log.near([START_NS, START_NS + 2 * SEC])} == (
        {'hard_braking', 'sharp_turn'} if is_known else set())
