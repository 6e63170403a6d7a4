# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The folders of checkpoints and adapters, as people have them: found, and seen to be whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import snapshot_download

from vts_ros.errors import VlmError
from vts_ros.paths import checkpoint
from vts_ros.vlm.adapters import base_of, check_adapter, CONFIG, is_adapter

#: What every checkpoint needs beside its weights. Without the tokenizer's files transformers
#: does not fail, it makes up another tokenizer.
_FILES = ('config.json', 'tokenizer.json', 'tokenizer_config.json')
#: Either says how pictures are prepared; newer releases of transformers write the second.
_PROCESSORS = ('preprocessor_config.json', 'processor_config.json')
_WEIGHTS = ('model.safetensors', 'model.safetensors.index.json')
#: With this a file begins that Git LFS has not fetched.
_LFS = b'version https://git-lfs.github.com/spec/'


def find_folders(model: str, adapter: str, local_files_only: bool, with_weights: bool = True
                 ) -> tuple[Path, Path | None]:
    """
    Return where a checkpoint and its adapter are, and see that no file is missing.

    Parameters
    ----------
    model, adapter
        Directories, or names on the Hugging Face hub. The first may be an adapter that says of
        which checkpoint it is, the second empty.
    local_files_only
        Whether names are looked up in the local cache only, never downloaded.
    with_weights
        Whether these must be there.

    Raises
    ------
    VlmError
        With one line that says what is missing, and what is there instead where that can be told.

    """
    directory = _directory(model, local_files_only)
    adapter_at = _directory(adapter, local_files_only) if adapter else None
    if is_adapter(directory):
        _check_fetched(directory, [directory / CONFIG])
        if adapter:
            raise VlmError(f'{model} is an adapter: set vlm.model to its model; one adapter can '
                           'be merged')
        base, adapter_at = base_of(model, directory), directory
        try:
            directory = _directory(checkpoint(base), local_files_only)
        except VlmError as error:
            raise VlmError(f'{model} is an adapter of {base}, which is not here: set vlm.model to '
                           f'where that is, and vlm.adapter to {model}') from error
        model = base
    if adapter_at and with_weights:
        check_adapter(adapter or str(adapter_at), adapter_at)
        _check_fetched(adapter_at, adapter_at.glob('adapter_*'))
    _check_files(model, directory, with_weights)
    return directory, adapter_at


def _directory(model: str, local_files_only: bool) -> Path:
    """Return where the files of a checkpoint are."""
    directory = Path(model).expanduser()
    if not directory.is_dir():
        try:
            directory = Path(snapshot_download(
                model, local_files_only=local_files_only,
                allow_patterns=['*.json', '*.jinja', '*.safetensors']))
        except (OSError, ValueError) as error:
            where = 'the local Hugging Face cache' if local_files_only else 'the Hugging Face hub'
            raise VlmError(f'model {model!r} is neither a directory nor in {where}') from error
    return directory


def _check_files(model: str, directory: Path, with_weights: bool) -> None:
    """See that nothing is missing, and say what the folder is instead where that can be told."""
    has_config = (directory / 'config.json').is_file()
    # Some put settings beside them.
    has_weights = any((directory / name).is_file() for name in _WEIGHTS)
    if any(directory.glob('*.gguf')) and not (has_config and (has_weights or not with_weights)):
        raise VlmError(f'{model} holds GGUF files: serve them with llama.cpp and set '
                       'vlm.backend to openai, or take the safetensors of the model')
    if not has_config:
        below = sorted(path.parent for path in directory.glob('*/config.json'))
        if below:
            raise VlmError(f'{model} lacks config.json; the checkpoint is one folder deeper: '
                           f'{below[0]}')
    elif (directory / CONFIG).is_file():
        # Transformers would take both if peft is installed, and the model alone otherwise.
        raise VlmError(f'{model} holds a model and an adapter: move one of them, and set '
                       'vlm.adapter to the adapter if it is not merged yet')
    for name in _FILES:
        if not (directory / name).is_file():
            raise VlmError(f'{model} lacks {name}')
    if not any((directory / name).is_file() for name in _PROCESSORS):
        raise VlmError(f'{model} lacks {_PROCESSORS[0]}')
    if with_weights and not has_weights:
        if any(directory.glob('*.bin')):
            raise VlmError(f'{model} has weights as .bin files, which can run code: save it anew '
                           'with save_pretrained, which writes safetensors')
        raise VlmError(f'{model} lacks {_WEIGHTS[0]}')
    weights = directory.glob('*.safetensors') if with_weights else ()
    _check_fetched(directory, (*directory.glob('*.json'), *weights))


def _check_fetched(directory: Path, paths: Iterable[Path]) -> None:
    """See that files are what they are named, and not what Git LFS has in their place."""
    for path in paths:
        with path.open('rb') as file:
            if file.read(len(_LFS)) == _LFS:
                raise VlmError(f'{path} is a Git LFS pointer: run git lfs pull in {directory}')
