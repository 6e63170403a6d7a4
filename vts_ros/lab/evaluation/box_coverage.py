# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How much of the road users of recordings is kept, with proposal networks and without.

What counts is the frames that are neither the key frame, of the way to choose that is measured,
nor the newest: those two have shares of their own. Ways without a key frame keep no frame in
particular, and only the newest is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
import torch

from vts_ros.engines.torch_engine import TorchEngine
from vts_ros.errors import FrameError
from vts_ros.lab.evaluation.drawn_boxes import TrafficError
from vts_ros.lab.recordings import every_window, name_of
from vts_ros.lab.rivals.ranking import ascending, evenly
from vts_ros.lab.rivals.registry import BASELINES, Method
from vts_ros.lab.scenes.cells import overlaps
from vts_ros.lab.teacher import Found, KINDS, RoadUser, SURE
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import Proposal, Sparsifier, token_budget, WindowFeatures
from vts_ros.sparsify.proposal_network import load_net
from vts_ros.sparsify.token_grid import area_weights
from vts_ros.sparsify.window_step import WINDOW_INPUTS, WINDOW_OUTPUTS, WindowStep

Grid = tuple[int, int]
Light = Literal['day', 'dusk', 'night', 'low contrast']
LIGHTS: tuple[Light, ...] = ('day', 'dusk', 'night', 'low contrast')
#: Heights of road users in shares of the picture, below which they are of a size.
SIZES = {'under 5 %': 0.05, '5 to 15 %': 0.15, 'over 15 %': 1.1}
GROUPS = ('all', *KINDS, *SIZES)

#: Middle of the ellipse from left and top, and its widths, in shares of the picture.
ELLIPSE = ((0.5, 0.57), (0.35, 0.14))
#: Ways that look at no saliency.
RIVALS = ('random', 'evs', 'vidcom2')

#: Mean brightness, 0 to 255, below which it is night or dusk, and the distance of the darkest
#: twentieth of the pixels from the brightest below which a picture has low contrast.
NIGHT, DUSK, LOW_CONTRAST = 45.0, 80.0, 90.0
_THUMBNAIL = (64, 36)
#: Frames are remembered for so long: no window is longer.
_MEMORY_NS = 10_000_000_000


class Saliency(Protocol):
    """What takes the place of the proposal network in front of the window step."""

    def __call__(self, rgb: NDArray[np.uint8], users: Sequence[RoadUser]) -> Proposal:
        """Return what there is to see in a frame; the road users are for the teacher alone."""


class Salient(NamedTuple):
    """
    A saliency, and the window step that chooses by it.

    Attributes
    ----------
    about
        What it is, in a few words.

    """

    sparsifier: Sparsifier
    propose: Saliency
    about: str


def saliencies(networks: Mapping[str, Path], grid: Grid, has_teacher: bool) -> dict[str, Salient]:
    """
    Return networks and what is to be compared with them, all in front of a window step.

    Parameters
    ----------
    networks
        Folders with ``frame.onnx`` and ``window.onnx``, by name.
    has_teacher
        Whether the road users come from a teacher, whose confidence is a saliency, too.

    """
    found: dict[str, Salient] = {}
    step = _any_size()
    for name, folder in networks.items():
        sparsifier = Sparsifier.load(folder)
        found[name] = Salient(sparsifier, _network(sparsifier), 'the proposal network')
        if (place := _place(folder / 'frame.onnx')) is not None:
            found[f'{name}: place'] = Salient(step, place, 'what it knows of the place alone')
    found['ellipse'] = Salient(
        step, _fixed(ellipse(grid)), 'a fixed ellipse around the horizon, no network')
    if has_teacher:
        found['teacher'] = Salient(
            step, lambda rgb, users: _unlooked(confidence(users, grid)),
            'the confidence of the teacher itself: about as good as it gets')
    return found


def _any_size() -> Sparsifier:
    """Return one whose window step takes maps of any size; exported ones take their network's."""
    return Sparsifier(None, TorchEngine(WindowStep(), WINDOW_INPUTS, WINDOW_OUTPUTS, 'cpu'))


def _network(sparsifier: Sparsifier) -> Saliency:
    return lambda rgb, users: sparsifier.propose(rgb)


def _place(path: Path) -> Saliency | None:
    """Return the part of a network that knows the place alone; None of one that has no such."""
    try:
        net = load_net(path)
    except ValueError:
        return None

    @torch.inference_mode()
    def propose(rgb: NDArray[np.uint8], users: Sequence[RoadUser]) -> Proposal:
        return _unlooked(torch.sigmoid(net.raw(torch.from_numpy(rgb)[None]).place)[0].numpy())

    return propose


def _fixed(saliency: NDArray[np.floating]) -> Saliency:
    proposal = _unlooked(saliency)
    return lambda rgb, users: proposal


def _unlooked(saliency: NDArray[np.floating]) -> Proposal:
    """Return a proposal in which all places look alike."""
    return Proposal(saliency.astype(np.float32), np.ones((1, *saliency.shape), np.float32))


def ellipse(grid: Grid) -> NDArray[np.float32]:
    """Return the saliency of a fixed ellipse around the horizon."""
    (x, y), (width, height) = ELLIPSE
    rows, columns = ((np.arange(count) + 0.5) / count for count in grid)
    distance = ((rows - y) / height)[:, None] ** 2 + ((columns - x) / width)[None] ** 2
    return np.asarray(np.exp(-0.5 * distance), np.float32)


def confidence(users: Sequence[RoadUser], grid: Grid) -> NDArray[np.float32]:
    """Return for each cell how sure it is that a road user is there, times what it covers."""
    saliency = np.zeros(grid)
    for user in users:
        saliency = np.maximum(saliency, user.confidence * overlaps(user.box, *grid)[0])
    return saliency.astype(np.float32)


def light_of(brightness: float, contrast: float) -> Light:
    """Return the light by mean brightness and contrast of pictures, each 0 to 255."""
    if brightness < NIGHT:
        return 'night'
    if contrast < LOW_CONTRAST:
        return 'low contrast'
    return 'dusk' if brightness < DUSK else 'day'


@dataclass(frozen=True)
class Look:
    """
    A frame, and all that is known about it.

    Attributes
    ----------
    proposals, salient
        What each saliency sees, and its share for each token, float32 [N].
    users
        Those that are sure.
    covered
        float32 [users, N], which share of a user lies on each token; sums to 1.
    thumbnail
        uint8 [36, 64, 3].
    brightness, contrast
        Mean, and distance of the darkest twentieth of the pixels from the brightest.

    """

    frame: Frame
    proposals: dict[str, Proposal]
    salient: dict[str, NDArray[np.float32]]
    users: list[RoadUser]
    covered: NDArray[np.float32]
    thumbnail: NDArray[np.uint8]
    brightness: float
    contrast: float


class Looker:
    """Looks at each frame of a recording once."""

    def __init__(self, ways: Mapping[str, Salient], grid: Grid, found: Found) -> None:
        self._ways, self._grid, self._found = ways, grid, found
        self._plain = {name: way.sparsifier.variant(alpha=0.0) for name, way in ways.items()}
        self._seen: dict[tuple[str, int], Look] = {}

    def windows(self, recording: Path) -> Iterator[list[Look]]:
        """Yield the windows of a recording; those with a broken picture are left out."""
        for window in every_window(recording):
            try:
                yield [self._look(frame) for frame in window]
            except FrameError:
                continue

    def _look(self, frame: Frame) -> Look:
        if (look := self._seen.get(frame.key)) is None:
            self._seen = {key: old for key, old in self._seen.items()
                          if abs(old.frame.stamp_ns - frame.stamp_ns) < _MEMORY_NS}
            look = self._seen[frame.key] = self._new(frame)
        return look

    def _new(self, frame: Frame) -> Look:
        rgb, found = frame.rgb(), self._found.get(frame.key, [])
        proposals = {name: way.propose(rgb, found) for name, way in self._ways.items()}
        # Without novelty, the score of a token is its saliency.
        salient = {name: self._plain[name].choose([proposal], self._grid, 1).score[0]
                   for name, proposal in proposals.items()}
        users = [user for user in found if user.confidence >= SURE]
        shared = [overlaps(user.box, *self._grid) for user in users]
        covered = np.stack([cells.ravel() / area for cells, area in shared]) if shared else (
            np.zeros((0, self._grid[0] * self._grid[1])))
        thumbnail = np.asarray(cv2.resize(rgb, _THUMBNAIL, interpolation=cv2.INTER_AREA), np.uint8)
        grey = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY)
        return Look(frame, proposals, salient, users, covered.astype(np.float32), thumbnail,
                    float(grey.mean()), float(np.ptp(np.percentile(grey, (5, 95)))))


def groups_of(user: RoadUser) -> NDArray[np.bool_]:
    """Return to which of ``GROUPS`` a road user belongs."""
    height = user.box[3] - user.box[1]
    size = next(name for name, limit in SIZES.items() if height < limit)
    return np.array([group in ('all', user.kind, size) for group in GROUPS])


@dataclass
class _Tally:
    """Shares of road users that were kept, summed by group, and how many there were."""

    kept: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(GROUPS)))
    users: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(GROUPS)))

    def add(self, looks: Sequence[Look], keep: NDArray[np.int32], without: set[int],
            weight: float = 1.0) -> None:
        """Count the road users of a window, frames left out that have shares of their own."""
        mask = np.zeros((len(looks), looks[0].covered.shape[1]))
        np.put(mask, keep, 1.0)
        for index, look in enumerate(looks):
            if index not in without and look.users:
                groups = np.stack([groups_of(user) for user in look.users])
                self.kept += weight * (look.covered @ mask[index] @ groups)
                self.users += weight * groups.sum(axis=0)

    def shares(self) -> dict[str, float]:
        """Return the mean share by group; nothing of a group that nobody belongs to."""
        return {group: round(float(kept / users), 4)
                for group, kept, users in zip(GROUPS, self.kept, self.users) if users}


class Measured(NamedTuple):
    """
    What was found in a recording.

    Attributes
    ----------
    values
        As it is written to JSON: ``name``, ``windows``, ``frames``, ``users`` by group,
        ``brightness``, ``contrast``, ``light``; ``kept`` and ``level`` by way, budget and group
        (with the window step; the most salient tokens, as many of every frame; ways without a
        saliency have their own shares in both); ``auc`` by way and group.
    shown
        The window with the most road users.

    """

    values: dict[str, Any]
    shown: list[Look]


def measure(recording: Path, found: Found, ways: Mapping[str, Salient], grid: Grid,
            budgets: Sequence[float]) -> Measured:
    """
    Return how much of the road users of a recording each way to choose keeps.

    Parameters
    ----------
    found
        Road users; those that are less sure than ``SURE`` are for the teacher alone.
    ways
        Of :func:`saliencies`; EVS, VidCom2 and chance come beside them, on the embeddings of the
        first.
    grid
        Rows and columns of visual tokens per frame.
    budgets
        Keep ratios.

    Raises
    ------
    BagError
        If the recording cannot be read.
    TrafficError
        If it has no window with all pictures, or no road users.

    """
    kept = {name: {ratio: _Tally() for ratio in budgets} for name in (*ways, *RIVALS)}
    level = {name: {ratio: _Tally() for ratio in budgets} for name in ways}
    looks: dict[tuple[str, int], Look] = {}
    windows, most, shown = 0, 0, list[Look]()
    for window in Looker(ways, grid, found).windows(recording):
        windows += 1
        looks |= {look.frame.key: _without_pixels(look) for look in window}
        if (count := sum(len(look.users) for look in window)) > most:
            most, shown = count, window
        if not count:
            continue
        _choose_salient(window, ways, grid, kept, level)
        _choose_rivals(window, next(iter(ways)), grid, kept)
    if not most:
        raise TrafficError(f'{name_of(recording)} has no road users in any full window')
    frames = list(looks.values())
    return Measured({
        'name': name_of(recording), 'windows': windows, 'frames': len(frames),
        'users': _users(frames), **_seen_light(frames),
        'kept': _shares(kept),
        'level': _shares({**level, **{name: kept[name] for name in RIVALS}}),
        'auc': {name: areas_under_curve(frames, name) for name in ways}}, shown)


def measure_all(recordings: Sequence[Path], find: Callable[[Path], Found],
                ways: Mapping[str, Salient], grid: Grid, budgets: Sequence[float],
                progress: Callable[[float, str], None] = lambda share, what: None
                ) -> tuple[list[Measured], list[str]]:
    """
    Measure recordings, see :func:`measure`, but leave out those without road users.

    Parameters
    ----------
    find
        Returns the road users of a recording.
    progress
        Told the share of the work that is done, and what comes next.

    Returns
    -------
    What was found, and the names of the recordings that were left out.

    Raises
    ------
    TrafficError
        If none is left.

    """
    measured: list[Measured] = []
    empty: list[str] = []
    for number, recording in enumerate(recordings):
        name = name_of(recording)
        progress(number / len(recordings), f'{name}: road users')
        found = find(recording)
        progress((number + 0.5) / len(recordings), f'{name}: tokens')
        try:
            measured.append(measure(recording, found, ways, grid, budgets))
        except TrafficError:
            empty.append(name)
    if not measured:
        raise TrafficError(f'no road users in any full window of {", ".join(empty)}')
    return measured, empty


def _without_pixels(look: Look) -> Look:
    """Return what is kept of a frame as long as its recording is looked at."""
    frame = Frame(look.frame.camera, look.frame.stamp_ns, b'')
    return replace(look, frame=frame, proposals={}, thumbnail=np.zeros((0, 0, 3), np.uint8))


def _choose_salient(window: Sequence[Look], ways: Mapping[str, Salient], grid: Grid,
                    kept: Mapping[str, Mapping[float, _Tally]],
                    level: Mapping[str, Mapping[float, _Tally]]) -> None:
    newest = len(window) - 1
    for name, way in ways.items():
        proposals = [look.proposals[name] for look in window]
        order = evenly(np.stack([look.salient[name] for look in window]))
        for ratio, tally in kept[name].items():
            chosen = way.sparsifier.select(proposals, grid, ratio)
            tally.add(window, chosen.keep, {chosen.key, newest})
            budget = token_budget(len(window), grid, ratio)
            level[name][ratio].add(window, ascending(order[:budget]), {newest})


def _choose_rivals(window: Sequence[Look], network: str, grid: Grid,
                   kept: Mapping[str, Mapping[float, _Tally]]) -> None:
    evidence = _evidence(window, network, grid)
    for method in _rivals():
        for ratio, tally in kept[method.name].items():
            budget = token_budget(len(window), grid, ratio)
            for choice in range(len(method.choices)):
                keep = method.keep(evidence, budget, choice)
                if keep is not None:
                    tally.add(window, keep, {len(window) - 1}, 1.0 / len(method.choices))


def _rivals() -> list[Method]:
    return [method for method in BASELINES if method.name in RIVALS]


def _evidence(window: Sequence[Look], network: str, grid: Grid) -> WindowFeatures:
    """Return what EVS, VidCom2 and chance look at: embeddings stand for visual tokens."""
    proposals = tuple(look.proposals[network] for look in window)
    maps = np.stack([np.asarray(proposal.embedding) for proposal in proposals])
    rows, columns = (area_weights(tokens, cells) for tokens, cells in zip(grid, maps.shape[2:]))
    tokens = (rows @ maps @ columns.T).reshape(*maps.shape[:2], -1).transpose(0, 2, 1)
    return WindowFeatures(np.stack([look.thumbnail for look in window]), proposals,
                    np.ascontiguousarray(tokens), grid)


def _shares(tallies: Mapping[str, Mapping[float, _Tally]]) -> dict[str, Any]:
    return {name: {f'{ratio:g}': tally.shares() for ratio, tally in by_ratio.items()}
            for name, by_ratio in tallies.items()}


def _users(frames: Sequence[Look]) -> dict[str, int]:
    groups = sum((groups_of(user).astype(int) for look in frames for user in look.users),
                 np.zeros(len(GROUPS), int))
    return {group: int(count) for group, count in zip(GROUPS, groups)}


def _seen_light(frames: Sequence[Look]) -> dict[str, Any]:
    brightness = float(np.median([look.brightness for look in frames]))
    contrast = float(np.median([look.contrast for look in frames]))
    return {'brightness': round(brightness, 1), 'contrast': round(contrast, 1),
            'light': light_of(brightness, contrast)}


def areas_under_curve(frames: Sequence[Look], name: str) -> dict[str, float]:
    """
    Return by group how surely a place on a road user is more salient than a place on none.

    The area under the curve (AUC) of the saliency of a token, which belongs to road users as far
    as they cover it, over all frames of a recording that have any.
    """
    frames = [look for look in frames if look.users]
    salient = np.concatenate([look.salient[name] for look in frames])
    cover = np.concatenate([_cover(look) for look in frames], axis=1)
    areas = {group: area_under_curve(salient, covered, 1.0 - cover[0])
             for group, covered in zip(GROUPS, cover)}
    return {group: area for group, area in areas.items() if area is not None}


def _cover(look: Look) -> NDArray[np.float64]:
    """Return which share of each token the road users of each group cover, [groups, N]."""
    groups = np.stack([groups_of(user) for user in look.users])
    # Which share of a token a user covers follows from which share of the user is on the token.
    areas = [_tokens_covered(user, look.covered.shape[1]) for user in look.users]
    cells = look.covered * np.array(areas)[:, None]
    return np.stack([np.minimum((cells * member[:, None]).max(axis=0), 1.0)
                     for member in groups.T])


def _tokens_covered(user: RoadUser, tokens: int) -> float:
    left, top, right, bottom = user.box
    return (right - left) * (bottom - top) * tokens


def area_under_curve(scores: NDArray[np.floating], positive: NDArray[np.floating],
                     negative: NDArray[np.floating]) -> float | None:
    """Return the area under the curve of scores whose weights are given; None without both."""
    if positive.sum() <= 0.0 or negative.sum() <= 0.0:
        return None
    _, rank = np.unique(scores, return_inverse=True)
    ups, downs = (np.bincount(rank, weights=weights) for weights in (positive, negative))
    below = np.cumsum(downs) - 0.5 * downs
    return round(float(ups @ below / (ups.sum() * downs.sum())), 4)
