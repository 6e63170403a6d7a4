# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Many windows at once: faster than one by one where the language model is small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vts_ros.pipeline.context import PreparedWindow
from vts_ros.pipeline.deadline import Plan
from vts_ros.pipeline.features import StepEntry, Stopwatch
from vts_ros.pipeline.frames import Window
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import SceneReport
from vts_ros.vlm.answers import AFTER_RISK
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.vehicle import Vehicle


class _NoLimit:
    """Gives every window what the settings say."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.most = Plan(pipeline.config.keep_ratio, pipeline.config.max_new_tokens)

    def __call__(self, entries: Sequence[StepEntry], visual_tokens: int) -> Plan:
        return self.most


def describe_batch(pipeline: Pipeline, windows: Sequence[Window],
                   vehicles: Sequence[Vehicle | None] | None = None, *,
                   is_brief: bool = False) -> list[SceneReport]:
    """
    Describe several windows at once; the latencies are those of the whole batch.

    In causal mode one comes after the other. There is no deadline.

    Parameters
    ----------
    is_brief
        Whether answers end after object and risk; not in causal mode.

    """
    cars = vehicles or [None] * len(windows)
    if pipeline.reader.reads_on_arrival:
        return [pipeline.describe(window, None, vehicle)
                for window, vehicle in zip(windows, cars, strict=True)]
    watch = Stopwatch(pipeline.clock)
    prepared = [prepare(pipeline, window, pipeline.description_prompt(window, vehicle), watch)
                for window, vehicle in zip(windows, cars, strict=True)]
    brief: dict[str, Any] = {'stop_strings': [AFTER_RISK], 'tokenizer': pipeline.vlm.tokenizer} \
        if is_brief else {}
    generations, rows = pipeline.generate(prepared, watch, is_report=True, **brief)
    latency_ms = watch.total()
    return [pipeline.report(window, generation, row, latency_ms)
            for window, generation, row in zip(prepared, generations, rows)]


def ask_batch(pipeline: Pipeline, windows: Sequence[Window], questions: Sequence[str]
              ) -> list[str]:
    """
    Put a free question about each of several windows at once; see :func:`describe_batch`.

    A window may come several times in a row: its frames are looked at once, and read with each of
    its questions. Every question is put to the model, whatever the pictures are.
    """
    if pipeline.reader.reads_on_arrival:
        return [pipeline.ask(window, question)
                for window, question in zip(windows, questions, strict=True)]
    watch = Stopwatch(pipeline.clock)
    prepared = [prepare(pipeline, window, pipeline.prompts.ask(question), watch)
                for window, question in zip(windows, questions, strict=True)]
    generations, _ = pipeline.generate(prepared, watch)
    return [generation.text.strip() for generation in generations]


def prepare(pipeline: Pipeline, window: Window, prompt: Prompt, watch: Stopwatch
            ) -> PreparedWindow:
    """Make a prompt about a window, without a deadline."""
    return pipeline.reader.read(window, prompt, _NoLimit(pipeline), watch, share=False)
