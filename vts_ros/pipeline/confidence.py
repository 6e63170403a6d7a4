# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How sure an answer is.

Fitted by ``vts eval calibrate`` and kept beside the weights of a checkpoint, in
``calibration.json``; without that file nothing here runs.

The confidence is the probability that object and risk level of an answer are right: the mean
log-probability of these two facts, as the model wrote them, put on the scale of what came true on
windows of known truth (Platt, 1999).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
import hashlib
import json
import logging
import math
from pathlib import Path
import re
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
import torch
from torch import Tensor
from transformers import LogitsProcessor

from vts_ros.errors import CalibrationError

FILE = 'calibration.json'
_SCHEMA = 3
#: So near to certain, log-probabilities are not told apart.
_CERTAIN = -1e-6
#: Bytes at either end of a file of weights that stand for it.
_PRINT_BYTES = 4 << 20

#: No object, or its label; its camera may stand before, and in some families its box.
_OBJECT = re.compile(r'"object"\s*:\s*(?:\{\s*(?:"\w+"\s*:\s*(?:\[[^\]]*\]|"[^"]*")\s*,\s*)*?)?'
                     r'(null|\{?\s*"label"\s*:\s*(?:null|"[^"]*"))')
_RISK = re.compile(r'"risk"\s*:\s*("[^"]*")')

_logger = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """The part of a tokenizer that is needed here."""

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> Any:
        """Return the text of tokens."""


class Written(Protocol):
    """The part of a generation that is needed here."""

    @property
    def text(self) -> str:
        """Return the text that the model wrote."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Return its tokens."""


class TokenLogProbabilities(LogitsProcessor):
    """
    Records the log-probability of the chosen token at every step of a greedy generation.

    Nothing is kept of the other tokens, and nothing waits for the accelerator before the end.
    """

    def __init__(self) -> None:
        self._steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Record a step; scores [batch, vocabulary] are not changed."""
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
class PlattScaler:
    """
    Maps the log-probability of the facts to the probability that they are right.

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
    def fit(cls, log_probabilities: ArrayLike, right: ArrayLike) -> PlattScaler:
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


@dataclass(frozen=True)
class Calibration:
    """
    Calibration of the confidence of a model.

    Attributes
    ----------
    scale
        Of the confidence.

    """

    scale: PlattScaler

    def confidence(self, written: Written, log_probabilities: NDArray[np.floating],
                   tokenizer: Tokenizer) -> float | None:
        """Return the confidence of an answer; parameters as in :func:`fact_log_probability`."""
        facts = fact_log_probability(written, log_probabilities, tokenizer)
        return None if facts is None else self.scale(facts)

    def save(self, checkpoint: Path, proposal: Path) -> Path:
        """Write the file beside the weights of the models that it was fitted to; return it."""
        path = checkpoint / FILE
        path.write_text(json.dumps({
            'schema': _SCHEMA, 'fitted_to': _fingerprint(checkpoint, proposal),
            'scale': asdict(self.scale)}), encoding='utf-8')
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
            calibration = cls(PlattScaler(**data['scale']))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CalibrationError(f'{path} cannot be read: {error}') from error
        if data['fitted_to'] != _fingerprint(checkpoint, proposal):
            _logger.warning('%s is of other weights: answers get no confidence; '
                            'run vts eval calibrate', path)
            return None
        return calibration


def _fingerprint(checkpoint: Path, proposal: Path) -> str:
    """Return a fingerprint of the weights of both models, without reading gigabytes."""
    digest = hashlib.sha256()
    for path in [*sorted(checkpoint.glob('*.safetensors')), proposal]:
        size = path.stat().st_size
        digest.update(f'{path.name} {size} '.encode())
        with path.open('rb') as file:
            digest.update(file.read(_PRINT_BYTES))
            file.seek(max(0, size - _PRINT_BYTES))
            digest.update(file.read())
    return digest.hexdigest()
