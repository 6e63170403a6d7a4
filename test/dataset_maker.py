# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Small data sets in the layouts of LingoQA and DRAMA, with rows as they should not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bag_maker import jpeg, picture
import cv2
import numpy as np

S3 = 'https://s3-us-west-2.amazonaws.com/hrius.scaleapi/data/drama/combined'
CORNERS = [[64, 24], [128, 24], [128, 72], [64, 72]]


def lingoqa(folder: Path, segments: int = 2) -> Path:
    """
    Write an evaluation set: two questions per segment, two answers each, and bad rows.

    The bad rows are: no answer, a blank question, no list of images, a picture that is missing,
    and one (found only when it is opened) that is cut in the middle.
    """
    from pyarrow import parquet, Table

    rows: list[dict[str, Any]] = []
    for segment in range(segments):
        images = _segment(folder, f's{segment}', cut=False)
        for question, answers in (('Is the road clear?', ('Yes, it is.', 'Yes.')),
                                  ('What is ahead?', ('A red car.', 'A car is ahead.'))):
            rows += [_row(f's{segment}', f'q{segment}{question[0]}', question, answer, images)
                     for answer in answers]
    good = _segment(folder, 'bad', cut=False)
    rows += [
        _row('bad', 'qa', 'Why?', None, good),
        _row('bad', 'qb', '  ', 'Because.', good),
        _row('bad', 'qc', 'Who?', 'Me.', None),
        _row('bad', 'qd', 'Where?', 'Here.', [*good[:4], 'images/val/bad/9.jpg']),
        _row('cut', 'qe', 'When?', 'Now.', _segment(folder, 'cut', cut=True)),
    ]
    (folder / 'evaluation').mkdir(parents=True, exist_ok=True)
    parquet.write_table(Table.from_pylist(rows), folder / 'evaluation' / 'val.parquet')
    return folder


def _row(segment: str, number: str, question: str, answer: str | None,
         images: list[str] | None) -> dict[str, Any]:
    return {'question_id': number, 'segment_id': segment, 'images': images,
            'question': question, 'answer': answer, 'weather': 'rain'}


def _segment(folder: Path, name: str, cut: bool) -> list[str]:
    paths = [f'images/val/{name}/{index}.jpg' for index in range(5)]
    for index, path in enumerate(paths):
        data = jpeg(picture(3 * index))
        target = folder / 'evaluation' / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data[:len(data) // 2] if cut and index == 2 else data)
    return paths


def drama(folder: Path, samples: int = 4) -> Path:
    """
    Write annotations of samples with a clip or without, one without a risk, and bad rows.

    The bad rows are: not an object, no address, a picture that is missing, corners that are no
    numbers, a box without an area, and a second row of the same picture.
    """
    rows: list[Any] = []
    for index in range(samples):
        rows.append(drama_row(folder, f'clip_{index}', 17 + index, with_clip=index % 2 == 0))
    rows.append({**drama_row(folder, 'clip_calm', 3), 'Risk': 'No', 'Caption': 'N/A',
                 'geometry': []})
    rows += [
        'not an object',
        {**drama_row(folder, 'clip_bad', 1), 's3_fileUrl': ''},
        {**drama_row(folder, 'clip_bad', 2), 's3_fileUrl': f'{S3}/titan/none/frame_1.png'},
        {**drama_row(folder, 'clip_bad', 3), 'geometry': [['a', 'b'], [], [1, 2]]},
        {**drama_row(folder, 'clip_bad', 4), 'geometry': [[5, 5], [5, 5], [5, 5]]},
        rows[0],
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'integrated_output_v2.json').write_text(json.dumps(rows), encoding='utf-8')
    return folder


def drama_row(folder: Path, clip: str, frame: int, with_clip: bool = False) -> dict[str, Any]:
    """Write a picture, perhaps a clip, and return the row; corners are strings, as at times."""
    target = folder / 'combined' / 'titan' / clip
    target.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target / f'frame_{frame:06d}.png'),
                np.ascontiguousarray(picture(frame)[..., ::-1]))
    if with_clip:
        write_clip(target / 'clip.mp4')
    return {
        's3_fileUrl': f'{S3}/titan/{clip}/frame_{frame:06d}.png',
        's3_instructionReference': f'{S3}/titan/{clip}/clip.mp4',
        'Risk': 'Yes', 'Caption': 'A red car ahead is braking.',
        'geometry': [[str(x), str(y)] for x, y in CORNERS],
        'Suggestions (to the ego car)': 'Slow down (or stop)',
        'Intention of Ego-vehicle': 'Going straight', 'Weather': 'sunny'}


def write_clip(path: Path, frames: int = 20) -> None:
    """Write a film at 10 Hz."""
    height, width = picture(0).shape[:2]
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 10.0, (width, height))
    assert film.isOpened()
    for index in range(frames):
        film.write(np.ascontiguousarray(picture(index)[..., ::-1]))
    film.release()
