# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What people see first of a recording of theirs: the pictures of docs/getting_started.md.

A rendered drive as the video of a dashcam and as a bag; both go through `vts annotate`, each with
the command that the docs name. Pictures are what the results hold, nothing is added; the third is
the text that a terminal shows of the detections.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby
import json
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

from matplotlib import get_data_path
import numpy as np
from PIL import Image, ImageDraw, ImageFont
import yaml

from vts_ros.lab.scenes.clips import make_scene
from vts_ros.lab.scenes.scene_bag import write_bag
from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.annotation_drawing import draw_annotations
from vts_ros.tools.answer_files import ANNOTATED_BAG, ANSWERS, VIDEO
from vts_ros.tools.answer_video import AnswerVideo
from vts_ros.tools.bag_frames import read_frames
from vts_ros.tools.bags import Bag
from vts_ros.tools.pictures import encode, Picture
from vts_ros.tools.videos import read_video
from vts_ros.vlm.answers import RISK_LEVELS

#: It ends with a hazard: the answer about the newest window is in every annotated bag.
SEED, FAMILY, FRAMES = 4, 'pedestrian crossing', 10
NODE = '/vts_node'
#: Names in the docs.
OF_VIDEO, OF_BAG, OF_DETECTIONS = 'annotated_video.jpg', 'annotations.jpg', 'detections.png'
#: Size of the letters of a terminal, and its colours.
_LETTER_PX, _BACK, _INK, _COMMAND = 16, (16, 19, 24), (221, 225, 230), (122, 200, 255)


def make_video(bag: Path, path: Path) -> None:
    """Write the pictures of a drive as the video of a camera."""
    with AnswerVideo(path) as video:
        for frame in read_frames(bag):
            video.add(frame.rgb(), frame.stamp_ns)


def annotate(option: str, recording: Path, out: Path) -> list[SceneReport]:
    """Run the command on a recording; return the answers."""
    subprocess.run([sys.executable, '-m', 'vts_ros.tools.cli', 'annotate', option, recording,
                    '--out', out], check=True)
    return [SceneReport.from_dict(json.loads(line))
            for line in (out / ANSWERS).read_text().splitlines()]


def telling(reports: Sequence[SceneReport]) -> SceneReport:
    """Return the first answer of the highest risk that has a box, if any has."""
    def worth(report: SceneReport) -> tuple[int, bool]:
        level = RISK_LEVELS.index(report.answer.risk) % RISK_LEVELS.index('unknown')
        return level, report.answer.box is not None

    return max(reports, key=worth)


def picture_of_video(out: Path, report: SceneReport, start_ns: int) -> Picture:
    """Return the picture of the annotated video, which starts then, that shows an answer."""
    shown_ns = report.stamp - start_ns
    frames = [frame for frame in read_video(out / VIDEO) if frame.stamp_ns <= shown_ns]
    return frames[-1].rgb()


def picture_of_bag(out: Path) -> tuple[SceneReport, Picture, Any]:
    """
    Return the most telling answer of the annotated bag, its picture and its detections.

    Those of the bag: on a slow machine it lacks answers that the node would not have given.
    """
    said: dict[str, dict[int, Any]] = {}
    reports = []
    with Bag(out / ANNOTATED_BAG) as opened:
        topics = [f'{NODE}/{name}' for name in ('report', 'annotations', 'detections')]
        for connection, at_ns, data in opened.messages(topics):
            message = opened.deserialize(data, connection.msgtype)
            said.setdefault(connection.topic, {})[at_ns] = message
            if connection.topic == topics[0]:
                report = SceneReport.from_dict(json.loads(message.data))
                reports.append((at_ns, report))
    told = telling([report for _, report in reports])
    at_ns = next(at_ns for at_ns, report in reports if report is told)
    newest = next(frame for frame in read_frames(out / ANNOTATED_BAG)
                  if frame.stamp_ns == told.stamp)
    drawn, detected = (said[topic][at_ns] for topic in topics[1:])
    return told, draw_annotations(newest.rgb(), drawn), detected


def as_yaml(message: Any) -> str:
    """Return a message as `ros2 topic echo` prints it."""
    return yaml.safe_dump(_plain(message), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """Return a message as dictionaries, of rosbags or of rclpy."""
    of_rclpy: dict[str, str] = getattr(value, 'get_fields_and_field_types', dict)()
    fields = [name for name in getattr(value, '__dataclass_fields__', of_rclpy)
              if not name.startswith('__')]
    if fields:
        return {name: _plain(getattr(value, name)) for name in fields}
    if hasattr(value, 'tolist'):
        return value.tolist()
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def picture_of_terminal(command: str, text: str) -> Picture:
    """Return what a terminal shows of a command and its output; longer lists are cut."""
    place = Path(get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSansMono.ttf'
    font = ImageFont.truetype(str(place), _LETTER_PX)
    lines = [f'$ {command}', *_without_zeros(text.splitlines()), '---']
    height = _LETTER_PX + 4
    width = round(max(map(font.getlength, lines))) + 2 * height
    image = Image.new('RGB', (width, height * (len(lines) + 2)), _BACK)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((height, height * (number + 1)), line, _COMMAND if not number else _INK, font)
    return np.asarray(image)


def _without_zeros(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines; of a list of numbers, the first and how many there are."""
    for line, same in groupby(lines):
        count = len(list(same))
        yield line if count == 1 else f'{line}    # {count} of them'


def main() -> None:
    """Make the pictures, and print the detections beside them."""
    parser = argparse.ArgumentParser(prog='python -m vts_ros.lab.first_pictures',
                                     description=main.__doc__)
    parser.add_argument('docs', type=Path, help='where the pictures go')
    docs = parser.parse_args().docs
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        bag, video = place / 'my_drive', place / 'my_dashcam.mp4'
        write_bag(bag, make_scene(SEED, FAMILY, frames=FRAMES))
        make_video(bag, video)
        reports = annotate('--video', video, place / 'of_video')
        shown = picture_of_video(place / 'of_video', telling(reports), reports[0].stamp)
        (docs / OF_VIDEO).write_bytes(encode(shown, '.jpg', 90))
        annotate('--bag', bag, place / 'of_bag')
        _, shown, detected = picture_of_bag(place / 'of_bag')
        (docs / OF_BAG).write_bytes(encode(shown, '.jpg', 90))
        text = as_yaml(detected)
        (docs / OF_DETECTIONS).write_bytes(encode(picture_of_terminal(
            f'ros2 topic echo {NODE}/detections', text), '.png'))
        print(text)


if __name__ == '__main__':
    main()
