# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make a pipeline from its settings: engines, language model, the way of reading, all checks."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import torch

from vts_ros.engines import EngineOptions
from vts_ros.errors import VlmError
from vts_ros.paths import checkpoint, model_path
from vts_ros.pipeline.appended_reader import AppendedReader
from vts_ros.pipeline.causal_context import CausalContext
from vts_ros.pipeline.change_gate import ChangeGate
from vts_ros.pipeline.confidence import Calibration
from vts_ros.pipeline.config import (
    EMBEDDED,
    FRAMES_AS,
    INSTRUCTIONS,
    MODES,
    PipelineConfig,
    SERVER_PRUNING,
    SPEAK,
    VLM_BACKENDS,
)
from vts_ros.pipeline.context import CausalReader, ContextReader, WindowReader
from vts_ros.pipeline.features import FrameCache
from vts_ros.pipeline.guard import FILE as GUARD
from vts_ros.pipeline.guard import load_guard
from vts_ros.pipeline.pipeline import check_language, Pipeline
from vts_ros.pipeline.speaking import Speaking
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.compiled_steps import FRAME, make_engines
from vts_ros.sparsify.frame_groups import FrameGroups, GROUP_HYSTERESIS_FACTOR
from vts_ros.vlm import LanguageModel, Vlm
from vts_ros.vlm.adapters import is_adapter
from vts_ros.vlm.answers import schema
from vts_ros.vlm.compatibility import check_instructions_first
from vts_ros.vlm.conventions import TRAINED_HERE
from vts_ros.vlm.int8_weights import INT8
from vts_ros.vlm.packed_weights import pack
from vts_ros.vlm.prefix_reader import PrefixReader, why_not_streamed
from vts_ros.vlm.prompts import Prompts
from vts_ros.vlm.structured_output import check_structured
from vts_ros.vlm.tasks import load_task, prompt_file
from vts_ros.vlm.taught_questions import FILE as QUESTIONS
from vts_ros.vlm.taught_questions import TaughtQuestions
from vts_ros.vlm.video_steps import VideoStep

#: Models of fewer parameters gain nothing from a second core: their layers are too small, and the
#: threads wait for each other.
SMALL_MODEL = 100_000_000

LOG = logging.getLogger(__name__)


def load_pipeline(config: PipelineConfig) -> Pipeline:
    """
    Load the prompts, the proposal network and the language model.

    Raises
    ------
    CalibrationError, EngineError, GateError, GuardError, PromptError, TaskError, VlmError
        With one line that says what is missing or does not fit.

    """
    _check_mode(config)
    # What is wrong with it is told before anything large is loaded.
    task = load_task(config.task)
    Prompts.load(config.language, prompt_file(config.task, config.prompts))
    # A server may not be there yet, and then it is asked again and again.
    served = _language_model(config) if config.vlm_backend == 'openai' else None
    engines = make_engines(config.engine_backend,
                           EngineOptions(config.engine_threads, config.engine_precision),
                           task.proposal)
    sparsifier = Sparsifier(engines.frame, engines.window)
    language_model = served or _language_model(config)
    is_first = config.instructions == 'first'
    if is_first and language_model.convention == TRAINED_HERE:
        raise VlmError(f'{language_model.name} was trained with instructions after the pictures, '
                       'and says nothing of use otherwise: set vlm.instructions to after')
    if config.mode == 'causal' and language_model.convention.numbers_cameras:
        raise VlmError(f'{config.adapter} has learned several cameras in windows only: set '
                       'sparsify.mode to window')
    prompts = Prompts.load(config.language, prompt_file(config.task, config.prompts),
                           language_model.convention, is_first=is_first)
    if config.structured:
        language_model.set_schema(schema(prompts.description.box, of_task=task.form))
    calibration = guard = taught = None
    folder = getattr(language_model, 'folder', None)
    if folder is not None:
        # The files of a checkpoint that a server has are here, too.
        guard, taught = load_guard(folder), TaughtQuestions.load(folder)
        check_language(config.language, taught, language_model.name)
    if isinstance(language_model, Vlm):
        _set_threads(config.threads, language_model)
        # What was measured of a checkpoint, or taught to it, does not hold with an adapter, which
        # may have a guard of its own.
        if config.adapter:
            guard = load_guard(Path(checkpoint(config.adapter)))
        else:
            folder = Path(checkpoint(config.model))
            # It was measured in driving.
            if not is_first and task.is_driving:
                calibration = Calibration.load(folder, model_path(FRAME))
            guard = load_guard(folder, is_needed=config.model == EMBEDDED)
            taught = TaughtQuestions.load(folder)
        check_language(config.language, taught, language_model.name)
        if is_first:
            _check_places(language_model, prompts)
        if config.frames_as == 'video':
            # Its chat template may not know videos.
            language_model.texts([VideoStep(0.0)], prompts.description)
    # Adapters are not whole, and of other servers there is no folder here.
    if language_model.convention == TRAINED_HERE and folder and not is_adapter(folder):
        _tell_missing(language_model.name, {GUARD: guard, QUESTIONS: taught})
    pipeline = Pipeline(sparsifier, language_model, prompts, config, calibration, guard, taught)
    pipeline.engine_choice = engines.why
    if config.speak != 'always':
        pipeline.speaking = Speaking(config.speak_every_sec, ChangeGate.load(
            task.proposal or model_path(FRAME)), is_brief=config.speak == 'risk',
            of_task=task.form)
    return pipeline


def make_reader(config: PipelineConfig, cache: FrameCache, sparsifier: Sparsifier,
                language_model: LanguageModel, prompts: Prompts) -> ContextReader:
    """
    Return the way of reading that the settings name.

    Raises
    ------
    VlmError
        If it is not possible with the language model.

    """
    compares = sparsifier.variant(hysteresis=GROUP_HYSTERESIS_FACTOR * sparsifier.hysteresis)
    vlm = language_model if isinstance(language_model, Vlm) else None
    if config.mode == 'window':
        return WindowReader(cache, sparsifier, language_model,
                            None if vlm is None else PrefixReader(vlm))
    if vlm is None or vlm.reads_together:
        return AppendedReader(cache, FrameGroups(compares, config.group_frames), language_model,
                              config.kv_tokens)
    prefix_reader = PrefixReader(vlm)
    why_not = why_not_streamed(vlm, prompts.description)
    if why_not is not None:
        raise VlmError(f'{vlm.name} cannot be used in causal mode: {why_not}')
    # A group is made of steps.
    moments = math.ceil(config.group_frames / vlm.step_frames)
    context = CausalContext(vlm, prefix_reader,
                            FrameGroups(compares, moments), config.kv_tokens)
    return CausalReader(cache, context, prefix_reader)


def _set_threads(threads: int, vlm: Vlm) -> None:
    """Choose the threads of PyTorch on the CPU: a core is left to the rest of the car."""
    if threads:
        torch.set_num_threads(threads)
    elif vlm.model.device.type == 'cpu' and 'OMP_NUM_THREADS' not in os.environ:
        cores = len(os.sched_getaffinity(0))
        is_small = vlm.model.num_parameters() < SMALL_MODEL
        torch.set_num_threads(1 if is_small else max(1, cores - 1))


def _check_mode(config: PipelineConfig) -> None:
    """See that the mode is possible, before anything large is loaded."""
    if config.mode not in MODES:
        raise VlmError(f'no mode {config.mode!r}, there are: {", ".join(MODES)}')
    if config.speak not in SPEAK:
        raise VlmError(f'speak cannot be {config.speak!r}, there are: {", ".join(SPEAK)}')
    if config.frames_as not in FRAMES_AS:
        raise VlmError(f'frames cannot be {config.frames_as!r}, there are: '
                       f'{", ".join(FRAMES_AS)}')
    if config.instructions not in INSTRUCTIONS:
        raise VlmError(f'instructions cannot be {config.instructions!r}, there are: '
                       f'{", ".join(INSTRUCTIONS)}')
    if config.server_pruning not in SERVER_PRUNING:
        raise VlmError(f'server_pruning cannot be {config.server_pruning!r}, there are: '
                       f'{", ".join(SERVER_PRUNING)}')
    if config.vlm_backend == 'openai' and config.frames_as == 'video':
        if config.server_pruning != 'exact':
            raise VlmError('a server that drops no tokens is sent pictures: set vlm.frames_as to '
                           'images, or vlm.server_pruning to exact')
        if config.mode != 'window':
            raise VlmError('a server reads a video that has grown from its beginning: set '
                           'vlm.frames_as to images, or sparsify.mode to window')
    if config.vlm_backend == 'openai' and config.adapter:
        raise VlmError('a server merges adapters itself: set vlm.model to the name that the '
                       'adapter has there, and vlm.adapter to nothing')


def _check_places(vlm: Vlm, prompts: Prompts) -> None:
    """See that the chat template can place a text before the pictures."""
    check_instructions_first(vlm.model.config.model_type)
    caption: Any = VideoStep(0.0) if vlm.frames_as == 'video' else '0.0s'
    if prompts.description.before not in vlm.texts([caption], prompts.description)[0]:
        raise VlmError(f'the chat template of {vlm.name} places all pictures before the texts: '
                       'set vlm.instructions to after')


def _tell_missing(name: str, parts: Mapping[str, Any]) -> None:
    """Say which files of a model that was trained here were left behind."""
    missing = [file for file, part in parts.items() if part is None]
    if missing:
        LOG.warning('%s was trained with vts train, but lacks %s: it answers where it knows '
                    'nothing; copy the whole folder', name, ' and '.join(missing))


def _language_model(config: PipelineConfig) -> LanguageModel:
    if config.vlm_backend == 'openai':
        if find_spec('openai') is None:
            raise VlmError('the backend openai needs its client: pip install openai')
        from vts_ros.vlm.served import ServedVlm
        from vts_ros.vlm.served_keep_lists import KeepListServedVlm

        name = '' if config.model == EMBEDDED else config.model
        if config.server_pruning == 'exact':
            return KeepListServedVlm(
                config.url, name, timeout_sec=config.timeout_sec, retries=config.retries,
                local_files_only=config.local_files_only,
                tokens_per_frame=config.tokens_per_frame, frames_as=config.frames_as,
                interval_sec=config.interval_sec)
        return ServedVlm(config.url, name, timeout_sec=config.timeout_sec, retries=config.retries,
                         family=config.server_family)
    if config.vlm_backend not in VLM_BACKENDS:
        raise VlmError(f'no backend {config.vlm_backend!r}, there are: {", ".join(VLM_BACKENDS)}')
    if config.structured:
        check_structured()
    vlm = Vlm.load(checkpoint(config.model), device=config.device, dtype=config.dtype,
                   attn_implementation=config.attn_implementation,
                   quantization=quantization_settings(config.quantization),
                   adapter=checkpoint(config.adapter) if config.adapter else '',
                   local_files_only=config.local_files_only,
                   tokens_per_frame=config.tokens_per_frame, frames_as=config.frames_as,
                   interval_sec=config.interval_sec)
    pack(vlm.model)
    return vlm


def quantization_settings(text: str) -> dict[str, Any] | None:
    """Return a quantization_config that is given as JSON or as ``int8``; None of no text."""
    if not text.strip():
        return None
    if text.strip() == INT8:
        return {'quant_method': INT8}
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise VlmError(f'quantization is neither int8 nor JSON: {error}') from error
    if not isinstance(settings, dict) or 'quant_method' not in settings:
        raise VlmError('quantization is neither int8 nor a JSON object with a quant_method, '
                       'such as {"quant_method": "bitsandbytes", "load_in_4bit": true}')
    return settings
