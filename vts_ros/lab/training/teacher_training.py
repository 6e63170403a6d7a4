# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Teach the proposal network what a detector finds in recordings.

What the teacher misses is taught as unimportant, so the network is judged on recordings, or a
part of one, that it has not learned from, beside the shipped one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import VtsError
from vts_ros.lab.evaluation.box_coverage import measure_all, saliencies
from vts_ros.lab.evaluation.proposal_recall import REPORT
from vts_ros.lab.evaluation.recordings_page import summarize
from vts_ros.lab.recordings import frames_of, name_of
from vts_ros.lab.teacher import Found, RoadUser, SURE, Teacher
from vts_ros.lab.training.labelled_pictures import RoadPictures
from vts_ros.lab.training.proposal_training import Recipe, train_proposal
from vts_ros.paths import model_path
from vts_ros.tools.cli.terminal import progress_bar

#: Share of the recordings, or of the only one, that is held out, and what is left out before.
_HOLDOUT_SHARE, _GAP_NS = 0.2, 3_000_000_000
#: Grid of tokens on which the network is judged, and the shares that are kept.
_GRID, _BUDGETS = (9, 16), (0.6, 0.4, 0.2, 0.1)


class TeachingError(VtsError, ValueError):
    """Nothing can be learned like this; the message says why in one line."""


def learn_from_teacher(recordings: Sequence[Path], teacher: Teacher, out: Path, work: Path,
                       pictures: int = 2000, recipe: Recipe | None = None, anew: bool = False,
                       backbone: Path | None = None) -> dict[str, Any]:
    """
    Train the shipped proposal network further with a detector as the teacher, and judge it.

    Parameters
    ----------
    recordings
        Bags or folders of pictures. The last fifth of them, at least one, is held out; of a
        single one, its last fifth.
    out
        Folder for the graphs and ``REPORT``.
    work
        Folder for rendered pictures and the checkpoint; what the teacher finds is kept beside it.
    pictures
        Of the recordings, to learn from, at most, at even distances.
    recipe
        What else is learned from, and for how long.
    anew
        Begin with random weights, or those of `backbone`, and not with the shipped network.
    backbone
        See :func:`train_proposal`.

    Returns
    -------
    ``{'train', 'settings', 'result'}``: pictures that were learned from, how, and what
    ``summarize`` says of what the networks `shipped` and `trained` keep of what was held out.

    Raises
    ------
    BagError
        If a recording cannot be read.
    TeachingError, TrafficError
        If there are no road users to learn from, or none in what is held out.

    """
    recipe = recipe or Recipe(steps=600)
    found: dict[Path, Found] = {}
    with progress_bar(as_json=False) as (_, progress):
        for number, recording in enumerate(recordings):
            progress(number / len(recordings), f'{name_of(recording)}: road users')
            found[recording] = teacher.boxes_of(recording, work.parent / 'boxes')
    train, held_out = split(found)
    roads = road_pictures(train, pictures)
    shipped = model_path('proposal/frame.onnx')
    train_proposal(out, work, recipe, roads, backbone, None if anew else shipped)
    ways = saliencies({'shipped': shipped.parent, 'trained': out},
                      _GRID, has_teacher=True)
    with progress_bar(as_json=False) as (_, progress):
        measured, _ = measure_all(list(held_out), held_out.__getitem__, ways, _GRID, _BUDGETS,
                                  progress)
    report: dict[str, Any] = {
        'train': len(roads), 'settings': {
            'teacher': teacher.name, 'bags': [name_of(recording) for recording in train],
            **asdict(recipe), 'anew': anew},
        'result': summarize([recording.values for recording in measured],
                            ['shipped', 'trained'])}
    (out / REPORT).write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    return report


def split(found: dict[Path, Found]) -> tuple[dict[Path, Found], dict[Path, Found]]:
    """Return road users to learn from, and those that are held out, both by recording."""
    recordings = list(found)
    if len(recordings) > 1:
        last = max(1, round(_HOLDOUT_SHARE * len(recordings)))
        return ({path: found[path] for path in recordings[:-last]},
                {path: found[path] for path in recordings[-last:]})
    (path, users), = found.items()
    stamps = sorted(stamp for _, stamp in users)
    if not stamps:
        raise TeachingError(f'no picture of {path} can be read')
    begin = stamps[-1] - _HOLDOUT_SHARE * (stamps[-1] - stamps[0])
    # Of short recordings, less is left out.
    gap = min(_GAP_NS, _HOLDOUT_SHARE * (stamps[-1] - stamps[0]))
    return ({path: {key: found for key, found in users.items() if key[1] < begin - gap}},
            {path: {key: found for key, found in users.items() if key[1] >= begin}})


def road_pictures(found: dict[Path, Found], most: int) -> RoadPictures:
    """Return pictures at even distances, and the road users in them that are sure."""
    keys = [(path, key) for path, users in found.items() for key in users]
    if len(keys) > most:
        keys = [keys[round(index)] for index in np.linspace(0, len(keys) - 1, most)]
    chosen = set(keys)
    if not any(_sure(found[path][key]) for path, key in chosen):
        raise TeachingError('the teacher finds no road users in what is to be learned from')

    def pictures_of(path: Path, users: Found
                    ) -> Iterator[tuple[NDArray[np.uint8], list[RoadUser]]]:
        for frame in frames_of(path):
            if (path, frame.key) in chosen:
                yield frame.rgb(), _sure(users[frame.key])

    return RoadPictures(pictures_of(path, users) for path, users in found.items())


def _sure(users: Sequence[RoadUser]) -> list[RoadUser]:
    return [user for user in users if user.confidence >= SURE]
