# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What people see first of a recording of theirs, and the pictures of it in the docs.

With a video: ``test_empty_environment.py``. In other programs: ``test_typed_interfaces.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bag_maker import START_NS
from conftest import ROOT
import layouts
import numpy as np
import pytest
from test_bags import report

from vts_ros.lab.first_pictures import (
    annotate,
    FAMILY,
    FRAMES,
    NODE,
    OF_BAG,
    OF_DETECTIONS,
    OF_VIDEO,
    picture_of_bag,
    picture_of_terminal,
    SEED,
)
from vts_ros.lab.scenes.clips import make_scene
from vts_ros.lab.scenes.scene_bag import write_bag
from vts_ros.pipeline import report_messages as messages
from vts_ros.pipeline.report import RISK_COLOURS
from vts_ros.tools import foxglove_layout as layout_file
from vts_ros.tools.annotation_drawing import draw_annotations
from vts_ros.tools.answer_files import ANNOTATED_BAG
from vts_ros.tools.bags import Bag
from vts_ros.tools.message_definitions import make_message
from vts_ros.tools.pictures import Picture
from vts_ros.vlm.answers import RiskLevel


def is_coloured(picture: Picture, x: float, y: float, level: RiskLevel) -> bool:
    """Return whether a line in the colour of a risk goes through a place, to two pixels."""
    column, row = max(round(x), 2), max(round(y), 2)
    near = picture[row - 2:row + 3, column - 2:column + 3].astype(int)
    return bool((np.abs(near - RISK_COLOURS[level]).max(axis=2) < 40).any())


def test_annotations_are_drawn_where_they_say() -> None:
    told = replace(report(START_NS), size=(96, 160))
    blank = np.full((96, 160, 3), 90, np.uint8)
    drawn = draw_annotations(blank, messages.image_annotations(make_message, told))
    # Left, top, right and bottom are 0.1, 0.2, 0.3 and 0.4 of the picture; the label is above.
    for x, y in ((16, 30), (48, 30), (32, 38)):
        assert is_coloured(drawn, x, y, 'high')
    assert not is_coloured(drawn, 32, 30, 'high')
    np.testing.assert_array_equal(drawn[60:, 90:], blank[60:, 90:])
    np.testing.assert_array_equal(blank, 90)


def test_a_terminal_shows_the_command_and_every_line() -> None:
    """A list of the same numbers is one line that says how many."""
    short = picture_of_terminal('echo', 'a: 1\nb:\n- 0.0')
    long = picture_of_terminal('echo', 'a: 1\nb:\n' + '\n'.join(['- 0.0'] * 36))
    assert len(long) == len(short)
    assert long.shape[1] > short.shape[1]
    # Of the command, a line, and none below the last one.
    bright = short.max(axis=(1, 2)) > 150
    assert bright[20:40].any()
    assert bright[40:60].any()
    assert not bright[-20:].any()


@pytest.mark.parametrize(('command', 'picture'), [
    ('vts annotate --video my_dashcam.mp4', OF_VIDEO), ('vts annotate --bag my_drive', OF_BAG),
    (f'ros2 topic echo {NODE}/detections', OF_DETECTIONS)])
def test_the_docs_show_each_first_minute_side_by_side(command: str, picture: str) -> None:
    rows = [line.strip('|').split(' | ') for line in (
        ROOT / 'docs' / 'getting_started.md').read_text().splitlines() if line.startswith('|')]
    place = next((row, cells.index(f'`{command}`')) for row, cells in enumerate(
        [[cell.strip() for cell in row] for row in rows]) if f'`{command}`' in cells)
    assert f']({picture})' in rows[place[0] + 1][place[1]]
    assert (ROOT / 'docs' / picture).stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / 'models' / 'embedded').is_dir(),
                    reason='the language model is not in this checkout')
def test_a_bag_is_annotated_for_viewers_with_one_command(tmp_path: Path) -> None:
    """All that the layouts show is there, and the box stands in the picture that it is about."""
    bag, out = tmp_path / 'my_drive', tmp_path / 'out'
    write_bag(bag, make_scene(SEED, FAMILY, frames=FRAMES), 480, 270)
    annotate('--bag', bag, out)
    with Bag(out / ANNOTATED_BAG) as opened:
        there = {connection.topic: connection.msgtype for connection in opened.connections
                 if connection.msgcount}
    layouts.check(there, (out / ANNOTATED_BAG / layout_file.FILE).read_text())
    told, picture, detected = picture_of_bag(out)
    box = told.answer.box
    assert box is not None
    assert picture.shape == (270, 480, 3)
    left, top, right, bottom = (
        side * size for side, size in zip(box, (480, 270, 480, 270), strict=True))
    for x, y in ((left, (top + bottom) / 2), (right, (top + bottom) / 2),
                 ((left + right) / 2, bottom)):
        assert is_coloured(picture, x, y, told.answer.risk)
    detection, = detected.detections
    assert detection.bbox.size_x == pytest.approx(right - left, abs=0.1)
