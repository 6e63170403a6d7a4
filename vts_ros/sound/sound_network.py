# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network that hears, as an engine, with what it remembers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vts_ros.engines import Engine, make_engine
from vts_ros.errors import EngineError, SoundError
from vts_ros.paths import model_path
from vts_ros.sound.log_spectrum import BANDS, STEP_FRAMES
from vts_ros.sound.sound_events import KINDS

#: In order; what is remembered goes in and comes out.
INPUTS = ('level', 'before', 'before_second', 'before_third', 'memory')
OUTPUTS = ('probability', 'after', 'after_second', 'after_third', 'memory_after')
SHIPPED = 'sound/hear.onnx'


class SoundNetwork:
    """
    What is heard in each step, in the order of the steps.

    Parameters
    ----------
    path
        ONNX file as ``vts train sound`` writes it; by default the shipped one.

    Raises
    ------
    SoundError
        If the file is missing, of another network or of one of another form.
    EngineError
        If it cannot be run here.

    """

    def __init__(self, path: Path | None = None) -> None:
        try:
            path = path or model_path(SHIPPED)
        except FileNotFoundError as error:
            raise SoundError(f'{error}; vts train sound makes it') from error
        # One thread: a step takes less than it takes to wake another.
        self._engine: Engine = make_engine('onnxruntime', path, threads=1)
        metadata = getattr(self._engine, 'metadata', {})
        if metadata.get('graph') != 'hear' or metadata.get('kinds') != ','.join(KINDS):
            raise SoundError(f'{path} is no network that hears {", ".join(KINDS)}')
        try:
            # Shapes of what is remembered, by the name of its input.
            self._shapes: dict[str, list[int]] = json.loads(metadata['state'])
            self.begin()
            self.step(np.zeros((STEP_FRAMES, BANDS), np.float32))
        except (EngineError, KeyError, ValueError, TypeError) as error:
            raise SoundError(f'{path} remembers in another form: vts train sound makes it '
                             'anew') from error
        self.begin()

    def begin(self) -> None:
        """Forget what was heard."""
        self._state = {name: np.zeros(self._shapes[name], np.float32) for name in INPUTS[1:]}

    def step(self, level_db: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of KINDS after a step, (STEP_FRAMES, BANDS) in dB."""
        found = self._engine.run({'level': level_db[None], **self._state})
        self._state = {before: found[after] for before, after in zip(
            INPUTS[1:], OUTPUTS[1:], strict=True)}
        probabilities: NDArray[np.float32] = found['probability'][0]
        return probabilities
