# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The same stream of windows through stock transformers and through every way that this package has.

The cases take turns at every window, so that whatever else the machine does meets all of them
alike, and ratios are those of one window of one run.
"""

from __future__ import annotations

from collections.abc import Sequence
import copy
from dataclasses import replace
import gc
import time
from typing import Any

import torch

from vts_ros.lab.bench.benchmark_drive import drive_frames, INTERVAL_SEC, windows_of
from vts_ros.lab.bench.generation_probe import GenerationProbe, synchronize, tensor_peak
from vts_ros.lab.bench.measured_answers import Case, Measured, measured_here, Sample, summary
from vts_ros.lab.bench.model_shapes import make, SHAPES
from vts_ros.lab.bench.stock_transformers import StockTransformers, StockVideo
from vts_ros.lab.bench.workloads import (
    cases_of,
    DENSE_VIDEO,
    Progress,
    ROOFLINE,
    TOLD_FRAMES,
    Variant,
    VARIANTS,
    Workload,
)
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import EMBEDDED, Pipeline, PipelineConfig
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.answers import render
from vts_ros.vlm.int8_weights import INT8, to_int8
from vts_ros.vlm.packed_weights import pack, packed_size, pays, unpack
from vts_ros.vlm.prompts import Prompts

#: More than any window here has.
KV_TOKENS = 1 << 17
#: Windows before those that count, and the fewest of these.
WARM_UP, LEAST = 2, 2



class PipelineCase:
    """The pipeline of this package, in one of its ways."""

    def __init__(self, pipeline: Pipeline, way: Variant, tape: GenerationProbe) -> None:
        self._pipeline, self._way, self._tape = pipeline, way, tape

    def answer(self, window: Sequence[Frame]) -> Sample:
        """Answer a window; what is not to be remembered is forgotten before."""
        if not self._way.is_cached:
            self._pipeline.clear()
        self._tape.reset()
        start_sec = time.perf_counter()
        report = self._pipeline.describe(window)
        total_ms = 1e3 * (time.perf_counter() - start_sec)
        stages = {name: ms for name, ms in report.latency_ms.items() if name != 'total'}
        whole_ms, risk_ms = report.latency_ms['total'], report.time_to_risk_ms
        return Sample(total_ms, whole_ms - stages['decode'], stages,
                      self._tape.kv_bytes, self._tape.passes, report.answer_tokens,
                      risk_ms if risk_ms is not None and risk_ms < whole_ms else None)


class Bench:
    """
    The models and cases of a workload.

    Parameters
    ----------
    workload
        What is measured.
    has_int8
        Whether the case with weights in eight bits is among the cases. It takes half as much
        memory again, and is one of processors and of models that are told what to say.

    Raises
    ------
    VlmError
        If the model is not of the class that stock transformers are run with here.

    """

    def __init__(self, workload: Workload, has_int8: bool = False) -> None:
        self.workload = workload
        config = PipelineConfig(model=workload.model, device=workload.device,
                                threads=workload.threads,
                                engine_threads=workload.threads)
        is_random = workload.model in SHAPES
        self._writer = Pipeline.load(replace(config, model=EMBEDDED) if is_random else config)
        vlm = self._writer.vlm
        if is_random:
            vlm = make(workload.model, vlm.tokenizer, str(vlm.model.device), workload.seed)
        if not hasattr(vlm.model.model, 'visual'):
            raise VlmError(f'{workload.model} is not of the class Qwen-VL, which is what this '
                           'benchmark knows to run without the pipeline')
        self._is_told = is_random or workload.is_told
        has_int8 &= self._is_told and vlm.model.device.type == 'cpu'
        self.names = cases_of(vlm, self._is_told, INT8 if has_int8 else '')
        # Stock transformers have plain weights, the pipeline those that it loads.
        self.vlm, self._ours = _plain(vlm), {'': _packed(vlm)}
        if has_int8:
            self._ours[INT8] = _rounded(self.vlm)
        self.tape = GenerationProbe(*dict.fromkeys(
            vlm.model for vlm in (self.vlm, *self._ours.values())))

    def cases(self, names: Sequence[str]) -> dict[str, Case]:
        """Return new cases, which remember nothing."""
        found: dict[str, Case] = {}
        for name in names:
            if name in VARIANTS:
                found[name] = self.way(VARIANTS[name])
                continue
            stock = StockVideo if name == DENSE_VIDEO else StockTransformers
            found[name] = stock(self.vlm, self.prompts.description, self.tape, self._longest,
                                with_pictures=name != ROOFLINE)
        return found

    @property
    def prompts(self) -> Prompts:
        """Return what is asked."""
        return self._writer.prompts

    @property
    def _longest(self) -> int:
        """Return the longest answer in tokens."""
        return self.workload.answer_tokens if self._is_told else \
            self._writer.config.max_new_tokens

    def way(self, way: Variant) -> PipelineCase:
        """Return a way through the pipeline that remembers nothing yet."""
        settings = replace(
            self._writer.config, keep_ratio=way.keep_ratio, mode=way.mode, draft=way.draft,
            max_new_tokens=self._longest, group_frames=self.workload.frames, kv_tokens=KV_TOKENS,
            frames_as=way.frames_as, instructions=way.instructions)
        vlm = self._ours[way.quantization]
        if way.frames_as == 'video':
            vlm = vlm.reading('video', INTERVAL_SEC)
        prompts = self.prompts.with_instructions_first() \
            if way.instructions == 'first' else self.prompts
        return PipelineCase(Pipeline(self._writer.sparsifier, vlm, prompts, settings), way,
                            self.tape)

    def scripts(self, windows: Sequence[Sequence[Frame]], progress: Progress
                ) -> list[list[int]]:
        """Return what the model is held to say, nothing where it says what it likes."""
        if not self._is_told:
            return [[] for _ in windows]
        self.tape.script = ()
        tokenizer, scripts = self.vlm.tokenizer, []
        for index, window in enumerate(windows):
            progress(index / len(windows), 'answers of the embedded model')
            seen = [frame for frame in window if frame.camera == window[0].camera][-TOLD_FRAMES:]
            text = render(self._writer.describe(seen).answer)
            ids = tokenizer(text, add_special_tokens=False)['input_ids']
            scripts.append([*ids, tokenizer.eos_token_id][:self.workload.answer_tokens])
        return scripts

    def run(self, progress: Progress = lambda *_: None,
            names: Sequence[str] = ()) -> dict[str, Measured]:
        """Return the answers of every case, or of some, and the memory that it took."""
        names = names or (*self.names, ROOFLINE)
        work = self.workload
        before = max(work.longest - work.frames, 0)
        instants = drive_frames(before + work.frames + work.windows + WARM_UP - 1,
                                work.picture_size, work.seed, work.cameras)
        windows = windows_of(instants[before:], work.frames)
        scripts = self.scripts(windows, progress)
        cases, found = self.cases(names), {name: Measured() for name in names}
        for index, (name, case) in enumerate(cases.items()):
            progress(index / len(cases), f'memory and warm-up, {name}')
            found[name].peak_bytes = self._peak(name, case, windows, scripts)
        begin_sec, timed = time.perf_counter(), list(zip(windows, scripts))[WARM_UP:]
        for index, (window, script) in enumerate(timed):
            used = (time.perf_counter() - begin_sec) / work.budget_sec
            # Whether another round fits, by what those before took.
            if index >= LEAST and used * (index + 1) > index:
                break
            for name, case in cases.items():
                progress(max(used, index / len(timed)), f'window {index + 1}, {name}')
                self.tape.script = script
                found[name].samples.append(case.answer(window))
        return found

    def _peak(self, name: str, case: Case, windows: Sequence[Sequence[Frame]],
              scripts: Sequence[Sequence[int]]) -> int:
        """Return the most bytes above the weights in the windows of the warm-up."""
        # What keeps nothing is the same at the second window. The end of an answer adds little to
        # the peak, but is a draft for the next.
        remembers = name in VARIANTS and VARIANTS[name].is_cached
        drafts = name in VARIANTS and VARIANTS[name].draft
        synchronize(self.vlm.model.device)
        with tensor_peak(self.vlm.model.device) as peak:
            for window, script in list(zip(windows, scripts))[:WARM_UP if remembers else 1]:
                # An end token ends what the model is told to say.
                short = [*script[:8], self.vlm.tokenizer.eos_token_id] if script else ()
                self.tape.script = script if drafts else short
                case.answer(window)
        return peak()

    def close(self) -> None:
        """Leave the model as it was."""
        self.tape.close()


def _plain(vlm: Vlm) -> Vlm:
    """Return a model with weights as transformers load them: itself, if its own are so."""
    if packed_size(vlm.model) == (0, 0):
        return vlm
    network = copy.deepcopy(vlm.model)
    unpack(network)
    return vlm.with_network(network)


def _packed(vlm: Vlm) -> Vlm:
    """Return a model with weights as the pipeline loads them: itself, if its own are so."""
    if not any(pays(layer, vlm.model.device.type) for layer in vlm.model.modules()):
        return vlm
    network = copy.deepcopy(vlm.model)
    pack(network)
    return vlm.with_network(network)


def _rounded(vlm: Vlm) -> Vlm:
    """Return a model with the weights of its language model in eight bits."""
    network = copy.deepcopy(vlm.model)
    to_int8(network)
    pack(network)
    return vlm.with_network(network)


def suite(workloads: Sequence[Workload], progress: Progress = lambda *_: None) -> dict[str, Any]:
    """
    Run workloads one after the other; those of one model in a row load it once.

    Returns
    -------
    The object of the first, with those of the others in ``more``.

    """
    results: list[dict[str, Any]] = []
    bench: Bench | None = None
    try:
        for index, workload in enumerate(workloads):
            def tell(share: float, what: str, index: int = index, workload: Workload = workload
                     ) -> None:
                progress((index + share) / len(workloads),
                         f'{workload.model}, {workload.frames} frames: {what}')

            tell(0.0, 'loading')
            if bench is None or bench.workload.model != workload.model:
                # The old model is gone before there is a new one.
                if bench is not None:
                    bench.close()
                    bench = None
                _collect()
                bench = Bench(workload, has_int8=True)
            bench.workload = workload
            results.append({**measured_here(str(bench.vlm.model.device)),
                            **summary(workload, bench.run(tell))})
    finally:
        if bench is not None:
            bench.close()
    return {**results[0], 'more': results[1:]}


def _collect() -> None:
    """Have the memory back of what is not used any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
