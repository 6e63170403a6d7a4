# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Risk objects and their captions: the DRAMA data set (Malla et al., 2023, arXiv 2209.10767).

The user brings the data. It has no published split: by default the rows with a risk, a caption, a
box and a picture are cut 70/15/15 in the order of the file, as its public loaders do; a file of
ids takes others. The result names the split and a SHA-256 of its ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
import json
import math
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vts_ros.lab.evaluation.answer_metrics import intersection_over_union
from vts_ros.lab.evaluation.dataset_runner import (
    bad_rows,
    BadRow,
    by_budget,
    DatasetError,
    fingerprint,
    Loaded,
    Progress,
    Run,
    run_budgets,
    TextTally,
    write_answers,
)
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.vlm.answers import Answer, Box

ANNOTATIONS = 'integrated_output_v2.json'
Split = Literal['train', 'val', 'test', 'all']
#: Where a split ends, as a share of the rows in the order of the file.
_ENDS: dict[str, tuple[float, float]] = {
    'train': (0.0, 0.7), 'val': (0.7, 0.85), 'test': (0.85, 1.0), 'all': (0.0, 1.0)}
_PICTURE, _CLIP = 's3_fileUrl', 's3_instructionReference'
_RISK, _CAPTION, _GEOMETRY = 'Risk', 'Caption', 'geometry'
_SUGGESTION, _INTENTION = 'Suggestions (to the ego car)', 'Intention of Ego-vehicle'
_KNOWN = frozenset({_PICTURE, _CLIP, _RISK, _CAPTION, _GEOMETRY, _SUGGESTION, _INTENTION})
#: A clip is two seconds long and gives so many frames.
_CLIP_SEC, _FRAMES = 2.0, 5


@dataclass(frozen=True)
class Sample:
    """
    One annotated picture.

    Attributes
    ----------
    id
        Clip and frame, ``<clip>_<frame>``.
    picture, clip
        Files; the clip is None where it is not there.
    caption
        What the risk is; empty if the row has none.
    box
        The risk object, None if the row has none.
    risk
        Whether there is one; None if the row does not say.
    suggestion, intention
        What the ego car should do and is about to do; may be empty.
    extra
        Keys that are not known here.

    """

    id: str
    picture: Path
    clip: Path | None
    caption: str
    box: Box | None
    risk: bool | None
    suggestion: str = ''
    intention: str = ''
    extra: dict[str, Any] = field(default_factory=dict, compare=False)

    def window(self, clips: bool = True) -> list[Frame]:
        """
        Return the frames of the clip with the annotated picture as the newest, or that alone.

        Raises
        ------
        OSError
            If the picture cannot be read.

        """
        newest = self.picture.read_bytes()
        before = _clip_frames(self.clip)[:-1] if clips and self.clip is not None else []
        step_ns = round(1e9 * _CLIP_SEC / (_FRAMES - 1))
        return [*(Frame('front', index * step_ns, rgb) for index, rgb in enumerate(before)),
                Frame('front', len(before) * step_ns, newest)]


def load(data: Path) -> Loaded[Sample]:
    """
    Read the annotations.

    Raises
    ------
    DatasetError
        If the file is missing or is no JSON list.

    """
    path = data / ANNOTATIONS if data.is_dir() else data
    try:
        rows = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise DatasetError(f'{path} cannot be read: {error.strerror}; DRAMA has to be requested '
                           'at https://usa.honda-ri.com/drama') from error
    except ValueError as error:
        raise DatasetError(f'{path} is not JSON: {error}') from error
    if not isinstance(rows, list):
        raise DatasetError(f'{path} is not a list of rows')
    samples: dict[str, Sample] = {}
    bad: list[BadRow] = []
    for number, row in enumerate(rows):
        url = row.get(_PICTURE) if isinstance(row, dict) else None
        try:
            sample = _sample(row, path.parent)
            if sample.id in samples:
                raise DatasetError(f'a second row of {sample.id}')
        except DatasetError as error:
            name = PurePosixPath(url).name if isinstance(url, str) else '?'
            bad.append(BadRow(f'row {number} ({name})', str(error)))
            continue
        samples[sample.id] = sample
    return Loaded(tuple(samples.values()), tuple(bad))


def choose(samples: Sequence[Sample], split: Split = 'test',
           ids: Sequence[str] | None = None) -> list[Sample]:
    """
    Return the samples of a split, or those with the given ids, in the order of the file.

    Raises
    ------
    DatasetError
        If an id is not there.

    """
    if ids is not None:
        missing = set(ids) - {sample.id for sample in samples}
        if missing:
            raise DatasetError(f'{len(missing)} ids are not in the data, among them '
                               f'{min(missing)}')
        wanted = set(ids)
        return [sample for sample in samples if sample.id in wanted]
    complete = [sample for sample in samples
                if sample.risk is not False and sample.caption and sample.box is not None]
    start, end = (round(share * len(complete)) for share in _ENDS[split])
    return complete[start:end]


def evaluate(pipeline: Pipeline, data: Path, budgets: Sequence[float] = (0.6, 0.4),
             split: Split = 'test', ids: Sequence[str] | None = None, clips: bool = True,
             limit: int | None = None, out: Path | None = None,
             progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Describe the pictures with all visual tokens and at every budget, and score the answers.

    The caption is compared with the explanation, the box with that of the risk object (no box
    counts as an overlap of 0), and a risk above ``none`` with ``Risk: Yes``; an unknown risk is
    wrong.

    Parameters
    ----------
    split, ids
        See ``choose``.
    clips
        Whether the frames of the clip go before the picture. Some copies of the data have clips
        on which the risk object is marked: look first.
    limit
        Samples to take, the first ones of the split.
    out
        Folder for the answers, ``answers_*.jsonl`` per budget.

    Returns
    -------
    ``{'dataset', 'n', 'split', 'ids_sha256', 'clips', 'captions', 'boxes', 'bad', 'model',
    'tokenizer', 'missing', 'dense': metrics, 'vts': {budget: metrics}}``.

    Raises
    ------
    DatasetError
        If nothing can be evaluated.

    """
    loaded = load(data)
    samples = choose(loaded.rows, split, ids)[:limit]
    if not samples:
        raise DatasetError(f'{data} holds no row of this split that can be used')
    runs = run_budgets(
        pipeline, samples, lambda sample: sample.id,
        lambda sample: pipeline.describe(sample.window(clips)).answer, budgets, progress)
    texts = TextTally()

    def score(run: Run[Answer]) -> dict[str, float | None]:
        pairs = list(zip(runs.rows, run.said))
        captioned = [(sample, answer) for sample, answer in pairs if sample.caption]
        scores: dict[str, float | None] = {**risk_and_box(pairs)}
        if captioned:
            scores.update(texts.score([answer.explanation for _, answer in captioned],
                                      [[sample.caption] for sample, _ in captioned]))
        return scores

    if out is not None:
        for ratio, run in runs.by_ratio.items():
            _write(out / f'answers_{ratio:g}.jsonl', runs.rows, run.said)
    return {
        'dataset': 'DRAMA', 'n': len(runs.rows), 'split': split if ids is None else 'ids',
        'ids_sha256': fingerprint(sample.id for sample in runs.rows),
        'clips': sum(clips and sample.clip is not None for sample in runs.rows),
        'captions': sum(bool(sample.caption) for sample in runs.rows),
        'boxes': sum(sample.box is not None for sample in runs.rows),
        'bad': bad_rows(loaded.bad, runs.bad), 'model': pipeline.vlm.name,
        **by_budget(runs, score),
        'tokenizer': texts.tokenizer, 'missing': texts.missing}


def risk_and_box(pairs: Sequence[tuple[Sample, Answer]]) -> dict[str, float | None]:
    """Return the accuracy of the risk, the mean overlap of the boxes, and the missing boxes."""
    risks = [answer.risk != 'unknown' and (answer.risk != 'none') == sample.risk
             for sample, answer in pairs if sample.risk is not None]
    boxes = [(sample.box, answer.box) for sample, answer in pairs if sample.box is not None]
    overlaps = [intersection_over_union(wanted, said) if said else 0.0 for wanted, said in boxes]
    return {
        'risk_accuracy': round(float(np.mean(risks)), 4) if risks else None,
        'box_miou': round(float(np.mean(overlaps)), 4) if boxes else None,
        'no_box': float(sum(said is None for _, said in boxes))}


def _sample(row: Any, data: Path) -> Sample:
    """Return a row; raise DatasetError with the reason if it is of no use."""
    if not isinstance(row, dict):
        raise DatasetError('not an object')
    url = row.get(_PICTURE)
    if not isinstance(url, str) or not url.strip():
        raise DatasetError(f'no {_PICTURE}')
    picture = _local(url, data)
    if picture is None:
        raise DatasetError('no picture')
    clip = row.get(_CLIP)
    risk = {'yes': True, 'no': False}.get(_text(row.get(_RISK)).lower())
    # What is said of a picture without a risk is not about one.
    return Sample(
        id=f'{picture.parent.name}_{picture.stem.removeprefix("frame_")}', picture=picture,
        clip=_local(clip, data) if isinstance(clip, str) else None,
        caption=_text(row.get(_CAPTION)), risk=risk,
        box=None if risk is False else _box(row.get(_GEOMETRY), picture),
        suggestion=_text(row.get(_SUGGESTION)).partition('(')[0].strip(),
        intention=_text(row.get(_INTENTION)),
        extra={str(key): value for key, value in row.items() if key not in _KNOWN})


def _text(value: Any) -> str:
    text = ' '.join(value.split()) if isinstance(value, str) else ''
    return '' if text.upper() == 'N/A' else text


def _local(url: str, data: Path) -> Path | None:
    """Return the file that stands for an address: its end below the folder of the data."""
    parts = PurePosixPath(urlsplit(url).path).parts
    for first in range(len(parts)):
        path = data.joinpath(*(part for part in parts[first:] if part not in ('/', '..')))
        if path.is_file():
            return path
    return None


def _box(geometry: Any, picture: Path) -> Box | None:
    """Return the box between the first and the third corner, clipped to the picture."""
    if not geometry:
        return None
    try:
        corners = [_corner(geometry[index]) for index in (0, 2)]
        with Image.open(picture) as opened:
            width, height = opened.size
    except (LookupError, TypeError, ValueError) as error:
        raise DatasetError(f'{_GEOMETRY} is no list of corners') from error
    except OSError as error:
        raise DatasetError('the picture cannot be read') from error
    (left, right), (top, bottom) = (
        sorted(min(max(corner[axis] / size, 0.0), 1.0) for corner in corners)
        for axis, size in enumerate((width, height)))
    if left == right or top == bottom:
        raise DatasetError(f'{_GEOMETRY} is a box without an area')
    return left, top, right, bottom


def _corner(corner: Any) -> tuple[float, float]:
    x, y = (corner['x'], corner['y']) if isinstance(corner, dict) else corner
    point = float(x), float(y)
    if not all(map(math.isfinite, point)):
        raise ValueError('not a number')
    return point


def _clip_frames(clip: Path) -> list[NDArray[np.uint8]]:
    """Return frames at even distances, the last included; none if the clip cannot be read."""
    video = cv2.VideoCapture(str(clip))
    frames = []
    try:
        while True:
            there, bgr = video.read()
            if not there:
                break
            frames.append(np.ascontiguousarray(np.asarray(bgr, np.uint8)[..., ::-1]))
    finally:
        video.release()
    if len(frames) <= _FRAMES:
        return frames
    return [frames[round(index)] for index in np.linspace(0, len(frames) - 1, _FRAMES)]


def _write(path: Path, samples: Sequence[Sample], answers: Sequence[Answer]) -> None:
    write_answers(path, (
        {**sample.extra, 'id': sample.id, 'caption': sample.caption, 'box': sample.box,
         'answer': answer.explanation, 'answer_risk': answer.risk,
         'answer_object': answer.label, 'answer_box': answer.box}
        for sample, answer in zip(samples, answers)))
