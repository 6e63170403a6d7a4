# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a lower precision of the proposal network costs: other keep lists, other answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import itertools
from typing import Any, NamedTuple

import numpy as np

from vts_ros.engines import EngineError, EngineOptions, Precision
from vts_ros.engines.engine_cache import EngineCache
from vts_ros.lab.evaluation.scene_evaluation import evaluate, frames_of
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.compiled_steps import make_engines

#: Windows on which keep lists are compared.
COMPARED_WINDOWS = 20


class Change(NamedTuple):
    """
    How another precision chooses, compared with FP32 on the same windows.

    Attributes
    ----------
    windows
        Number of windows.
    same_tokens
        Mean share of the kept tokens that FP32 keeps as well.
    same_keys
        Windows with the same key frame.

    """

    windows: int
    same_tokens: float
    same_keys: int


def rendered_windows() -> Iterator[list[Frame]]:
    """Yield windows of rendered drives that no training has seen."""
    for scene in balanced_scenes('val', COMPARED_WINDOWS):
        yield frames_of(render(scene, 848, 480), f'scene {scene.seed}')


def compare(precision: Precision, cache: EngineCache, windows: Iterable[list[Frame]],
            grid: tuple[int, int], keep_ratio: float = 0.6) -> Change:
    """
    Compare the keep lists of a precision with those of FP32, both in ONNX Runtime on the CPU.

    Parameters
    ----------
    windows
        At most ``COMPARED_WINDOWS`` of them are looked at.

    Raises
    ------
    EngineError
        If INT8 has not been calibrated, or there is no window.

    """
    whole, other = (
        Sparsifier(engines.frame, engines.window)
        for engines in (make_engines('onnxruntime', EngineOptions(precision=kind,
                                                                  cache=cache.directory))
                        for kind in ('fp32', precision)))
    same_tokens, same_keys = [], 0
    for window in itertools.islice(windows, COMPARED_WINDOWS):
        pictures = [frame.rgb() for frame in window]
        expected, found = (
            engines.select([engines.propose(picture) for picture in pictures], grid, keep_ratio)
            for engines in (whole, other))
        same_tokens.append(np.isin(found.keep, expected.keep).mean())
        same_keys += found.key == expected.key
    if not same_tokens:
        raise EngineError('there is no full window to compare keep lists on')
    return Change(len(same_tokens), float(np.mean(same_tokens)), same_keys)


def quality(precision: Precision, model: str, count: int, cache: EngineCache
            ) -> dict[str, dict[str, Any]]:
    """Return the metrics of the answers at 60 % of the tokens, of FP32 and of the precision."""
    pipeline = Pipeline.load(PipelineConfig(model=model, engine_backend='onnxruntime'))
    engines = make_engines('onnxruntime', EngineOptions(
        precision=precision, cache=cache.directory))
    other = Pipeline(Sparsifier(engines.frame, engines.window), pipeline.vlm, pipeline.prompts,
                     pipeline.config)
    return {name: evaluate(evaluated, 'val', count, (0.6,))['vts']['0.6']
            for name, evaluated in (('fp32', pipeline), (precision, other))}
