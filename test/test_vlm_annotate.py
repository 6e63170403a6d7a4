# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded drive through the command line, with a checkpoint of every family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
import itertools
import json
from pathlib import Path
from typing import Any

from all_commands import app
from bag_maker import compressed, real_bags, write
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from typer.testing import CliRunner
from vlm_maker import make, names

from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.report import SceneReport
from vts_ros.sparsify import token_budget
from vts_ros.tools import answer_files
from vts_ros.tools.answer_files import ANSWERS, PAGE
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.tools.camera_topics import camera_topics
from vts_ros.vlm.families import VIDEO_FAMILIES

pytestmark = pytest.mark.slow

CAMERAS = ('front', 'left', 'right')
#: Of a camera, at 10 Hz: as many as two windows of five need that are four frames apart.
PICTURES = 18
_TIMELINE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(scope='module')
def drives(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return the beginning of a recorded drive, by the number of its cameras."""
    recorded = min((bag for bag in real_bags() if all(
        camera.msgtype == COMPRESSED_IMAGE for camera in camera_topics(bag))),
        key=lambda path: sum(file.stat().st_size for file in path.iterdir()))
    with AnyReader([recorded], default_typestore=TYPESTORE) as reader:
        pictures = reader.messages([connection for connection in reader.connections
                                    if connection.msgtype == COMPRESSED_IMAGE])
        seen: list[Any] = [reader.deserialize(data, connection.msgtype)
                           for connection, _, data in itertools.islice(
                               pictures, PICTURES + len(CAMERAS))]
    folder, found = tmp_path_factory.mktemp('drives'), {}
    for count in (1, 3):
        messages = []
        # Cameras see what the first one does, a little later.
        for number, camera in itertools.product(range(PICTURES), range(count)):
            time = seen[number].header.stamp
            stamp = time.sec * 10**9 + time.nanosec
            messages.append((f'/{CAMERAS[camera]}/image_raw/compressed', COMPRESSED_IMAGE, stamp,
                             compressed(stamp, seen[number + camera].data.tobytes())))
        found[count] = write(folder / str(count), messages)
    return found


@pytest.fixture(autouse=True)
def one_timeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a timeline that is drawn already: it is the same for all families."""
    monkeypatch.setattr(answer_files, 'draw_timeline', lambda *_: _TIMELINE)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return where the checkpoint of a family is, which is made once."""
    folder = tmp_path_factory.mktemp('checkpoints')
    return cache(lambda name: make(name, folder / name))


def run(bag: Path, out: Path, checkpoint: Path, *options: str) -> Any:
    """Run the command."""
    return CliRunner().invoke(app, [
        'annotate', '--bag', str(bag), '--out', str(out), '--every', '4',
        '--interval-sec', '0.2', '--vlm', str(checkpoint), '--threads', '1', *options])


def annotate(bag: Path, out: Path, checkpoint: Path, *options: str) -> Sequence[SceneReport]:
    """Return the reports of a run of the command."""
    done = run(bag, out, checkpoint, *options)
    assert done.exit_code == 0, done.output
    assert (out / PAGE).stat().st_size > 10_000
    reports = [SceneReport.from_dict(json.loads(line))
               for line in (out / ANSWERS).read_text(encoding='utf-8').splitlines()]
    assert len(reports) > 1
    return reports


@pytest.mark.parametrize('cameras', [1, 3])
@pytest.mark.parametrize('mode', ['window', 'causal'])
@pytest.mark.parametrize('name', names())
def test_annotate_takes_any_family(
        name: str, mode: str, cameras: int, drives: dict[int, Path],
        checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    reports = annotate(drives[cameras], tmp_path / 'out', checkpoint(name),
                       '--mode', mode, '--structured', '--max-new-tokens', '24')
    for report in reports:
        assert report.model == name
        assert sorted(report.cameras) == sorted(CAMERAS[:cameras])
        assert report.answer.risk != 'unknown' or report.answer.label is None
        assert len(report.step_frames) == len(report.frames)
        if mode == 'window':
            assert len(report.frames) == 5 * cameras
            assert len(report.keep) == token_budget(len(report.frames), report.grid, 0.6)
        else:
            assert len(report.frames) >= 5 * cameras
            assert 0.4 < len(report.keep) / report.tokens_total < 0.8


@pytest.mark.parametrize('cameras', [1, 3])
@pytest.mark.parametrize('mode', ['window', 'causal'])
@pytest.mark.parametrize('name', names(*VIDEO_FAMILIES))
def test_annotate_takes_frames_as_a_video(
        name: str, mode: str, cameras: int, drives: dict[int, Path],
        checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    options = ('--mode', mode, '--frames-as', 'video', '--max-new-tokens', '8')
    if name == 'molmo2' and cameras > 1:
        done = run(drives[cameras], tmp_path / 'out', checkpoint(name), *options)
        assert 'molmo2 reads one video at a time, so that of one camera' in str(done.exception)
        return
    reports = annotate(drives[cameras], tmp_path / 'out', checkpoint(name), *options)
    for report in reports:
        rows, columns = report.grid
        assert sorted(report.cameras) == sorted(CAMERAS[:cameras])
        assert sorted(place for step in report.steps for place in step) == list(
            range(len(report.frames)))
        of_cameras: Any = [{report.frames[place].camera for place in step}
                           for step in report.steps]
        assert all(len(frames) == 1 for frames in of_cameras)
        assert report.tokens_total == len(report.steps) * rows * columns
        if mode == 'window':
            assert len(report.steps) == (3 if name.startswith('qwen') else 5) * cameras
        assert 0 < len(report.keep) < report.tokens_total
