# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A teacher that finds road users in pictures: any detector of the user's choice.

It teaches the proposal network what matters, and judges what is kept of recordings. It is not
the truth: it misses some road users, and takes some other things for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import json
from pathlib import Path
from typing import get_args, Literal, NamedTuple
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import FrameError
from vts_ros.lab.detectors import Detections, Detector, DetectorError
from vts_ros.lab.recordings import fingerprint, frames_of, LEAST_NS
from vts_ros.tools.pictures import Colour, encode, Picture
from vts_ros.vlm.answers import Box

Kind = Literal['person', 'two-wheeler', 'car', 'heavy vehicle', 'animal', 'traffic light']
KINDS: tuple[Kind, ...] = get_args(Kind)
_NAMES: dict[Kind, tuple[str, ...]] = {
    'person': ('person', 'pedestrian', 'other person'),
    'two-wheeler': ('bicycle', 'motorcycle', 'bike', 'motorbike', 'motor', 'rider', 'cyclist'),
    'car': ('car', 'van'),
    'heavy vehicle': ('bus', 'truck', 'train', 'trailer', 'caravan', 'other vehicle'),
    'animal': ('cat', 'dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe',
               'deer', 'animal'),
    'traffic light': ('traffic light',)}
KIND_OF: dict[str, Kind] = {name: kind for kind, names in _NAMES.items() for name in names}
_COLOURS: dict[Kind, Colour] = {
    'person': (255, 120, 60), 'two-wheeler': (255, 210, 60), 'car': (80, 200, 255),
    'heavy vehicle': (170, 120, 255), 'animal': (120, 230, 120), 'traffic light': (255, 255, 255)}

#: What is surer than this counts as a road user.
SURE = 0.4
#: What is less sure than this is not kept at all.
LEAST = 0.05
#: What covers more of the picture is a bridge or a tunnel more often than a lorry.
_LARGEST = 0.5
#: Of two boxes that share more than this, over what they cover together, the surer one stays.
_SAME = 0.5
#: Left edges of the tiles that are looked at beside the whole picture, each half as wide.
_TILES = (0.0, 0.25, 0.5)
_TILE_WIDTH, _EDGE = 0.5, 0.01
#: The own car: a box at the lower edge that is at the same place in half of the frames.
_LOWER_EDGE, _SAME_PLACE, _OWN_SHARE, _OWN_FRAMES = 0.97, 0.7, 0.5, 8

#: Where boxes of recordings are kept.
CACHE = Path('out/boxes')
SHOWN = 'teacher.jpg'
#: From so many frames, so far apart, the one with most boxes is shown; so wide.
_TRIED, _APART, _SHOWN_WIDTH = 8, 10, 960


class RoadUser(NamedTuple):
    """Something that takes part in traffic, where it is in the picture, and how sure that is."""

    kind: Kind
    confidence: float
    box: Box


#: Road users by camera and stamp of a frame.
Found = dict[tuple[str, int], list[RoadUser]]


class Teacher:
    """
    Finds road users in pictures.

    Parameters
    ----------
    path
        ONNX file of a detector, see ``Detector``.
    tiles
        Look also at three tiles, each half as wide as the picture: finds smaller ones, and takes
        four times as long.
    threads
        Of the detector; 0 for one per core.

    Raises
    ------
    EngineError, DetectorError
        If the detector cannot be used, or knows no road users.

    """

    def __init__(self, path: Path, tiles: bool = False, threads: int = 0) -> None:
        self._detector = Detector(path, threads)
        self._kinds = [KIND_OF.get(name.lower()) for name in self._detector.classes]
        if not any(self._kinds):
            raise DetectorError(f'{path} knows no road users: none of its classes is one of '
                                f'{", ".join(KIND_OF)}')
        self._tiles = tiles
        self._path = path

    @property
    def name(self) -> str:
        """Return the name of its file."""
        return self._path.name

    def boxes(self, rgb: NDArray[np.uint8], least: float = SURE) -> list[RoadUser]:
        """
        Return the road users in a picture, the surest first.

        Parameters
        ----------
        rgb
            uint8 [H, W, 3].
        least
            Leave out what is less sure, ``LEAST`` or more.

        """
        found = [self._detector.detect(rgb)]
        for left in _TILES if self._tiles else ():
            found.append(self._tile(rgb, left))
        return [user for user in self._surest(Detections(*map(np.concatenate, zip(*found))))
                if user.confidence >= least]

    def _tile(self, rgb: NDArray[np.uint8], left: float) -> Detections:
        """Return what is found in a tile, without what its edges cut."""
        columns = [round(side * rgb.shape[1]) for side in (left, left + _TILE_WIDTH)]
        boxes, scores = self._detector.detect(np.ascontiguousarray(rgb[:, slice(*columns)]))
        whole = ((boxes[:, 0] > _EDGE) | (left == _TILES[0])) & (
            (boxes[:, 2] < 1.0 - _EDGE) | (left == _TILES[-1]))
        boxes[:, (0, 2)] = left + _TILE_WIDTH * boxes[:, (0, 2)]
        return Detections(boxes[whole], scores[whole])

    def _surest(self, found: Detections) -> Iterator[RoadUser]:
        """Yield road users; of boxes about the same place, the surest."""
        classes = found.scores.argmax(axis=1)
        confidence = found.scores.max(axis=1)
        is_user = np.array([kind is not None for kind in self._kinds])[classes]
        area = np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)
        kept = np.flatnonzero(
            is_user & (area > 0.0) & (area <= _LARGEST) & (confidence >= LEAST))
        sides = found.boxes[kept].astype(float)
        corners = np.concatenate([sides[:, :2], sides[:, 2:] - sides[:, :2]], axis=1)
        order = cv2.dnn.NMSBoxes(corners.tolist(), confidence[kept].tolist(), LEAST, _SAME)
        for index in np.asarray(order, np.int64).ravel():
            kind = self._kinds[classes[kept[index]]]
            assert kind is not None
            left, top, right, bottom = (round(float(side), 4) for side in sides[index])
            yield RoadUser(kind, round(float(confidence[kept[index]]), 4),
                           (left, top, right, bottom))

    def boxes_of(self, recording: Path, cache: Path = CACHE,
                 progress: Callable[[int], None] = lambda frames: None) -> Found:
        """
        Return all that may be road users in the frames of a recording, down to ``LEAST``.

        Looked at once per recording and detector: what was found is kept in a folder. Without the
        own car, whose bonnet and dashboard look like one; broken pictures have no entry.

        Parameters
        ----------
        recording
            A bag, or a folder of pictures.
        cache
            Where the boxes are kept.
        progress
            Told how many frames were looked at since it was last called.

        Raises
        ------
        BagError
            If the recording cannot be read.

        """
        path = cache / f'{self.mark}_{fingerprint(recording)}.json'
        if path.exists():
            return _read(path)
        found: Found = {}
        for frame in frames_of(recording):
            try:
                found[frame.key] = self.boxes(frame.rgb(), LEAST)
            except FrameError:
                continue
            progress(1)
        found = without_own_car(found)
        _write(found, path)
        return found

    @property
    def mark(self) -> str:
        """Return what tells apart teachers that may find other boxes."""
        beside = [folder / name for folder in (self._path.parent, self._path.parent.parent)
                  for name in ('preprocessor_config.json', 'config.json')
                  if (folder / name).is_file()]
        # What was found by other rules has to be found anew.
        rules = zlib.crc32(repr((LEAST, _SAME, _LARGEST, LEAST_NS, KIND_OF)).encode())
        return f'{fingerprint(self._path, *beside)}_{rules:08x}' + '_tiles' * self._tiles

    def show(self, recordings: Sequence[Path], cache: Path = CACHE) -> Path:
        """
        Draw what is found in a picture, so that a person sees whether boxes are read rightly.

        Returns
        -------
        The file: of some frames of the first recording that has any road user, the one with most.

        """
        best: tuple[int, Picture] | None = None
        for recording in recordings:
            for picture in _some_pictures(recording):
                users = self.boxes(picture)
                if best is None or len(users) > best[0]:
                    best = len(users), drawn(picture, users)
            if best and best[0]:
                break
        if best is None:
            raise DetectorError(f'no picture of {recordings[0]} can be read')
        cache.mkdir(parents=True, exist_ok=True)
        (cache / SHOWN).write_bytes(encode(best[1]))
        return cache / SHOWN


def without_own_car(found: Mapping[tuple[str, int], Sequence[RoadUser]]) -> Found:
    """Leave out boxes at the lower edge that are at the same place in half of all frames."""
    cameras = {camera for camera, _ in found}
    frames = {camera: [users for (other, _), users in found.items() if other == camera]
              for camera in cameras}
    # A row per side: sums over rows are many times as fast as those within them.
    boxes = {camera: np.array([user.box for users in frames[camera] for user in users]
                              ).reshape(-1, 4).T.copy() for camera in cameras}
    frame_of = {camera: np.repeat(np.arange(len(frames[camera])), list(map(len, frames[camera])))
                for camera in cameras}

    def is_own(camera: str, user: RoadUser) -> bool:
        count = len(frames[camera])
        if user.box[3] < _LOWER_EDGE or count < _OWN_FRAMES:
            return False
        alike = frame_of[camera][_shared(user.box, boxes[camera]) > _SAME_PLACE]
        # In the order of frames: each that differs from the one before is another frame.
        return 1 + int(np.count_nonzero(np.diff(alike))) >= _OWN_SHARE * count

    return {(camera, stamp): [user for user in users if not is_own(camera, user)]
            for (camera, stamp), users in found.items()}


def _shared(first: Box, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area that a box shares with others [4, n] over what both cover together."""
    left, top, right, bottom = boxes
    shared = ((np.minimum(first[2], right) - np.maximum(first[0], left)).clip(0.0)
              * (np.minimum(first[3], bottom) - np.maximum(first[1], top)).clip(0.0))
    own = (first[2] - first[0]) * (first[3] - first[1])
    both = own + (right - left) * (bottom - top) - shared
    return np.divide(shared, both, out=np.zeros_like(shared), where=both > 0.0)


def drawn(rgb: NDArray[np.uint8], users: Sequence[RoadUser]) -> Picture:
    """Return the picture with a box, kind and confidence per road user, 960 pixels wide."""
    height = round(rgb.shape[0] * _SHOWN_WIDTH / rgb.shape[1])
    picture = np.asarray(cv2.resize(rgb, (_SHOWN_WIDTH, height), interpolation=cv2.INTER_AREA),
                         np.uint8)
    for user in reversed(users):
        left, top, right, bottom = (
            round(side * (_SHOWN_WIDTH, height)[axis % 2]) for axis, side in enumerate(user.box))
        colour = _COLOURS[user.kind]
        cv2.rectangle(picture, (left, top), (right, bottom), colour, 2)
        cv2.putText(picture, f'{user.kind} {user.confidence:.2f}', (left, max(12, top - 4)),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return picture


def _some_pictures(recording: Path) -> Iterator[NDArray[np.uint8]]:
    for number, frame in enumerate(frames_of(recording)):
        if number >= _TRIED * _APART:
            return
        if number % _APART == 0:
            try:
                yield frame.rgb()
            except FrameError:
                continue


def _read(path: Path) -> Found:
    return {(camera, stamp): [RoadUser(kind, confidence, (left, top, right, bottom))
                              for kind, confidence, left, top, right, bottom in users]
            for camera, stamp, users in json.loads(path.read_text(encoding='utf-8'))}


def _write(found: Found, path: Path) -> None:
    """Write boxes; the file is there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [[camera, stamp, [[user.kind, user.confidence, *user.box] for user in users]]
            for (camera, stamp), users in found.items()]
    partial = path.with_suffix('.part')
    partial.write_text(json.dumps(rows), encoding='utf-8')
    partial.replace(path)
