# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The guard: a model may only answer about pictures of the kind that it was trained on.

What a network says of other pictures is noise in the form of an answer, and it is as sure of it as
of the truth. A checkpoint that is known to have seen little carries a guard, in ``guard.json``
beside its weights; one of its pictures outside, and the answer is ``unknown``.

The embedded model has seen rendered pictures alone. Its guard wants evidence that pictures are
rendered, the signature of the renderer, instead of the absence of anything that looks unlike
training: statistics of the pictures, tried before, took 487 of 1,133 windows of real drives for
rendered ones. A model trained over recordings has no signature to look for; for it those
statistics are all there is, fitted by the command that trains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import json
import math
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vts_ros.errors import GuardError
from vts_ros.pipeline import signature

FILE = 'guard.json'
_SCHEMA = 1
#: What is said, instead of the words of the model, about pictures that it cannot judge.
UNLIKE_TRAINING = 'The pictures are unlike those that this model was trained on.'
NOTHING_KNOWN = f'Nothing is known of this scene. {UNLIKE_TRAINING}'

#: So clear must the signature be in every picture, in standard deviations of chance: of pictures
#: without it, one in a thousand million passes.
SIGNATURE_LIMIT = 6.0

#: Added to the covariance of standardised features, so that rare directions do not explode.
_SHRINKAGE = 0.01
#: Width and height at which the structure of a picture is measured, and how often that is halved.
_SIZE, _SCALES = (224, 128), 3
#: Places are weak, middling or strong by the mean square of the gradient around them, in grey
#: levels per pixel; those below the first limit are left out, as nothing can be measured there.
_STRENGTHS = (0.25, 4.0, 64.0)
#: Radii over which gradients are compared, in pixels.
_RADII = (1.0, 2.0)
#: A picture with few such places counts as if it had so many more, of this coherence.
_PRIOR, _PRIOR_COHERENCE = 20.0, 0.75

Evidence = NDArray[np.float64]


class Guard(Protocol):
    """Judges windows by what is measured once of each of their pictures."""

    @property
    def known(self) -> str:
        """Return a short description of the known pictures."""

    def evidence(self, rgb: NDArray[np.uint8]) -> Evidence:
        """Return the measurements of a picture uint8 [H, W, 3]: float64 [D]."""

    def distance(self, evidence: Sequence[Evidence]) -> float:
        """Return the distance of a window from the known pictures; up to 1 it is known."""

    def clean(self, rgb: NDArray[np.uint8], evidence: Evidence) -> NDArray[np.uint8]:
        """Return the picture for the networks."""

    def to_dict(self) -> dict[str, Any]:
        """Return the dictionary that :func:`load_guard` reads."""


def holds(guard: Guard, evidence: Sequence[Evidence]) -> bool:
    """Return whether all pictures of a window, one or more, are of the kind that is known."""
    return guard.distance(evidence) <= 1.0


@dataclass(frozen=True)
class SignatureGuard:
    """Knows rendered pictures by their signature; see ``pipeline/signature.py``."""

    known: str = 'pictures of the renderer alone'

    def evidence(self, rgb: NDArray[np.uint8]) -> Evidence:
        """Return the strength of the signature in a picture, float64 [1]."""
        return np.array([signature.strength(rgb)])

    def distance(self, evidence: Sequence[Evidence]) -> float:
        """Return how far the weakest signature of the window falls short; 2 without any."""
        return 2.0 - min(float(strength[0]) for strength in evidence) / SIGNATURE_LIMIT

    def clean(self, rgb: NDArray[np.uint8], evidence: Evidence) -> NDArray[np.uint8]:
        """Remove the signature: it is for the guard, and costs the networks 2 points."""
        return signature.remove(rgb) if evidence[0] >= SIGNATURE_LIMIT else rgb

    def to_dict(self) -> dict[str, Any]:
        """Return the dictionary that :func:`load_guard` reads."""
        return {'kind': 'signature'}


def structure(rgb: NDArray[np.uint8]) -> Evidence:
    """
    Return how far the brightness of a picture changes in one direction, from place to place.

    The mean coherence of the structure tensor (Bigün and Granlund, 1987), 0 where gradients have
    no common direction and 1 where all have the same: at three scales, over two radii, for weak,
    middling and strong gradients by themselves. Large areas of a drawn picture have one colour
    and even grain, those of a camera's are shaded; drawn edges are straight, leaves are not. How
    much of the picture a thing fills matters little, as these are means over like places.

    Parameters
    ----------
    rgb
        uint8 [H, W, 3]; brought to one size first.

    Returns
    -------
    [scales * radii * strengths], each 0 to 1.

    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    image: NDArray[Any] = cv2.resize(
        grey, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    found = []
    for _ in range(_SCALES):
        across, down = (cv2.Scharr(image, cv2.CV_32F, *axis, scale=1 / 32)
                        for axis in ((1, 0), (0, 1)))
        products = across * across, down * down, across * down
        found += [_coherence(*(cv2.GaussianBlur(product, (0, 0), radius) for product in products))
                  for radius in _RADII]
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.concatenate(found)


def _coherence(xx: NDArray[Any], yy: NDArray[Any], xy: NDArray[Any]) -> Evidence:
    """Return the mean coherence of structure tensors for each strength, [strengths]."""
    strength = xx + yy
    coherence = np.sqrt((xx - yy) ** 2 + 4.0 * xy * xy) / (strength + 1e-3)
    kind = sum((strength >= limit).astype(np.intp) for limit in _STRENGTHS)
    kinds = len(_STRENGTHS) + 1
    total, count = (np.bincount(np.ravel(kind), weights, kinds)[1:]
                    for weights in (coherence.ravel(), None))
    mean: Evidence = (total + _PRIOR * _PRIOR_COHERENCE) / (count + _PRIOR)
    return mean


@dataclass(frozen=True)
class FittedGuard:
    """
    Knows pictures like those of a training, by a normal distribution of their structure.

    Attributes
    ----------
    mean
        [D].
    precision
        Inverse of the covariance, [D, D].
    limit
        Mahalanobis distance of the mean of a window beyond which it is outside.

    """

    mean: Evidence
    precision: NDArray[np.float64]
    limit: float
    known: str = 'pictures like those of its training, by their statistics'

    def evidence(self, rgb: NDArray[np.uint8]) -> Evidence:
        """Return the structure of a picture, [D]."""
        return structure(rgb)

    def mahalanobis(self, evidence: ArrayLike) -> float:
        """Return the Mahalanobis distance of a window by the structures of its pictures [T, D]."""
        apart = np.mean(np.asarray(evidence, np.float64), axis=0) - self.mean
        return math.sqrt(max(float(apart @ self.precision @ apart), 0.0))

    def distance(self, evidence: Sequence[Evidence]) -> float:
        """Return the Mahalanobis distance in units of the limit."""
        return self.mahalanobis(evidence) / self.limit

    def clean(self, rgb: NDArray[np.uint8], evidence: Evidence) -> NDArray[np.uint8]:
        """Return the picture as it is."""
        return rgb

    def to_dict(self) -> dict[str, Any]:
        """Return the dictionary that :func:`load_guard` reads."""
        return {'kind': 'fitted', 'mean': _rounded(self.mean),
                'precision': _rounded(self.precision), 'limit': self.limit}

    @classmethod
    def fit(cls, train: NDArray[np.float64], held_out: NDArray[np.float64],
            outside: float) -> FittedGuard:
        """
        Fit to the structures of training windows [N, T, D].

        Parameters
        ----------
        held_out
            Structures of windows of the same kind [M, T, D], not fitted to, that set the limit.
        outside
            Share of them that is left outside.

        Raises
        ------
        GuardError
            If there are fewer training windows than twice the length of a structure.

        """
        windows = train.mean(axis=1)
        needed = 2 * windows.shape[1]
        if len(windows) < needed:
            raise GuardError(f'{len(windows)} windows are too few to say what the model was '
                             f'trained on; {needed} are needed')
        mean, spread = windows.mean(axis=0), windows.std(axis=0) + 1e-9
        covariance = np.cov(((windows - mean) / spread).T) + _SHRINKAGE * np.eye(len(mean))
        free = cls(mean, np.linalg.inv(covariance) / np.outer(spread, spread), 1.0)
        limit = float(np.quantile([free.mahalanobis(window) for window in held_out],
                                  1.0 - outside))
        return replace(free, limit=limit)


def save_guard(guard: Guard, checkpoint: Path) -> Path:
    """Write a guard beside the weights of its model; return the file."""
    path = checkpoint / FILE
    path.write_text(json.dumps({'schema': _SCHEMA, **guard.to_dict()}) + '\n', encoding='utf-8')
    return path


def load_guard(checkpoint: Path, *, is_needed: bool = False) -> Guard | None:
    """
    Read the guard of a checkpoint; None if it has none.

    Parameters
    ----------
    is_needed
        Whether the model must not be used without a guard.

    Raises
    ------
    GuardError
        If the file cannot be read, or is needed and not there.

    """
    path = checkpoint / FILE
    if not path.is_file():
        if is_needed:
            raise GuardError(f'{path} is missing: without it this model would answer about any '
                             'picture; restore the file from the repository')
        return None
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
        if data['schema'] != _SCHEMA:
            raise ValueError(f'schema {data["schema"]}, expected {_SCHEMA}')
        if data['kind'] == 'signature':
            return SignatureGuard()
        if data['kind'] != 'fitted':
            raise ValueError(f'kind {data["kind"]!r}, expected signature or fitted')
        guard = FittedGuard(np.array(data['mean'], np.float64),
                            np.array(data['precision'], np.float64), float(data['limit']))
        if guard.precision.shape != 2 * guard.mean.shape or not guard.limit > 0.0:
            raise ValueError('its sizes do not agree')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GuardError(f'{path} cannot be read: {error}') from error
    return guard


def _rounded(values: NDArray[np.float64]) -> Any:
    """Return nested lists with seven digits, as many as float32 has."""
    return np.vectorize(lambda value: float(f'{value:.7g}'))(values).tolist()
