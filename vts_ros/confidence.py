# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How sure an answer is, and whether its pictures are of the kind that the model was trained on.

Both are fitted by ``vts eval calibrate`` and lie beside the weights of a checkpoint, in
``calibration.json``. Without that file nothing here runs.

The confidence is the probability that object and risk level of an answer are right: the mean
log-probability of these two facts, as the model wrote them, put on the scale of what came true on
windows of known truth (Platt, 1999). The other check takes the Mahalanobis distance of a window
to windows of training, in statistics of its pictures that no network computes: whatever a trained
network was never shown, it need not tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
import hashlib
import json
import logging
import math
from pathlib import Path
import re
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
import torch
from torch import Tensor
from transformers import LogitsProcessor

from vts_ros.report import Answer, SceneReport

FILE = 'calibration.json'
_SCHEMA = 2
#: What is said, instead of the words of the model, about pictures that it cannot judge.
UNLIKE_TRAINING = 'The pictures are unlike those that this model was trained on.'
NOTHING_KNOWN = f'Nothing is known of this scene. {UNLIKE_TRAINING}'
#: So near to certain, log-probabilities are not told apart.
_CERTAIN = -1e-6
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
#: Bytes at either end of a file of weights that stand for it.
_PRINT_BYTES = 4 << 20

_OBJECT = re.compile(r'"object"\s*:\s*(null|\{\s*"label"\s*:\s*(?:null|"[^"]*"))')
_RISK = re.compile(r'"risk"\s*:\s*("[^"]*")')

_logger = logging.getLogger(__name__)


class CalibrationError(ValueError):
    """A calibration that cannot be used or made; the message says why in one line."""


class Tokenizer(Protocol):
    """What is needed of a tokenizer."""

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> Any:
        """Return the text of tokens."""


class Written(Protocol):
    """What is needed of a generation."""

    @property
    def text(self) -> str:
        """Return what the model wrote."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Return its tokens."""


class Certainty(LogitsProcessor):
    """
    Notes, at every step of a greedy generation, the log-probability of the token it takes.

    Nothing is kept of the other tokens, and nothing waits for the accelerator before the end.
    """

    def __init__(self) -> None:
        self._steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Note the step; scores [batch, vocabulary] stay as they are."""
        wide = scores.float()
        self._steps.append(wide.amax(dim=-1) - wide.logsumexp(dim=-1))
        return scores

    def rows(self) -> NDArray[np.float32]:
        """Return the log-probabilities, float32 [batch, steps]."""
        return torch.stack(self._steps, dim=1).cpu().numpy()


def fact_log_probability(written: Written, log_probabilities: NDArray[np.floating],
                         tokenizer: Tokenizer) -> float | None:
    """
    Return the mean log-probability of the two facts of an answer, object and risk level.

    The log-probability of a fact is the sum over the tokens that hold any of its characters. A
    long label is so no surer than a short one.

    Parameters
    ----------
    written
        An answer in the form of ``vts_ros.vlm.answers``.
    log_probabilities
        Of its tokens, [steps]; what comes after them does not count.
    tokenizer
        Of the model.

    Returns
    -------
    At most 0; None if the answer is not in the form.

    """
    found = [pattern.search(written.text) for pattern in (_OBJECT, _RISK)]
    spans = [match.span(1) for match in found if match is not None]
    if len(spans) < len(found):
        return None
    facts = np.zeros(len(spans))
    start = 0
    for index in range(len(written.token_ids)):
        # Decoded from the first token on: pieces of their own may lose a space or half a letter.
        end = len(tokenizer.decode(list(written.token_ids[:index + 1]),
                                   skip_special_tokens=True))
        for fact, (first, last) in enumerate(spans):
            if start < last and end > first:
                facts[fact] += log_probabilities[index]
        if start >= max(last for _, last in spans):
            break
        start = end
    return float(facts.mean())


@dataclass(frozen=True)
class Scale:
    """
    From the log-probability of the facts to the probability that they are right.

    A logistic function of the log-odds; a slope of 1 and an offset of 0 leave the probability of
    the model as it is.
    """

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, log_probability: float) -> float:
        """Return the probability."""
        odds = self.slope * float(_log_odds(np.array(log_probability))) + self.offset
        return 1.0 / (1.0 + math.exp(-odds))

    @classmethod
    def fit(cls, log_probabilities: ArrayLike, right: ArrayLike) -> Scale:
        """
        Fit to answers of which it is known whether they are right.

        Newton's method on the likelihood with the targets of Platt (1999), which keep the
        parameters finite where all answers, or all above some certainty, are right. Where surer
        answers are not more often right, the slope is 0 and all get the share that is right.

        Raises
        ------
        CalibrationError
            If there are no answers.

        """
        truth = np.asarray(right, bool)
        if not len(truth):
            raise CalibrationError('no answers to fit a confidence to')
        good, bad = int(truth.sum()), int((~truth).sum())
        target = np.where(truth, (good + 1) / (good + 2), 1 / (bad + 2))
        rate = (good + 1) / (good + bad + 2)
        flat = cls(0.0, math.log(rate / (1.0 - rate)))
        odds = _log_odds(np.asarray(log_probabilities, np.float64))
        design = np.stack([odds, np.ones_like(odds)], axis=1)
        weights = np.array([0.0, flat.offset])
        for _ in range(100):
            probability = 1.0 / (1.0 + np.exp(-design @ weights))
            slope = design.T @ (target - probability)
            curvature = (design * (probability * (1 - probability))[:, None]).T @ design
            step = np.linalg.solve(curvature + 1e-9 * np.eye(2), slope)
            # Far from the optimum a full step may overshoot.
            weights = weights + step / max(1.0, float(np.abs(step).max()))
            if np.abs(step).max() < 1e-9:
                break
        return cls(float(weights[0]), float(weights[1])) if weights[0] > 0.0 else flat


def _log_odds(log_probability: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.minimum(log_probability, _CERTAIN)
    odds: NDArray[np.float64] = bounded - np.log(-np.expm1(bounded))
    return odds


def structure(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
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
        found += [_coherence(*(cv2.GaussianBlur(one, (0, 0), radius) for one in products))
                  for radius in _RADII]
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.concatenate(found)


def _coherence(xx: NDArray[Any], yy: NDArray[Any], xy: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean coherence of structure tensors for each strength, [strengths]."""
    strength = xx + yy
    coherence = np.sqrt((xx - yy) ** 2 + 4.0 * xy * xy) / (strength + 1e-3)
    kind = sum((strength >= limit).astype(np.intp) for limit in _STRENGTHS)
    kinds = len(_STRENGTHS) + 1
    total, count = (np.bincount(np.ravel(kind), weights, kinds)[1:]
                    for weights in (coherence.ravel(), None))
    mean: NDArray[np.float64] = (total + _PRIOR * _PRIOR_COHERENCE) / (count + _PRIOR)
    return mean


@dataclass(frozen=True)
class World:
    """
    The windows that a model was trained on, as a normal distribution of their structure.

    Attributes
    ----------
    mean
        [D].
    precision
        Inverse of the covariance, [D, D].
    limit
        Mahalanobis distance beyond which a window is outside.

    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    limit: float

    def distance(self, structures: ArrayLike) -> float:
        """Return the Mahalanobis distance of a window by the structures of its pictures [T, D]."""
        apart = np.mean(np.asarray(structures, np.float64), axis=0) - self.mean
        return math.sqrt(max(float(apart @ self.precision @ apart), 0.0))

    def holds(self, structures: ArrayLike) -> bool:
        """Return whether a window is inside."""
        return self.distance(structures) <= self.limit

    @classmethod
    def fit(cls, train: NDArray[np.float64], held_out: NDArray[np.float64],
            outside: float) -> World:
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
        CalibrationError
            If there are fewer training windows than twice the length of a structure.

        """
        windows = train.mean(axis=1)
        needed = 2 * windows.shape[1]
        if len(windows) < needed:
            raise CalibrationError(f'{len(windows)} windows are too few for what the model was '
                                   f'trained on; {needed} are needed')
        mean, spread = windows.mean(axis=0), windows.std(axis=0) + 1e-9
        covariance = np.cov(((windows - mean) / spread).T) + _SHRINKAGE * np.eye(len(mean))
        free = cls(mean, np.linalg.inv(covariance) / np.outer(spread, spread), math.inf)
        limit = float(np.quantile([free.distance(one) for one in held_out], 1.0 - outside))
        return replace(free, limit=limit)


@dataclass(frozen=True)
class Calibration:
    """
    What is known about when a model can be trusted.

    Attributes
    ----------
    scale
        Of the confidence.
    world
        What the model was trained on; None where that is not checked.

    """

    scale: Scale
    world: World | None = None

    def judge(self, reports: Sequence[SceneReport], windows: Sequence[ArrayLike | None],
              written: Sequence[Written], certainty: Certainty,
              tokenizer: Tokenizer) -> list[SceneReport]:
        """
        Return the reports with their confidence; reject answers that are about another world.

        Parameters
        ----------
        reports, windows, written
            The reports, the structures of their pictures [T, D] (None without a world), and what
            the model wrote.
        certainty
            That has seen the generation of all of them.
        tokenizer
            Of the model.

        """
        rows = certainty.rows()
        return [self._judge(report, window, said, row, tokenizer) for report, window, said, row
                in zip(reports, windows, written, rows, strict=True)]

    def _judge(self, report: SceneReport, structures: ArrayLike | None, written: Written,
               row: NDArray[np.float32], tokenizer: Tokenizer) -> SceneReport:
        inside = self.knows(structures)
        if inside is False:
            return replace(
                report, in_distribution=False, rejected_output=written.text,
                answer=Answer(description=NOTHING_KNOWN, explanation=UNLIKE_TRAINING))
        report = replace(report, in_distribution=inside)
        facts = fact_log_probability(written, row, tokenizer)
        # How sure the model is that nothing is known says nothing of the road.
        if facts is None or report.answer.risk == 'unknown':
            return report
        return replace(report, confidence=self.scale(facts))

    def knows(self, structures: ArrayLike | None) -> bool | None:
        """Return whether the pictures of a window are of the known kind; None if not checked."""
        if self.world is None or structures is None:
            return None
        return self.world.holds(structures)

    def save(self, checkpoint: Path, proposal: Path) -> Path:
        """Write the file beside the weights of the models that it was fitted to; return it."""
        path = checkpoint / FILE
        world = None if self.world is None else {
            'mean': _rounded(self.world.mean), 'precision': _rounded(self.world.precision),
            'limit': self.world.limit}
        path.write_text(json.dumps({
            'schema': _SCHEMA, 'fitted_to': _fingerprint(checkpoint, proposal),
            'scale': asdict(self.scale), 'world': world}), encoding='utf-8')
        return path

    @classmethod
    def load(cls, checkpoint: Path, proposal: Path) -> Calibration | None:
        """
        Read the file of a checkpoint; None if there is none, or it is older or of other weights.

        Raises
        ------
        CalibrationError
            If the file cannot be read.

        """
        path = checkpoint / FILE
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text(encoding='utf-8'))
            if data['schema'] < _SCHEMA:
                _logger.warning('%s is of an older version: answers get no confidence; '
                                'run vts eval calibrate', path)
                return None
            if data['schema'] != _SCHEMA:
                raise ValueError(f'schema {data["schema"]}, expected {_SCHEMA}')
            world = data['world']
            calibration = cls(Scale(**data['scale']), None if world is None else World(
                np.array(world['mean'], np.float64), np.array(world['precision'], np.float64),
                float(world['limit'])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CalibrationError(f'{path} cannot be read: {error}') from error
        if data['fitted_to'] != _fingerprint(checkpoint, proposal):
            _logger.warning('%s is of other weights: answers get no confidence; '
                            'run vts eval calibrate', path)
            return None
        return calibration


def _rounded(values: NDArray[np.float64]) -> Any:
    """Return nested lists with seven digits, as many as float32 has."""
    return np.vectorize(lambda value: float(f'{value:.7g}'))(values).tolist()


def _fingerprint(checkpoint: Path, proposal: Path) -> str:
    """Return what changes with the weights of either model, without reading gigabytes."""
    digest = hashlib.sha256()
    for path in [*sorted(checkpoint.glob('*.safetensors')), proposal]:
        size = path.stat().st_size
        digest.update(f'{path.name} {size} '.encode())
        with path.open('rb') as file:
            digest.update(file.read(_PRINT_BYTES))
            file.seek(max(0, size - _PRINT_BYTES))
            digest.update(file.read())
    return digest.hexdigest()
