# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures and what matters in them, for the proposal network.

Three sources: rendered pictures, of which all is known; pictures of real roads with the boxes of
a detector; and rendered actors drawn over these, with both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.scenes import ground_truth as truth
from vts_ros.lab.scenes.cells import general_importance, importance
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.composite import bare, Cut
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.lab.scenes.scene_truth import FrameTruth
from vts_ros.lab.teacher import KINDS as ROAD_USERS
from vts_ros.lab.teacher import RoadUser
from vts_ros.lab.training.other_cameras import Thing

#: What a cell can show, beside nothing: road users, and what stands in their way.
KINDS = (*ROAD_USERS, 'barrier')
_KIND_OF = {'car': 'car', 'truck': 'heavy vehicle', 'bus': 'heavy vehicle',
            'motorcycle': 'two-wheeler', 'cyclist': 'two-wheeler', 'pedestrian': 'person',
            'child': 'person', 'animal': 'animal', 'traffic light': 'traffic light',
            'barrier': 'barrier'}
_UNPROTECTED = ('person', 'two-wheeler', 'animal')
#: Size at which pictures are rendered, width and height: larger than the network sees, so that it
#: can be zoomed into. Half of them are drawn at the size of the embedded model.
_SIZE, _SMALL = (448, 256), (224, 128)
#: Pictures in a file.
_SHARD = 500
#: Seeds of the training split where rendered pictures and those over real ones begin; windows of
#: the embedded model begin at 0.
_FIRST, _FIRST_OVER = 200_000, 400_000
#: Confidence from which a detection counts in full.
_SURE = 0.5


class Labelled(NamedTuple):
    """
    A picture and what matters in it.

    Attributes
    ----------
    picture
        uint8 [H, W, 3], RGB.
    is_rendered
        Whether nothing in it is real.

    """

    picture: NDArray[np.uint8]
    things: tuple[Thing, ...]
    is_rendered: bool


def detected(found: Sequence[RoadUser]) -> tuple[Thing, ...]:
    """Return what a detector has found as things."""
    return tuple(Thing(KINDS.index(user.kind), general_importance(user.kind in _UNPROTECTED) * min(
        1.0, user.confidence / _SURE), user.box) for user in found)


def known(frame: FrameTruth) -> tuple[Thing, ...]:
    """Return what the truth about a frame says, without what is hidden."""
    return tuple(Thing(KINDS.index(_KIND_OF[actor.label]), importance(actor), actor.box)
                 for actor in frame.actors if actor.visible >= 0.2)


class RoadPictures:
    """
    Pictures of real roads with the boxes of a detector, kept compressed.

    Parameters
    ----------
    recordings
        For each one its pictures, uint8 [H, W, 3], RGB, with what was found in them; taken one
        by one, so that they need not be there at once.

    """

    #: Width at which they are kept.
    WIDTH = 896

    def __init__(self, recordings: Iterable[Iterable[tuple[NDArray[np.uint8], Sequence[RoadUser]]]]
                 ) -> None:
        packed = ([(_packed(picture), detected(found)) for picture, found in recording]
                  for recording in recordings)
        self._recordings = [recording for recording in packed if recording]
        # A long recording has more to show than a short one, but less than in proportion.
        share = np.sqrt([float(len(recording)) for recording in self._recordings])
        self._share = share / share.sum()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return sum(len(recording) for recording in self._recordings)

    def fingerprint(self) -> str:
        """Return what is another for other pictures, or others found in them."""
        digest = hashlib.sha256()
        for recording in self._recordings:
            for data, things in recording:
                digest.update(data.tobytes() + repr(things).encode())
        return digest.hexdigest()[:12]

    def draw(self, rng: np.random.Generator) -> Labelled:
        """Return one at random."""
        recording = self._recordings[rng.choice(len(self._share), p=self._share)]
        data, things = recording[rng.integers(len(recording))]
        picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return Labelled(np.ascontiguousarray(picture[..., ::-1]), things, False)


def _packed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if width > RoadPictures.WIDTH:
        size = RoadPictures.WIDTH, round(height * RoadPictures.WIDTH / width)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return np.asarray(data, np.uint8)


class RenderedPictures:
    """
    Rendered pictures of a folder; they stay on disk until asked for.

    Parameters
    ----------
    folder
        Where :func:`render_pictures` wrote them.
    name
        ``rendered``, or that of :func:`over_name`.

    """

    def __init__(self, folder: Path, name: str) -> None:
        paths = sorted(folder.glob(f'{name}-*.npy'))
        self._pictures = [np.load(path, mmap_mode='r') for path in paths]
        self._things = [[tuple(Thing(kind, weight, tuple(box)) for kind, weight, *box in things)
                         for things in json.loads(path.with_suffix('.json').read_text())]
                        for path in paths]
        self._is_rendered = name == 'rendered'
        self._counts = np.cumsum([len(pictures) for pictures in self._pictures])

    def __len__(self) -> int:
        """Return the number of pictures."""
        return int(self._counts[-1]) if len(self._counts) else 0

    def draw(self, rng: np.random.Generator) -> Labelled:
        """Return one at random."""
        number = int(rng.integers(len(self)))
        file = int(np.searchsorted(self._counts, number, 'right'))
        row = number - int(self._counts[file - 1] if file else 0)
        return Labelled(np.asarray(self._pictures[file][row]), self._things[file][row],
                        self._is_rendered)


def over_name(roads: RoadPictures) -> str:
    """Return what files with pictures over these roads are called."""
    return f'over-{roads.fingerprint()}'


def render_pictures(folder: Path, count: int, roads: RoadPictures | None = None,
                    progress: Callable[[int], None] = lambda pictures: None) -> None:
    """
    Render pictures of the training split; what is there already stays.

    Parameters
    ----------
    folder
        Where they go; made if it is not there.
    count
        How many, rounded up to whole files.
    roads
        Pictures of real roads to draw the actors over; without, everything is rendered.
    progress
        Called with the number of pictures that were done since the last call.

    """
    folder.mkdir(parents=True, exist_ok=True)
    name = over_name(roads) if roads else 'rendered'
    for number in range(-(-count // _SHARD)):
        path = folder / f'{name}-{number:03d}.npy'
        if not path.exists():
            rng = np.random.default_rng([number, 7])
            source = (_over(roads, _FIRST_OVER + 4 * _SHARD * number, rng) if roads else
                      _rendered(_FIRST + _SHARD * number, rng))
            made = [labelled for labelled, _ in zip(source, range(_SHARD))]
            path.with_suffix('.json').write_text(json.dumps(
                [[[thing.kind, round(thing.importance, 3), *thing.box]
                  for thing in labelled.things] for labelled in made]))
            # Last and in one step: a file is there, or it is not.
            partial = path.with_suffix('.part')
            with partial.open('wb') as file:
                np.save(file, np.stack([labelled.picture for labelled in made]))
            partial.rename(path)
        progress(_SHARD)


def _rendered(first: int, rng: np.random.Generator) -> Iterator[Labelled]:
    """Yield two frames of each scene."""
    for scene in balanced_scenes('train', _SHARD, first):
        small = rng.random() < 0.5
        renderer = Renderer(scene, *(_SMALL if small else _SIZE))
        for index in sorted(rng.choice(len(scene.times), 2, replace=False).tolist()):
            picture = renderer.frame(index)
            if small:
                picture = np.asarray(cv2.resize(picture, _SIZE), np.uint8)
            yield Labelled(picture, known(truth.frame_truth(scene, index, _SIZE[1] / _SIZE[0])),
                           True)


def _over(roads: RoadPictures, first: int, rng: np.random.Generator) -> Iterator[Labelled]:
    """Yield a frame of each scene that can happen on a straight road, over a real one."""
    for drawn in balanced_scenes('train', 4 * _SHARD, first):
        if (scene := bare(drawn)) is None:
            continue
        road = roads.draw(rng)
        cut = Cut.at((0.5 + rng.uniform(-0.04, 0.04), 0.56 + rng.uniform(-0.05, 0.05)),
                     road.picture.shape[:2])
        index = len(scene.times) - 1 - int(rng.integers(3))
        picture = Renderer(scene, *_SIZE).over(cut.of(road.picture), index)
        drawn_things = known(truth.frame_truth(scene, index, _SIZE[1] / _SIZE[0]))
        behind = (thing._replace(box=cut.box(thing.box)) for thing in road.things)
        yield Labelled(picture, (*drawn_things, *(
            thing for thing in behind if _is_shown(thing, drawn_things))), False)


def _is_shown(thing: Thing, before: Sequence[Thing]) -> bool:
    """Return whether a thing is in the picture and its middle not behind what is drawn."""
    left, top, right, bottom = thing.box
    x, y = (left + right) / 2.0, (top + bottom) / 2.0
    return right > 0.0 and left < 1.0 and bottom > 0.0 and top < 1.0 and not any(
        user.box[0] < x < user.box[2] and user.box[1] < y < user.box[3] for user in before)
