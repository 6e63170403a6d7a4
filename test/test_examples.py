# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The programs in examples/ run, on a rendered drive and on real DDS."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import signal
import subprocess
import sys

from bag_maker import COMPRESSED_TOPIC, jpeg, picture
from car import Car, LOSSLESS, start_node
from conftest import ROOT, Ros
from diagnostic_msgs.msg import DiagnosticArray
from preloaded import run_module
import pytest

from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.scene_bag import write_bag
from vts_ros.tools.bag_frames import read_frames

EXAMPLES = ROOT / 'examples'
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a rendered drive of five pictures."""
    path = tmp_path_factory.mktemp('bags') / 'rendered'
    write_bag(path, next(balanced_scenes('test', 1)), 480, 270)
    return path


def run(name: str, *arguments: object) -> str:
    done = run_module(str(EXAMPLES / name), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples_are_short() -> None:
    programs = sorted(EXAMPLES.glob('*.py'))
    assert len(programs) == 6
    assert all(len(path.read_text().splitlines()) <= 30 for path in programs)


def test_a_recording_is_described(bag: Path) -> None:
    line, = run('describe_recording.py', bag).splitlines()
    assert line.partition('  ')[2].startswith(('none: ', 'low: ', 'medium: ', 'high: '))


def test_a_question_is_answered(bag: Path) -> None:
    assert run('ask.py', bag, 'Is it safe to drive on?').startswith(('Yes', 'No'))


def test_a_checkpoint_is_asked_about_a_picture(model: str, tmp_path: Path) -> None:
    path = tmp_path / 'road.jpg'
    path.write_bytes(jpeg(picture(0, 270, 480)))
    said = run('own_model.py', ROOT / 'models' / model, path)
    assert said.startswith('in distribution: False')
    assert '"risk": {"level": "unknown"}' in said


@pytest.fixture
def side(own_ros: Ros) -> Iterator[Car]:
    car = Car(own_ros.domain)
    yield car
    car.close()


def test_the_risk_is_heard_and_recorded_while_it_lasts(
        own_ros: Ros, side: Car, tmp_path: Path) -> None:
    node = start_node(own_ros, 'embedded', 'vlm.max_new_tokens:=120', *LOSSLESS)
    node.wait_for_output('camera camera_front')
    side.wait_until_seen()
    env = {**own_ros.env, 'PYTHONPATH': os.pathsep.join(
        filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))}
    hears = subprocess.Popen([sys.executable, EXAMPLES / 'subscribe_to_risk.py'], env=env,
                             stdout=subprocess.PIPE, text=True)
    records = subprocess.Popen(
        [sys.executable, EXAMPLES / 'record_while_risky.py', COMPRESSED_TOPIC, tmp_path / 'bag',
         'unknown'], env=env, stderr=subprocess.PIPE, text=True)
    try:
        side.until(lambda: side.compressed.get_subscription_count() == 2)
        # Until the recorder hears the risk of pictures that nobody rendered.
        risks = side.listen(DiagnosticArray, '/vts_node/risk')
        side.until(lambda: side.node.count_subscribers('/vts_node/risk') == 4)
        side.until(lambda: len(risks) > 3, doing=side.show_good)
        records.send_signal(signal.SIGINT)
        _, said = records.communicate(timeout=500.0)
        assert 'Error' not in said, said
        assert hears.stdout is not None
        assert hears.stdout.readline().startswith('unknown')
    finally:
        hears.kill()
        records.kill()
    frames = list(read_frames(tmp_path / 'bag'))
    assert frames
    assert frames[0].rgb().shape == (96, 160, 3)
