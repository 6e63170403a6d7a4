# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The shipped graphs and the engines that run them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import re
from typing import NamedTuple

import numpy as np

from vts_ros.engines import choose, Engine, EngineError, EngineOptions, make_engine, Module
from vts_ros.paths import model_path
from vts_ros.sparsify.proposal_network import FRAME_INPUTS, FRAME_OUTPUTS, load_net
from vts_ros.sparsify.window_step import WINDOW_INPUTS, WINDOW_OUTPUTS, WindowStep

FRAME = 'proposal/frame.onnx'
#: The window step sorts on a CPU and counts where a compiler wants it, see ``WindowStep``.
WINDOW, WINDOW_BY_COUNTING = 'proposal/window.onnx', 'proposal/window_by_counting.onnx'
#: Height and width of the picture that an engine is tried with.
USUAL_SIZE = (480, 848)


_FRAME_MODULE = Module(load_net, FRAME_INPUTS, FRAME_OUTPUTS)
_WINDOW_MODULE = Module(lambda path: WindowStep(), WINDOW_INPUTS, WINDOW_OUTPUTS)


class Engines(NamedTuple):
    """
    What runs the two steps.

    Attributes
    ----------
    frame, window
        Engines of the proposal network and of the window step.
    why
        Why these were chosen.

    """

    frame: Engine
    window: Engine
    why: str


def picture_size(text: str) -> tuple[int, int]:
    """
    Return height and width of a text such as `848x480`, the usual ones of an empty text.

    Raises
    ------
    EngineError
        If it is no size; one line.

    """
    if not text:
        return USUAL_SIZE
    if not re.fullmatch(r'[1-9]\d{1,3}x[1-9]\d{1,3}', text):
        raise EngineError(f'{text!r} is no size of a picture, expected one such as 848x480')
    width, height = map(int, text.split('x'))
    return height, width


def window_graph(backend: str) -> Path:
    """Return the file of the window step for a backend."""
    return model_path(WINDOW_BY_COUNTING if 'tensorrt' in backend else WINDOW)


def make_engines(backend: str = 'onnxruntime', options: EngineOptions | None = None,
                 proposal: Path | None = None) -> Engines:
    """
    Make the engines of the two steps.

    Parameters
    ----------
    backend
        See :func:`make_engine`; with ``auto`` the network also has to look at a picture.
    options
        How they run.
    proposal
        Graph of the proposal network; the shipped one if not given.

    Raises
    ------
    EngineError, FileNotFoundError
        If the backend does not work or the graphs are not there; one line.

    """
    options = options or EngineOptions()

    def make(name: str) -> tuple[Engine, Engine]:
        frame = make_engine(name, proposal or model_path(FRAME),
                            options=replace(options, module=_FRAME_MODULE))
        if backend == 'auto':
            frame.run({'frame': np.zeros((1, *USUAL_SIZE, 3), np.uint8)})
        return frame, make_engine(name, window_graph(name),
                                  options=replace(options, module=_WINDOW_MODULE))

    (frame, window), why = choose(backend, make)
    return Engines(frame, window, why)
