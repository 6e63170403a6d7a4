# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Choose tokens of a frame when it comes, for good, by what came before it.

The window step chooses again for every window, so nothing that a language model has read of a
frame can be used for the next window. Here frames form groups of pictures, as in video coding:
the first of a group is its key frame, and of each that follows those tokens are kept that are
salient or show what the key frame does not. A group ends when it is full, when a frame is so much
more salient than its key frame that the window step would make it the key frame, or when the
scene is another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import SparsifierError
from vts_ros.sparsify import Proposal, Selection, Sparsifier
from vts_ros.sparsify.frame_budgets import GAIN
from vts_ros.sparsify.selection import token_budget

#: Mean cosine of the embeddings of two frames in a row, cell by cell, below which they show other
#: scenes. Low on purpose: a drive that is taken for two loses all that was read of it. Frames of
#: different scenes may well be more alike than that, so not every cut is seen.
SCENE_CUT_COSINE = 0.65
#: So many times the hysteresis of the window step makes a frame salient enough to begin a group. A
#: new key frame costs more here: in the window step it is one of the frames that are there anyway.
#: With the usual 0.05 that is half as salient again; less is noise in what is seen of a highway.
GROUP_HYSTERESIS_FACTOR = 10.0
#: Of the share that was asked for, what a frame gets at least, however much its group has spent.
_FLOOR = 0.25

#: Why a group begins: there was none, it asks for a new key frame, the last one is full, or the
#: scene is another one, with which all groups before are forgotten.
Reason = Literal['first', 'key', 'full', 'scene']


class TokenChoice(NamedTuple):
    """
    What is kept of a frame.

    Attributes
    ----------
    keep
        int32 [B], ascending positions in the frame, row-major.
    score
        float32 [rows * columns], what they were chosen by.
    saliency
        Mean saliency of the frame.
    is_key
        Whether it is a key frame.

    """

    keep: NDArray[np.int32]
    score: NDArray[np.float32]
    saliency: float
    is_key: bool


@dataclass
class _CameraGroup:
    """The frames of one camera in a group: their key frame, their budget and its use."""

    key: Proposal
    last: Proposal
    group_budget: float
    frames: int = 0
    kept: int = 0
    rho_sum: float = 0.0


@dataclass
class _Group:
    cameras: dict[str, _CameraGroup] = field(default_factory=dict)
    moments: int = 0

    @property
    def frames(self) -> int:
        return sum(camera.frames for camera in self.cameras.values())


class FrameGroups:
    """
    Groups of pictures of one or several cameras.

    On average over time the keep ratio is met: a full group keeps exactly its budget, and what a
    group that ended early overspent on its key frame is taken off the following ones.

    Parameters
    ----------
    sparsifier
        Looks at frames and compares two of them.
    length
        Moments of a group at most: frames per camera.

    Attributes
    ----------
    counters
        How many groups began, by reason, and how many were ``evicted``.

    """

    def __init__(self, sparsifier: Sparsifier, length: int) -> None:
        if length < 1:
            raise SparsifierError(f'a group needs at least one frame, not {length}')
        # Whatever the budget is, a key frame of earlier comes first: it has been read already.
        self._sparsifier = sparsifier.variant(shares=(1.0, 0.0))
        self.length = length
        self.counters: Counter[str] = Counter()
        self._groups: list[_Group] = []
        # Tokens kept beyond the budget so far, per camera.
        self._overspent: dict[str, float] = {}

    @property
    def moments(self) -> int:
        """Return the number of moments held."""
        return sum(group.moments for group in self._groups)

    @property
    def frames(self) -> int:
        """Return the number of frames held."""
        return sum(group.frames for group in self._groups)

    @property
    def count(self) -> int:
        """Return the number of groups held."""
        return len(self._groups)

    @property
    def counts(self) -> dict[str, float]:
        """Return the counters by the names that diagnostics give them."""
        return {f'groups_{name}': self.counters[name]
                for name in ('first', 'full', 'key', 'scene', 'evicted')}

    def clear(self) -> None:
        """Forget all groups."""
        self._groups.clear()
        self._overspent.clear()

    def take(self, moment: Mapping[str, Proposal],
             grid: tuple[int, int] | Mapping[str, tuple[int, int]], keep_ratio: float,
             weight: float = 0.0) -> dict[str, TokenChoice]:
        """
        Choose the tokens of the frames of one moment, at most one per camera.

        Groups that are over are forgotten as soon as the others have more than twice the length
        of a group; :attr:`frames` tells how many frames are left, these included.

        Parameters
        ----------
        moment
            What the proposal network saw, by camera.
        grid
            Rows and columns of visual tokens of a frame, by camera where they differ.
        keep_ratio
            Share of the tokens to keep, above 0 and up to 1.
        weight
            How much the moment matters, 0 to 1. One that matters more than those before it in its
            group gets more, and the rest of the group has what is left. A key frame has its own.

        Raises
        ------
        ValueError
            If there is no frame or the ratio is out of its range.

        """
        grids = grid if isinstance(grid, Mapping) else dict.fromkeys(moment, grid)
        token_budget(len(moment), next(iter(grids.values()), (1, 1)), keep_ratio)
        reason, choices = self._continue(moment, grids, keep_ratio, weight)
        if reason is not None:
            self._begin(reason)
            choices = {}
        group = self._groups[-1]
        group.moments += 1
        for camera, proposal in moment.items():
            cells = math.prod(grids[camera])
            if camera not in choices:
                choices[camera] = self._key(camera, proposal, grids[camera], keep_ratio)
            held = group.cameras[camera]
            held.last = proposal
            held.frames += 1
            held.rho_sum += _rho(weight)
            held.kept += len(choices[camera].keep)
            self._overspent[camera] = self._overspent.get(camera, 0.0) + (
                len(choices[camera].keep) - keep_ratio * cells)
        if self.moments > 2 * self.length:
            # Down to the fewest groups that make up one of full length.
            while self.moments - self._groups[0].moments >= self.length:
                self.evict()
        return {camera: choices[camera] for camera in moment}

    def look(self, moment: Mapping[str, Proposal], grids: Mapping[str, tuple[int, int]],
             keep_ratio: float, weight: float = 0.0) -> dict[str, TokenChoice]:
        """Choose as :meth:`take` would, without keeping the frames."""
        _, choices = self._continue(moment, grids, keep_ratio, weight)
        return {
            camera: choices[camera] if camera in choices else self._key_choice(
                proposal, grids[camera], keep_ratio,
                self._group_budget(camera, grids[camera], keep_ratio))
            for camera, proposal in moment.items()}

    def evict(self) -> bool:
        """Forget the oldest group; return whether there was one beside the newest."""
        if len(self._groups) < 2:
            return False
        del self._groups[0]
        self.counters['evicted'] += 1
        return True

    def _continue(self, moment: Mapping[str, Proposal], grids: Mapping[str, tuple[int, int]],
                  keep_ratio: float, weight: float
                  ) -> tuple[Reason | None, dict[str, TokenChoice]]:
        """Choose the tokens of frames that go on with the newest group, or say why they do not."""
        if not self._groups:
            return 'first', {}
        group, choices = self._groups[-1], dict[str, TokenChoice]()
        known = {camera: proposal for camera, proposal in moment.items()
                 if camera in group.cameras}
        for camera, proposal in known.items():
            last = group.cameras[camera].last
            # A camera whose pictures have another size now shows another scene.
            if last.embedding.shape != proposal.embedding.shape \
                    or similarity(last, proposal) < SCENE_CUT_COSINE:
                return 'scene', {}
        if group.moments >= self.length:
            return 'full', {}
        for camera, proposal in known.items():
            held, grid = group.cameras[camera], grids[camera]
            cells = math.prod(grid)
            left = max(1, self.length - held.frames)
            # Those to come are not known: taken for the mean of this one and those before it.
            rho_now = _rho(weight)
            rho_to_come = (rho_now + held.rho_sum / held.frames) / 2
            parts = 1 + (left - 1) * rho_to_come / rho_now
            budget = min(max(round((held.group_budget - held.kept) / parts),
                             int(_FLOOR * keep_ratio * cells)), cells)
            # All of the key frame comes first, then what is best of the other.
            pair = self._sparsifier.choose(
                (held.key, proposal), grid, cells + budget, previous_key=0)
            if pair.key != 0:
                return 'key', {}
            choices[camera] = TokenChoice(pair.keep[cells:] - np.int32(cells), pair.score[1],
                                     float(pair.frame_scores[1]), False)
        return None, choices

    def _begin(self, reason: Reason) -> None:
        self.counters[reason] += 1
        if reason == 'scene':
            self.counters['evicted'] += len(self._groups)
            self._groups.clear()
        self._groups.append(_Group())

    def _key(self, camera: str, proposal: Proposal, grid: tuple[int, int], keep_ratio: float
             ) -> TokenChoice:
        """Make a frame the key frame of its camera in the newest group."""
        group_budget = self._group_budget(camera, grid, keep_ratio)
        self._groups[-1].cameras[camera] = _CameraGroup(proposal, proposal, group_budget)
        return self._key_choice(proposal, grid, keep_ratio, group_budget)

    def _group_budget(self, camera: str, grid: tuple[int, int], keep_ratio: float) -> float:
        """Return the number of tokens that a new group may keep of a camera."""
        return self.length * keep_ratio * math.prod(grid) - self._overspent.get(camera, 0.0)

    def _key_choice(self, proposal: Proposal, grid: tuple[int, int], keep_ratio: float,
                    group_budget: float) -> TokenChoice:
        cells = math.prod(grid)
        fair = keep_ratio * cells
        # What is left for the frames to come must be worth it.
        budget = min(max(group_budget - (self.length - 1) * _FLOOR * fair, _FLOOR * fair), cells)
        alone = self._sparsifier.choose((proposal,), grid, max(1, round(budget)))
        return TokenChoice(alone.keep, alone.score[0], float(alone.frame_scores[0]), True)


def _rho(weight: float) -> float:
    """Return rho / rho_min of a moment that matters so much; all have the same of the pictures."""
    return 1.0 + GAIN * weight


def joined(choices: Sequence[TokenChoice]) -> Selection:
    """Return what is kept of frames as of one window; the newest key frame is its key frame."""
    begins = np.cumsum([0, *(len(choice.score) for choice in choices)])
    keep = np.concatenate([choice.keep + begin for choice, begin in zip(choices, begins)])
    scores = [choice.score for choice in choices]
    is_even = len({len(score) for score in scores}) == 1
    return Selection(
        key=max(index for index, choice in enumerate(choices) if choice.is_key),
        frame_scores=np.array([choice.saliency for choice in choices], np.float32),
        keep=keep.astype(np.int32),
        score=np.stack(scores) if is_even else np.concatenate(scores))


def similarity(first: Proposal, second: Proposal) -> float:
    """Return the mean cosine of two embedding maps, cell by cell."""
    return float((first.embedding * second.embedding).sum(0).mean())
