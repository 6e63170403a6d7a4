# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A microphone beside the camera, over real DDS: what is heard, and what is broken there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy')

from array import array

from car import Car, LOSSLESS, start_node, STEP_NS
from conftest import Process, Ros
from interface_builder import without
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from sound_maker import int16, RATE, Samples, siren_in_noise
from std_msgs.msg import Header, UInt8MultiArray

from vts_ros.nodes.conversions import message_type, to_stamp
from vts_ros.sound.pcm import (
    AUDIO_DATA_STAMPED,
    AUDIO_INFO,
    RAW_AUDIO,
    UINT8_ARRAY,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
TOPIC, INFO_TOPIC = '/audio', '/audio_info'
LISTENING = ('audio.listen:=true',)


def message(kind: str, samples: Samples, stamp_ns: int) -> Any:
    """Return a message with samples."""
    data = array('B', int16(samples).tobytes())
    if kind == RAW_AUDIO:
        return message_type(kind)(timestamp=to_stamp(stamp_ns), data=data, format='pcm-s16',
                                  sample_rate=RATE, number_of_channels=1)
    if kind == UINT8_ARRAY:
        return UInt8MultiArray(data=data)
    return message_type(kind)(header=Header(stamp=to_stamp(stamp_ns)),
                              audio=message_type('audio_common_msgs/msg/AudioData')(data=data))


def play(car: Car, microphone: Publisher, kind: str, samples: Samples, begin_ns: int) -> None:
    """Publish samples in messages of 0.2 s, with a picture after each."""
    car.stamp_ns = begin_ns
    for start in range(0, len(samples), RATE // 5):
        microphone.publish(message(kind, samples[start:start + RATE // 5], car.stamp_ns))
        car.show_good()
        car.spin(0.01)


@pytest.fixture
def car(own_ros: Ros, built: dict[str, str]) -> Iterator[Car]:
    """Return the other side of a node; all that is started knows the messages of others."""
    own_ros.env.update(built)
    side = Car(own_ros.domain)
    yield side
    side.close()


def end(process: Process) -> None:
    process.interrupt()
    assert process.wait(60.0) == 0, process.output
    assert 'Traceback' not in process.output


def kinds_of(report: Any) -> set[str]:
    return {event.kind for event in report.events}


@pytest.mark.parametrize('kind', [AUDIO_DATA_STAMPED, RAW_AUDIO])
def test_the_node_hears_a_siren(own_ros: Ros, model: str, car: Car, kind: str) -> None:
    """With the time of the sound, in the reports of that time; without sound in none."""
    microphone = car.node.create_publisher(message_type(kind), TOPIC, QoSProfile(depth=100))
    publishers = [microphone]
    if kind == AUDIO_DATA_STAMPED:
        # As it is said once, before the node is there.
        info = car.node.create_publisher(message_type(AUDIO_INFO), INFO_TOPIC, QoSProfile(
            depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        info.publish(message_type(AUDIO_INFO)(channels=1, sample_rate=RATE, sample_format='S16LE',
                                              coding_format='wave'))
        publishers.append(info)
    rate = 8000 if kind == AUDIO_DATA_STAMPED else RATE
    process = start_node(own_ros, model, *LOSSLESS, *LISTENING, f'audio.sample_rate:={rate}',
                         'vlm.max_new_tokens:=8')
    process.wait_for_output(f'sound: {TOPIC} ({kind})')
    car.wait_until_seen()
    car.until(lambda: all(publisher.get_subscription_count() == 1 for publisher in publishers))
    car.spin(1.0)
    begin_ns = car.stamp_ns
    play(car, microphone, kind, siren_in_noise(6.0, 2.0, 6.0), begin_ns)
    report = car.wait_for_report(car.stamp_ns)
    # The newest picture may have come before the last sound was heard.
    car.until(lambda: any(kinds_of(report) == {'siren'} for report in car.reports),
              doing=lambda: play(car, microphone, kind, siren_in_noise(1.0, 0.0, 1.0),
                                 car.stamp_ns))
    heard = next(report for report in car.reports if kinds_of(report) == {'siren'})
    event, = heard.events
    assert begin_ns + 1_400_000_000 <= event.start <= begin_ns + 4_000_000_000
    assert event.told
    assert event.strength > 0.5
    early = [report for report in car.reports if report.stamp < begin_ns + 1_200_000_000]
    assert not any(report.events for report in early)
    assert report.answer is not None
    status = car.status('microphone')
    values = {value.key: value.value for value in status.values}
    assert (status.level, status.message) == (b'\x00', 'listening')
    assert int(values['received']) >= 25
    assert (values['refused'], values['broken']) == ('0', '0')
    end(process)


def test_broken_sound_stops_no_picture(own_ros: Ros, model: str, car: Car) -> None:
    """Half samples, no samples, silence, gaps, time going back: pictures go on, and are told."""
    microphone = car.node.create_publisher(message_type(RAW_AUDIO), TOPIC, QoSProfile(depth=100))
    process = start_node(own_ros, model, *LOSSLESS, *LISTENING, 'vlm.max_new_tokens:=8')
    process.wait_for_output(f'sound: {TOPIC} ({RAW_AUDIO})')
    car.wait_until_seen()
    car.until(lambda: microphone.get_subscription_count() == 1)
    car.spin(1.0)
    at_ns = car.stamp_ns
    good = message(RAW_AUDIO, siren_in_noise(0.2, 0.2, 0.2), at_ns)
    broken = []
    for fields in ({'data': array('B', b'abc')}, {'format': 'opus'}, {'sample_rate': 0},
                   {'number_of_channels': 7}):
        wrong = message(RAW_AUDIO, siren_in_noise(0.2, 0.2, 0.2), at_ns)
        for name, value in fields.items():
            setattr(wrong, name, value)
        broken.append(wrong)
    gap = message(RAW_AUDIO, np.zeros(3200), at_ns + 50 * STEP_NS)
    back = message(RAW_AUDIO, np.zeros(3200), at_ns - 50 * STEP_NS)
    empty = message(RAW_AUDIO, np.zeros(0), at_ns)
    for sent in (good, *broken, gap, back, empty):
        microphone.publish(sent)
        car.show_good()
        car.spin(0.05)
    report = car.wait_for_report(car.stamp_ns)
    assert not report.events
    car.wait_for_counters('microphone', received=8, refused=4, gaps=2, back=1, overrun=0)
    assert process.output.count('(said once)') == 1
    assert '3 bytes are no whole samples' in process.output
    end(process)


def test_without_the_parameter_nothing_is_heard(own_ros: Ros, model: str, car: Car) -> None:
    microphone = car.node.create_publisher(UInt8MultiArray, TOPIC, QoSProfile(depth=100))
    process = start_node(own_ros, model, *LOSSLESS, 'vlm.max_new_tokens:=8')
    car.wait_until_seen()
    car.show_window()
    assert microphone.get_subscription_count() == 0
    assert 'sound' not in process.output
    assert not any('microphone' in name for name in car.statuses)
    end(process)


def test_missing_packages_are_one_line(own_ros: Ros, model: str, built: dict[str, str]) -> None:
    """Sound of another type is heard all the same, with the rate of the parameter."""
    if not built:
        pytest.skip('the packages are installed here')
    own_ros.env['PYTHONPATH'] = without(built, own_ros.env.get('PYTHONPATH', ''))
    side = Car(own_ros.domain)
    microphone = side.node.create_publisher(UInt8MultiArray, TOPIC, QoSProfile(depth=100))
    process = start_node(own_ros, model, *LOSSLESS, *LISTENING, 'vlm.max_new_tokens:=8')
    process.wait_for_output('without audio_common_msgs, foxglove_msgs, which are not installed')
    process.wait_for_output(f'sound: {TOPIC} ({UINT8_ARRAY})')
    side.wait_until_seen()
    side.until(lambda: microphone.get_subscription_count() == 1)
    play(side, microphone, UINT8_ARRAY, siren_in_noise(2.0, 2.0, 2.0), side.stamp_ns)
    side.until(lambda: side.counter('microphone', 'received') == 10)
    assert side.counter('microphone', 'refused') == 0
    side.close()
    end(process)
