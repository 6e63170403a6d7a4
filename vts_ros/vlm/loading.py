# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Load a checkpoint, or say in one line what is wrong with it and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils import logging

from vts_ros.errors import VlmError
from vts_ros.vlm.adapters import add_tokens, merge_adapter, numbers_cameras, read_tokens
from vts_ros.vlm.checkpoint_folders import find_folders
from vts_ros.vlm.compatibility import check_family
from vts_ros.vlm.conventions import Convention, CONVENTIONS, TRAINED_HERE
from vts_ros.vlm.families import FAMILIES, REFUSED
from vts_ros.vlm.int8_weights import INT8, to_int8
from vts_ros.vlm.native_floats import native_floats
from vts_ros.vlm.prunability import why_not
from vts_ros.vlm.taught_questions import is_trained_here

#: What is on the disk is all that is used, and none of it is run.
_SAFE: dict[str, Any] = {'local_files_only': True, 'trust_remote_code': False}
#: Quantised formats and the libraries that they are loaded with.
_LIBRARIES = {'bitsandbytes': 'accelerate bitsandbytes', 'gptq': 'accelerate gptqmodel',
              'awq': 'accelerate gptqmodel', 'compressed-tensors': 'accelerate compressed-tensors',
              'torchao': 'accelerate torchao'}


class Checkpoint(NamedTuple):
    """The Hugging Face parts, on the meta device in a blueprint, and how they are asked."""

    network: Any
    tokenizer: PreTrainedTokenizerBase
    images: Any
    convention: Convention


def load_checkpoint(model: str | Path, *, device: str = 'auto', dtype: str = 'auto',
                    attn_implementation: str = 'auto',
                    quantization: Mapping[str, Any] | None = None, adapter: str | Path = '',
                    local_files_only: bool = True) -> Checkpoint:
    """
    Load a checkpoint.

    Parameters
    ----------
    model
        Directory of a checkpoint, or its name on the Hugging Face hub; or those of an adapter that
        says of which checkpoint it is.
    device
        Torch device; ``auto`` takes CUDA if it is there.
    dtype
        Torch dtype; ``auto`` takes that of the checkpoint, and float32 on a processor that has no
        instructions for it.
    attn_implementation
        Such as ``sdpa`` or ``flash_attention_2``; ``auto`` leaves the choice to transformers.
    quantization
        A ``quantization_config`` of transformers, with its ``quant_method``, to quantise the
        weights while they are loaded. A checkpoint that is quantised already has its own. The
        method ``int8`` is that of :mod:`vts_ros.vlm.int8_weights`.
    adapter
        PEFT adapter that is merged into the weights: its directory, or its name on the hub.
    local_files_only
        Whether a name is looked up in the local cache only, never downloaded.

    Raises
    ------
    VlmError
        If the checkpoint is missing, incomplete, broken, too large, of another family, or has a
        text model that cannot be pruned; if an option is none, or a library that it needs is not
        installed.

    """
    device = _checked(device, dtype)
    directory, adapter_at = find_folders(str(model), str(adapter), local_files_only)
    with in_one_line(f'{model} cannot be loaded'), _quiet():
        config, parsed = _read_config(str(model), directory)
        tokenizer, images = _read_processors(str(model), directory, parsed.model_type)
        quantized_by = (quantization or config.get('quantization_config') or {}).get(
            'quant_method')
        is_int8 = quantized_by == INT8
        if adapter_at and quantized_by and not is_int8:
            raise VlmError(
                f'{adapter or model} cannot be merged into quantised weights: merge it into whole '
                'ones (PeftModel.merge_and_unload, then save_pretrained) and quantise these')
        if is_int8:
            quantization, quantized_by, dtype = None, None, 'float32'
        options: dict[str, Any] = {
            'dtype': dtype if quantized_by else _floats(dtype, device, parsed),
            'use_safetensors': True, **_SAFE}
        if attn_implementation != 'auto':
            options['attn_implementation'] = attn_implementation
        if quantization:
            options['quantization_config'] = AutoQuantizationConfig.from_dict(dict(quantization))
        if quantized_by:
            # Quantised weights cannot always be moved, so they are made where they stay.
            options['device_map'] = {'': device}
        try:
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                directory, output_loading_info=True, **options)
        except ImportError as error:
            if not quantized_by:
                raise
            needed = _LIBRARIES.get(str(quantized_by), 'accelerate')
            raise VlmError(f'{model} cannot be loaded without its libraries: '
                           f'pip install {needed}') from error
        network, report = loaded
        missing = _without_tied(network, set(report['missing_keys']))
        if missing:
            raise VlmError(f'{model} lacks weights, among them {min(missing)}')
        network = (network if quantized_by else network.to(device)).eval()
        convention = _convention(config, directory)
        if adapter_at:
            name = str(adapter or model)
            with in_one_line(f'{name} cannot be merged'):
                tokens = read_tokens(name, adapter_at)
                if tokens:
                    add_tokens(network, tokenizer, tokens)
                    convention = replace(convention, signal_tokens=tokens)
                if numbers_cameras(adapter_at):
                    convention = replace(convention, numbers_cameras=True)
                network = merge_adapter(network, name, adapter_at)
        _check_numbers(str(model), network)
        if is_int8:
            to_int8(network)
        # Whatever else a checkpoint asks for, answers here are greedy.
        network.generation_config.update(num_beams=1, num_return_sequences=1, do_sample=False)
    return Checkpoint(network, tokenizer, images, convention)


def load_blueprint(model: str | Path, *, device: str = 'auto', dtype: str = 'auto',
                   local_files_only: bool = True) -> Checkpoint:
    """
    Make the parts of a checkpoint from its settings alone, to see what it costs.

    The network is on the meta device: it has sizes and no numbers. Weights need not be there.

    Parameters
    ----------
    model, device, dtype, local_files_only
        As for :func:`load_checkpoint`.

    Raises
    ------
    VlmError
        As :func:`load_checkpoint` does, but for what is wrong with weights.

    """
    device = _checked(device, dtype)
    directory, _ = find_folders(str(model), '', local_files_only, with_weights=False)
    with in_one_line(f'{model} cannot be explained'), _quiet():
        written, config = _read_config(str(model), directory)
        tokenizer, images = _read_processors(str(model), directory, config.model_type)
        floats = _floats(dtype, device, config)
        if floats == 'auto':
            floats = config.dtype or torch.float32
        with torch.device('meta'):
            network = AutoModelForImageTextToText.from_config(config, dtype=floats).eval()
    return Checkpoint(network, tokenizer, images, _convention(written, directory))


class Processor(NamedTuple):
    """The image processor of a checkpoint, how it is asked, its family and where its files are."""

    images: Any
    convention: Convention
    model_type: str
    folder: Path


def load_processor(model: str | Path, local_files_only: bool = True) -> Processor:
    """
    Return what is known of a checkpoint without its network.

    Parameters
    ----------
    model, local_files_only
        As for :func:`load_checkpoint`; its weights are not needed.

    Raises
    ------
    VlmError
        If it is not here, or cannot be pruned.

    """
    directory, _ = find_folders(str(model), '', local_files_only, with_weights=False)
    written, config = _read_config(str(model), directory)
    with in_one_line(f'{model} cannot be loaded'):
        _, images = _read_processors(str(model), directory, config.model_type)
    return Processor(images, _convention(written, directory), config.model_type, directory)


def _convention(config: Mapping[str, Any], directory: Path) -> Convention:
    """Return how a checkpoint with this config.json is asked."""
    # What is trained here is asked as it was trained, of whatever family its network is.
    return TRAINED_HERE if is_trained_here(directory, config) else CONVENTIONS[
        config['model_type']]


def _checked(device: str, dtype: str) -> str:
    """Return the device, chosen if it is ``auto``; see that the dtype is one."""
    if dtype != 'auto' and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise VlmError(f'dtype {dtype!r} is none: take auto, float32, bfloat16 or float16')
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    return device


def _read_config(model: str, directory: Path) -> tuple[dict[str, Any], PreTrainedConfig]:
    """Return config.json as it is and as transformers read it, of a model that can be pruned."""
    written = json.loads((directory / 'config.json').read_bytes())
    model_type = written.get('model_type')
    if not isinstance(model_type, str):
        raise VlmError(f'config.json of {model} does not say what it is: it lacks model_type')
    if model_type in REFUSED:
        raise VlmError(f'{model} is a {model_type} model, which is not supported: '
                       f'{REFUSED[model_type]}')
    if model_type not in FAMILIES:
        raise VlmError(f'{model} is a {model_type} model; supported are: {", ".join(FAMILIES)}')
    check_family(model_type)
    config = AutoConfig.from_pretrained(directory, **_SAFE)
    reason = why_not(config)
    if reason is not None:
        raise VlmError(f'{model} cannot be pruned: {reason}')
    return written, config


def _read_processors(model: str, directory: Path, model_type: str
                     ) -> tuple[PreTrainedTokenizerBase, Any]:
    """Return tokenizer, with its chat template, and image processor."""
    tokenizer = AutoTokenizer.from_pretrained(directory, **_SAFE)
    images: Any
    if model_type == 'molmo2':
        # Here, as older transformers have none.
        from vts_ros.vlm.families.molmo_pictures import MolmoPictures

        images = MolmoPictures.load(directory, **_SAFE)
    else:
        images = AutoImageProcessor.from_pretrained(directory, backend='pil', **_SAFE)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _processor_template(directory)
    if tokenizer.chat_template is None:
        raise VlmError(f'{model} lacks a chat template')
    return tokenizer, images


def _floats(dtype: str, device: str, config: PreTrainedConfig) -> torch.dtype | str:
    """Return the floats of a network: as asked for, or those of its checkpoint if fast here."""
    if dtype != 'auto':
        return str(dtype)
    written = config.dtype or config.get_text_config().dtype or torch.float32
    if isinstance(written, str):
        written = getattr(torch, written)
    return native_floats(written) if device == 'cpu' else 'auto'


@torch.inference_mode()
def _check_numbers(model: str, network: Any) -> None:
    """See that weights are numbers: of one that is none, all answers are nothing."""
    for name, weight in network.named_parameters():
        # Those of quantised layers have classes of their own, which cannot all be summed.
        is_plain = type(weight) is nn.Parameter and weight.is_floating_point()
        if is_plain and not bool(torch.isfinite(weight.float().sum())):
            raise VlmError(f'{model} has weights that are no numbers, in {name}: '
                           'the checkpoint is damaged or was trained so')


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep bars and tables of transformers out of the log: what matters is raised."""
    level = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _without_tied(network: Any, missing: set[str]) -> set[str]:
    """Return what is missing, but for a head that the configuration of the text says is tied."""
    if missing == {'lm_head.weight'} and network.config.get_text_config().tie_word_embeddings:
        # Transformers look at the outer configuration only, which some checkpoints leave out.
        network.lm_head.weight = network.get_input_embeddings().weight
        return set()
    return missing


def _processor_template(directory: Path) -> str | dict[str, str] | None:
    """Return the chat template of checkpoints that keep it beside the tokenizer."""
    for name in ('chat_template.json', 'processor_config.json'):
        path = directory / name
        if not path.is_file():
            continue
        with in_one_line(f'{path} cannot be read'):
            found = json.loads(path.read_text(encoding='utf-8')).get('chat_template')
            if isinstance(found, list):
                return {str(template['name']): str(template['template']) for template in found}
            if found is not None:
                return str(found)
    return None


@contextmanager
def out_of_memory_told(what: str) -> Iterator[None]:
    """Turn a lack of memory, of the accelerator or of the computer, into a VlmError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # torch has a class for accelerators only; on the CPU it is a RuntimeError like any.
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if known or "can't allocate memory" in str(error):
            raise VlmError(f'{what}: out of memory') from error
        raise


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Turn whatever goes wrong while files are read into a VlmError of one line."""
    try:
        with out_of_memory_told(what):
            yield
    except VlmError:
        raise
    except Exception as error:  # the libraries below raise about anything over a broken file
        reason = ' '.join(str(error).split())[:200]
        raise VlmError(f'{what}: {reason or type(error).__name__}') from error
