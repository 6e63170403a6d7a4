# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The weights of an adapter: where they are added to a model, gone on from, and saved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
import re
import shutil
from typing import Any
import warnings

import torch
from torch import nn

from vts_ros.errors import VlmError
from vts_ros.lab.training.adapter_lessons import AdapterCourse
from vts_ros.paths import checkpoint
from vts_ros.vlm import Vlm
from vts_ros.vlm.adapters import check_adapter, save_numbers_cameras, save_tokens
from vts_ros.vlm.loading import in_one_line

#: Strength of an adapter: its rank times this, over its rank.
_ALPHA = 2
#: Cosine of two embeddings from which on nothing tells the tokens apart.
_ALIKE = 0.99


def untaught_tokens(vlm: Vlm, answers: Iterable[str]) -> list[int]:
    """
    Return the tokens of answers that the model has never learned to tell from others.

    What a training never shows keeps an embedding that is pushed away from whatever is shown: such
    tokens come to be all alike. A small model with a vocabulary of its own has many, in which
    words are spelled that it has not learned; it could not write them without embeddings that are
    learned, too.
    """
    used = sorted({token for text in answers for token in vlm.tokenizer(
        text, add_special_tokens=False)['input_ids']})
    with torch.no_grad():
        rows = nn.functional.normalize(vlm.model.get_input_embeddings().weight.float(), dim=1)
        likeness = rows[used] @ rows.T
        likeness[torch.arange(len(used)), torch.tensor(used)] = -1.0
        alike = likeness.amax(dim=1) > _ALIKE
    return [token for token, is_alike in zip(used, alike.tolist()) if is_alike]


def adapted_network(vlm: Vlm, course: AdapterCourse, untaught: Sequence[int]) -> Any:
    """Add trainable matrices to the linear layers of what is to learn; freeze all else."""
    try:
        from peft import get_peft_model, LoraConfig
    except ImportError as error:
        raise VlmError("adapters need peft: pip install 'vts_ros[adapters]'") from error
    decoder = vlm.model.get_decoder()
    decoder_name, = (name for name, module in vlm.model.named_modules() if module is decoder)
    head = vlm.model.get_output_embeddings()
    linear = [name for name, module in vlm.model.named_modules()
              if isinstance(module, nn.Linear) and module is not head]
    names = [name for name in linear if name.startswith(f'{decoder_name}.')]
    if not names:
        raise VlmError(f'{vlm.name} has no linear layers that an adapter can be added to')
    kinds = sorted({name.rpartition('.')[2] for name in names})
    targets: str | list[str] = rf'(.*\.)?{re.escape(decoder_name)}\..*\.({"|".join(kinds)})'
    if course.vision:
        targets = linear
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        adapted = get_peft_model(vlm.model, LoraConfig(
            r=course.rank, lora_alpha=_ALPHA * course.rank, lora_dropout=0.0,
            trainable_token_indices=list(untaught) or None,
            target_modules=targets))
    adapted.peft_config['default'].base_model_name_or_path = _base_name(vlm)
    return adapted


def go_on_from(adapted: Any, start: Path) -> None:
    """Take the weights of another adapter; raise VlmError if it has another shape."""
    from peft import load_peft_weights, set_peft_model_state_dict

    check_adapter(str(start), start)
    with in_one_line(f'{start} cannot be gone on from'):
        loaded: Any = set_peft_model_state_dict(
            adapted, load_peft_weights(str(start), device='cpu'))
        if loaded.unexpected_keys:
            raise VlmError(f'{start} is an adapter of another shape or of other words: take its '
                           '--rank, --vision and answers')


def _base_name(vlm: Vlm) -> str:
    """Return how an adapter names its model: a shipped one not by where it lies here."""
    path = Path(str(vlm.model.name_or_path))
    return path.name if checkpoint(path.name) == str(path) else str(path)


def save_adapter(adapted: Any, folder: Path, tokens: Sequence[str], cameras: int) -> None:
    """
    Write an adapter as PEFT does; the folder is there whole or not at all.

    Parameters
    ----------
    adapted
        The network of :func:`adapted_network`.
    folder
        Replaced.
    tokens, cameras
        Texts of the tokens that it brings, and how many cameras it tells apart; none and 0 where
        it does not.

    """
    partial = folder.with_name(f'{folder.name}.part')
    shutil.rmtree(partial, ignore_errors=True)
    # The embeddings of new tokens are saved by themselves, not all there are.
    adapted.save_pretrained(partial, save_embedding_layers=False)
    if tokens:
        save_tokens(tokens, partial)
    if cameras:
        save_numbers_cameras(cameras, partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
