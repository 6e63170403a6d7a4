# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows of recordings with labels by the boxes of a teacher, and a sheet that shows some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import FrameError
from vts_ros.lab.recordings import every_window, frames_of, name_of
from vts_ros.lab.road_truth import road_truth, RoadTruth, USUAL_MPS
from vts_ros.lab.scenes.scene_truth import Actor
from vts_ros.lab.teacher import Found
from vts_ros.lab.true_report import true_report
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.report import RISK_COLOURS
from vts_ros.tools.contact_sheet import contact_sheet, interesting
from vts_ros.tools.pictures import Picture

#: Windows on a sheet, and the width at which boxes are drawn on their newest frames.
_SHOWN, _WIDTH = 24, 920
#: From this height on, in shares of the picture, there are words at a box.
_SAID_FROM = 0.06
_OTHERS = (230, 230, 230)


class RoadWindow(NamedTuple):
    """
    A window of a recording with its labels.

    Attributes
    ----------
    recording
        Name of the recording.
    frames
        Oldest first.

    """

    recording: str
    frames: list[Frame]
    truth: RoadTruth


def road_windows(recording: Path, found: Found, ego_mps: float = USUAL_MPS,
                 most: int | None = None) -> Iterator[RoadWindow]:
    """
    Yield windows of a recording whose labels are clear, in the order of time.

    Parameters
    ----------
    recording
        A bag, or a folder of pictures.
    found
        Its road users.
    ego_mps
        Speed of the car.
    most
        Take so many at most, evenly over all that are clear.

    Raises
    ------
    BagError
        If the recording cannot be read.

    """
    aspect = _aspect(recording)
    # Once to see which are clear: the pictures of an hour would not fit the memory.
    clear = [number for number, (window, truth) in enumerate(_labelled(
        recording, found, aspect, ego_mps)) if truth.is_clear]
    if most is not None and len(clear) > most:
        clear = [clear[round(place)] for place in np.linspace(0, len(clear) - 1, most)]
    chosen = set(clear)
    for number, (window, truth) in enumerate(_labelled(recording, found, aspect, ego_mps)):
        if number in chosen:
            yield RoadWindow(name_of(recording), window, truth)


def _labelled(recording: Path, found: Found, aspect: float, ego_mps: float
              ) -> Iterator[tuple[list[Frame], RoadTruth]]:
    for window in every_window(recording):
        # Of broken pictures the teacher has said nothing.
        if all(frame.key in found for frame in window):
            yield window, road_truth(window, found, aspect, ego_mps)


def _aspect(recording: Path) -> float:
    """Return height over width of the first picture that is whole."""
    for frame in frames_of(recording):
        try:
            height, width = frame.rgb().shape[:2]
        except FrameError:
            continue
        return height / width
    return 1.0


def sheet(windows: Sequence[RoadWindow], teacher: str) -> Picture:
    """
    Draw the newest frames of windows with their labels, to be looked at.

    Parameters
    ----------
    windows
        Of these, some are taken: where level or object change, and from all parts.
    teacher
        Name of the detector.

    """
    reports = [true_report(window.truth.window, window.frames[-1].stamp_ns) for window in windows]
    chosen = interesting(reports, _SHOWN)
    return contact_sheet(
        [drawn(windows[index].frames[-1].rgb(), windows[index].truth) for index in chosen],
        [reports[index] for index in chosen], [windows[index].recording for index in chosen],
        'Labels of windows of recordings',
        f'By the boxes of {teacher} and the risk rule of the renderer: the risk object in its '
        'colour, others in white, with distance and seconds to contact.')


def drawn(rgb: NDArray[np.uint8], truth: RoadTruth) -> Picture:
    """Return a frame with a box and what is known of it for each road user, 920 px wide."""
    height = round(rgb.shape[0] * _WIDTH / rgb.shape[1])
    picture = np.asarray(cv2.resize(rgb, (_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)
    for actor in sorted(truth.window.actors, key=lambda actor: actor.is_risk):
        colour = RISK_COLOURS[truth.window.risk] if actor.is_risk else _OTHERS
        left, top, right, bottom = (round(side * (_WIDTH, height)[axis % 2])
                                    for axis, side in enumerate(actor.box))
        cv2.rectangle(picture, (left, top), (right, bottom), colour, 3 if actor.is_risk else 2)
        # Of what is far away the words would lie on each other.
        if actor.is_risk or bottom - top > _SAID_FROM * height:
            cv2.putText(picture, _about(actor, truth), (left, bottom + 22),
                        cv2.FONT_HERSHEY_SIMPLEX, 0.65, colour, 2, cv2.LINE_AA)
    return picture


def _about(actor: Actor, truth: RoadTruth) -> str:
    text = f'{actor.label} {actor.distance_m:.0f} m, {actor.lateral_m:+.0f} m: {actor.motion}'
    seconds = truth.window.ttc_sec
    return f'{text}, {seconds:.1f} s' if actor.is_risk and seconds is not None else text
