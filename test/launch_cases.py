# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What every launch file is good for: its arguments, the same as processes, and what must happen.

``test_launch.py`` starts the launch files where launch_testing is installed,
``test_launch_cases.py`` the executables anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bag_maker import drive, jpeg, picture, times
from car import Car, parameters, STEP_NS
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vts_ros.nodes.conversions import to_ns
from vts_ros.nodes.qos import LATCHED_QOS

NODE, OVERLAY, REPLAY = (
    f'vts_ros.nodes.{name}' for name in ('vts_node', 'overlay_node', 'replay_node'))
BAG_LENGTH = 60


@dataclass(frozen=True)
class Case:
    """
    A launch file at work.

    Attributes
    ----------
    arguments
        Of the launch file; given a folder to write to.
    processes
        Modules and their arguments that are the same without launch; given the same folder.
    check
        Feeds the nodes and asserts what comes of it.

    """

    arguments: Callable[[Path], dict[str, str]]
    processes: Callable[[Path], list[tuple[str, list[str]]]]
    check: Callable[[Car], None]


def _bag(folder: Path) -> str:
    path = folder / 'drive'
    return str(path if path.exists() else drive(path, BAG_LENGTH))


def _show_all(car: Car, publishers: list[Publisher]) -> None:
    """Show one picture, stamped now, to every camera."""
    header = Header(stamp=car.node.get_clock().now().to_msg(), frame_id='front')
    rgb = picture(to_ns(header.stamp) // STEP_NS % 30)
    for publisher in publishers:
        if publisher.topic_name.endswith('/image_raw'):
            publisher.publish(Image(header=header, height=rgb.shape[0], width=rgb.shape[1],
                                    encoding='rgb8', step=3 * rgb.shape[1], data=rgb.tobytes()))
        else:
            publisher.publish(CompressedImage(header=header, format='jpeg', data=jpeg(rgb)))


def _check_car(car: Car) -> None:
    front = car.publisher(CompressedImage, '/front/image_raw/compressed')
    drawn = car.listen(Image, '/vts_overlay/image_annotated', LATCHED_QOS)
    car.until(lambda: car.reports and drawn, doing=lambda: _show_all(car, [front]), every_sec=0.2)
    report = car.reports[0]
    assert {frame.camera for frame in report.frames} == {'front'}
    assert len(report.keep) == round(0.5 * report.tokens_total)
    assert to_ns(drawn[0].header.stamp) in {report.stamp for report in car.reports}


def _check_replay(car: Car) -> None:
    car.until(lambda: len(car.reports) >= 3)
    stamps = times(BAG_LENGTH)
    assert {frame.stamp for report in car.reports for frame in report.frames} <= set(stamps)
    # The time of the recording is that of the node: by that of the machine they are years old.
    for report in car.reports:
        assert report.age_ms is not None
        assert 0.0 <= report.age_ms < 86_400_000.0


def _check_several(car: Car) -> None:
    publishers = [car.publisher(Image, '/cam0/image_raw'),
                  car.publisher(CompressedImage, '/cam1/image_raw/compressed')]
    car.until(lambda: any({frame.camera for frame in report.frames} == {'left', 'right'}
                          for report in car.reports),
              doing=lambda: _show_all(car, publishers), every_sec=0.2)


def _remapped(**names: str) -> list[str]:
    return [word for name, topic in names.items() for suffix in ('', '/compressed')
            for word in ('-r', f'{name}/image_raw{suffix}:={topic}{suffix}')]


#: Short windows and answers: these tests are about how things hang together.
QUICK = ('vlm.max_new_tokens:=8', 'buffer.frames:=3', 'buffer.interval_sec:=0.2')
PARAMS = """
/**/vts_node:
  ros__parameters: {vlm: {max_new_tokens: 8}, buffer: {frames: 3, interval_sec: 0.2}}
"""


def _params_file(folder: Path) -> str:
    path = folder / 'quick.yaml'
    path.write_text(PARAMS)
    return str(path)


CASES = {
    'vts': Case(
        lambda folder: {'cameras': 'front', 'overlay': 'true', 'keep_ratio': '0.5',
                        'params_file': _params_file(folder)},
        lambda folder: [
            (NODE, parameters((*QUICK, 'cameras:=[front]', 'sparsify.keep_ratio:=0.5'))),
            (OVERLAY, parameters(('cameras:=[front]',)))],
        _check_car),
    'replay': Case(
        lambda folder: {'bag': _bag(folder), 'loop': 'true', 'params_file': _params_file(folder)},
        lambda folder: [
            (NODE, parameters((*QUICK, 'use_sim_time:=true', 'cameras:=[camera_front]'))
             + _remapped(camera_front='/camera/front/image_raw')),
            (REPLAY, [_bag(folder), '--clock', '--loop', '--wait-sec', '60'])],
        _check_replay),
    'multi_camera': Case(
        lambda folder: {'topics': 'left=/cam0/image_raw,right=/cam1/image_raw/compressed',
                        'params_file': _params_file(folder)},
        lambda folder: [
            (NODE, parameters((*QUICK, 'cameras:=[left, right]'))
             + _remapped(left='/cam0/image_raw', right='/cam1/image_raw'))],
        _check_several),
}
