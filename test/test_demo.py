# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demonstration as a stranger starts it, on a drive that is short."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess

from bag_maker import COMPRESSED_TOPIC, drive, times, write
from conftest import ROOT, Ros
import numpy as np
from preloaded import run_module
import pytest

from vts_ros.lab.demo import _with_frames, find_hazards, Truth
from vts_ros.lab.scenes.clips import make_scene
from vts_ros.lab.scenes.scene_bag import write_bag
from vts_ros.lab.scenes.scene_truth import Actor
from vts_ros.pipeline.frames import decode_image
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.report import FrameRef, KeyFrame, RISK_COLOURS, SceneReport
from vts_ros.tools.answer_files import ANNOTATED_BAG, ANSWERS, PAGE, SHEET, VIDEO
from vts_ros.tools.bag_frames import read_frames
from vts_ros.vlm.answers import Answer

pytest.importorskip('rclpy', reason='ROS 2 is not here')

pytestmark = pytest.mark.slow


def demo(ros: Ros, folder: Path, bag: Path, models: Path, *arguments: str
         ) -> subprocess.CompletedProcess[str]:
    """Run the demonstration in a folder of its own."""
    return run_module('vts_ros.lab.demo', *arguments, folder=folder, **{
        **ros.env, 'PYTHONPATH': f'{ROOT}:{ros.env.get("PYTHONPATH", "")}',
        'DEMO_BAG': str(bag), 'VTS_MODELS_DIR': str(models), 'COLUMNS': '120'})


def test_demo_on_an_own_bag(tmp_path: Path, ros: Ros, model: str) -> None:
    """Answers of the real node come over the real middleware, and all results are written."""
    models = tmp_path / 'models'
    models.mkdir()
    if Path(model).is_dir():
        (models / 'embedded').symlink_to(model)
    bag = tmp_path / 'bag'
    write_bag(bag, make_scene(3, 'lead braking', frames=26, interval_sec=0.2), 480, 270)
    done = demo(ros, tmp_path, bag, models, '--picture', 'overlay.jpg')
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / 'out' / 'demo'
    told = [SceneReport.from_dict(json.loads(line))
            for line in (out / ANSWERS).read_text().splitlines()]
    assert told
    stamps = {frame.stamp_ns for frame in read_frames(bag)}
    assert all(ref.stamp in stamps for answer in told for ref in answer.frames)
    assert [answer.stamp for answer in told] == sorted(answer.stamp for answer in told)
    for name in (PAGE, SHEET, VIDEO, ANNOTATED_BAG):
        assert (out / name).exists()
    assert 'What was there, and what was said' in done.stdout
    # Drawn by the overlay node: a band in the colour of one of the answers.
    drawn = decode_image((tmp_path / 'overlay.jpg').read_bytes())
    distance = [np.abs(drawn[3, 3].astype(int) - RISK_COLOURS[answer.answer.risk]).max()
                for answer in told]
    assert min(distance) < 12


def test_node_that_dies_is_one_line(tmp_path: Path, ros: Ros) -> None:
    """A model that cannot be loaded ends the demonstration with the reason of the node."""
    models = tmp_path / 'models'
    (models / 'embedded').mkdir(parents=True)
    done = demo(ros, tmp_path, drive(tmp_path / 'bag', 16), models)
    assert done.returncode == 1
    line, = done.stderr.strip().splitlines()
    assert line.startswith('demo: the node ended with code 1;')
    assert 'node.log ends with' in line
    assert not (tmp_path / 'out' / 'demo' / ANSWERS).exists()


def test_bag_without_a_readable_picture_is_one_line(tmp_path: Path, ros: Ros) -> None:
    """A topic whose messages are garbage is told before anything is started."""
    bag = write(tmp_path / 'bag', [
        (COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp, b'\0\1\0\0\7') for stamp in times(3)])
    done = demo(ros, tmp_path, bag, tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().endswith('has no picture that can be read')


def report(stamps: list[int]) -> SceneReport:
    """Return an answer about these frames."""
    refs = tuple(FrameRef('camera_front', stamp) for stamp in stamps)
    return SceneReport(stamps[-1], refs, KeyFrame('camera_front', stamps[0], 0), Answer(), (0,),
                       (1, 1))


def test_frames_are_found_again_while_the_bag_is_read(tmp_path: Path) -> None:
    """Each answer comes with its frames, in the order of time, whatever order it came in."""
    bag, at = drive(tmp_path / 'bag', 8), times(9)
    told = [report(at[3:6]), report(at[1:4]), report([at[6], at[8]])]
    found = list(_with_frames(read_frames(bag), told))
    assert [answer.stamp for _, answer in found] == [at[3], at[5]]
    for frames, answer in found:
        assert [frame and frame.stamp_ns for frame in frames] == [
            ref.stamp for ref in answer.frames]


def test_hazard_is_where_a_warning_is_due() -> None:
    """One thing is one hazard, without the moments before and between at which it is none."""
    car = Actor(1, 'car', (0.4, 0.4, 0.6, 0.6), 1.0, 20.0, 0.0, 3.0, 'braking', True)
    levels = ('none', 'low', 'medium', 'none', 'high', 'low')
    truths = [Truth(at, level, None if level == 'none' else car)  # type: ignore[arg-type]
              for at, level in zip(times(6), levels, strict=True)]
    hazard, = find_hazards(truths)
    assert [i for i, at in enumerate(times(6)) if hazard.covers(at)] == [2, 4]
    assert hazard.worst.risk == 'high'
    assert not find_hazards(truths[:4])  # over in a moment
