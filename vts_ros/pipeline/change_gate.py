# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The gate: has the scene changed since the language model was last asked? At little cost.

It compares the output of the proposal network for the newest frames with that for the frames that
the model was last asked about. Everything that depends on the statistics of that network is
fitted by ``vts eval drives --tune`` and stored beside it; there is no hand-set number here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import hashlib
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vts_ros.errors import GateError
from vts_ros.sparsify import Proposal
from vts_ros.vlm.answers import RISK_LEVELS, RiskLevel

Floats = NDArray[np.float64]

FILE = 'gate.json'
_SCHEMA = 1
#: Features of the gate. The first three are changes of the picture: the rise of the saliency of
#: the most salient place, the largest rise at any place over its earlier surroundings (both as
#: log-odds), and how different the cells are from the nearest earlier ones. Then the seconds since
#: the model was asked, one minus its confidence, and whether it gave each level.
CHANGES = ('peak_rise', 'place_rise', 'novelty')
LEVELS = RISK_LEVELS[:-1]
FEATURES = (*CHANGES, 'age_sec', 'doubt', *LEVELS)
#: How far away still counts as the same place, in shares of the width of the picture: for the
#: rise of saliency, and for likeness.
_NEAR, _ALIKE = 1 / 7, 1 / 14
_SMALLEST = 1e-4

_logger = logging.getLogger(__name__)


class Moment(NamedTuple):
    """
    A moment of the drive, as far as it is cheap to know.

    Attributes
    ----------
    proposals
        Of the newest frame of every camera, by its name.
    is_known
        Whether the guard accepts the pictures of the window; None without a guard.
    doing
        The motion of the car, in the words of ``Vehicle.facts``.
    size
        Height and width of the newest picture; None where nobody looked.

    """

    stamp_ns: int
    proposals: Mapping[str, Proposal]
    is_known: bool | None = None
    doing: tuple[str, ...] = ()
    size: tuple[int, int] | None = None


class Standing(NamedTuple):
    """The last answer: when the model was asked, and what it said."""

    moment: Moment
    level: RiskLevel
    confidence: float | None


def features(standing: Standing, now: Moment) -> dict[str, Floats]:
    """
    Return ``FEATURES`` [F] for every camera, by its name; both moments show the same cameras.

    Doubt is NaN where the confidence is not known.
    """
    age_sec = 1e-9 * (now.stamp_ns - standing.moment.stamp_ns)
    doubt = np.nan if standing.confidence is None else 1.0 - standing.confidence
    said = [float(standing.level == level) for level in LEVELS]
    found = {}
    for camera, proposal in now.proposals.items():
        then = standing.moment.proposals[camera]
        odds, before = _log_odds(proposal), _log_odds(then)
        found[camera] = np.array([
            max(0.0, odds.max() - before.max()),
            max(0.0, float((odds - _dilated(before)).max())),
            _novelty(_array(proposal.embedding), _array(then.embedding)),
            age_sec, doubt, *said])
    return found


def _log_odds(proposal: Proposal) -> Floats:
    saliency = np.clip(_array(proposal.saliency), _SMALLEST, 1.0 - _SMALLEST)
    return np.log(saliency / (1.0 - saliency))


def _array(values: Any) -> Floats:
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values, np.float64)


def _dilated(cells: Floats) -> Floats:
    """Return the largest value near each cell."""
    side = 2 * round(_NEAR * cells.shape[1]) + 1
    return np.asarray(cv2.dilate(cells, np.ones((side, side), np.uint8)), np.float64)


def _novelty(now: NDArray[Any], before: NDArray[Any]) -> float:
    """Return the mean distance, 0 to 2, of cells [C, h, w] to the most alike ones near before."""
    # The channels last, where they are read one after the other.
    now, before = (np.ascontiguousarray(embedding.transpose(1, 2, 0), np.float32)
                   for embedding in (now, before))
    rows, columns = now.shape[:2]
    near = round(_ALIKE * columns)
    wide = np.pad(before, ((near, near), (near, near), (0, 0)), mode='edge')
    shifts = range(2 * near + 1)
    alike = [np.einsum('hwc,hwc->hw', now, wide[top:top + rows, left:left + columns])
             for top in shifts for left in shifts]
    return float(1.0 - np.max(alike, axis=0).mean())


@dataclass(frozen=True)
class ChangeGate:
    """
    Says whether the model is to be asked: how likely it is that asking puts right what stands.

    Attributes
    ----------
    weights
        Of ``FEATURES``, of a logistic regression.
    offset
        Of the same; chosen so that the gate opens above zero.
    typical
        What takes the place of a feature that is not known.
    limits
        Of ``CHANGES``: a larger change is rare while nothing happens, and opens the gate.

    """

    weights: tuple[float, ...]
    offset: float
    typical: tuple[float, ...]
    limits: tuple[float, ...]

    def __post_init__(self) -> None:
        """See that the numbers fit."""
        if not len(self.weights) == len(self.typical) == len(FEATURES) or \
                len(self.limits) != len(CHANGES):
            raise ValueError(f'expected numbers for {", ".join(FEATURES)}')

    def score(self, measured: Floats) -> Floats:
        """Return the score of features [..., F], above zero where the gate opens."""
        known = np.where(np.isnan(measured), self.typical, measured)
        return np.asarray(known @ np.array(self.weights) + self.offset)

    def exceeds(self, measured: Floats) -> NDArray[np.bool_]:
        """Return whether features [..., F] have a change that is rare while nothing happens."""
        return np.asarray((measured[..., :len(CHANGES)] > self.limits).any(-1))

    def why_open(self, standing: Standing, now: Moment) -> str:
        """Return why the model is to be asked, ``''`` where what stands may be confirmed."""
        if standing.moment.proposals.keys() != now.proposals.keys():
            return 'cameras'
        if standing.moment.doing != now.doing:
            return 'car'
        found = np.stack(list(features(standing, now).values()))
        if self.exceeds(found).any():
            return 'unusual'
        return 'change' if (self.score(found) > 0.0).any() else ''

    def save(self, proposal: Path) -> Path:
        """Write the file beside the network that the gate was fitted to; return it."""
        path = proposal.parent / FILE
        numbers = {
            name: dict(zip(CHANGES if name == 'limits' else FEATURES, value))
            if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        path.write_text(json.dumps(
            {'schema': _SCHEMA, 'fitted_to': _fingerprint(proposal), **numbers}, indent=1) + '\n',
            encoding='utf-8')
        return path

    @classmethod
    def load(cls, proposal: Path) -> ChangeGate | None:
        """
        Read the file of a proposal network; None if there is none, or it is of another network.

        Raises
        ------
        GateError
            If the file cannot be read.

        """
        path = proposal.parent / FILE
        if not path.is_file():
            _logger.warning('%s is missing: the model is always asked; run '
                            'vts eval drives --tune', path)
            return None
        try:
            data = json.loads(path.read_text(encoding='utf-8'))
            if data['schema'] != _SCHEMA:
                raise ValueError(f'schema {data["schema"]}, expected {_SCHEMA}')
            weights, typical, limits = (
                tuple(float(data[name][feature]) for feature in names) for name, names in (
                    ('weights', FEATURES), ('typical', FEATURES), ('limits', CHANGES)))
            gate = cls(weights, float(data['offset']), typical, limits)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GateError(f'{path} cannot be read: {error}; run vts eval drives --tune'
                            ) from error
        if data['fitted_to'] != _fingerprint(proposal):
            _logger.warning('%s is of another proposal network: the model is always asked; run '
                            'vts eval drives --tune', path)
            return None
        return gate


def _fingerprint(proposal: Path) -> str:
    """Return a fingerprint of the network."""
    return hashlib.sha256(proposal.read_bytes()).hexdigest()
