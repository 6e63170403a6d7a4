# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Of which family a served model is: a server says its name, and where it has it from."""

from __future__ import annotations

from collections.abc import Iterable
import json
import logging
from pathlib import Path
import re
from typing import Any

from vts_ros.errors import VlmError
from vts_ros.vlm.conventions import Convention, CONVENTIONS, PLAIN, TRAINED_HERE
from vts_ros.vlm.taught_questions import is_trained_here

#: Said of a model whose family is none of those that are known.
ANY = 'plain'
#: Said of a model that was trained here, of whatever family its network is.
OURS = 'trained here'
#: What checkpoints of a family are called on the hub, as files (``Qwen2.5-VL-7B-Q4_K_M.gguf``)
#: and by servers of their own (``qwen2.5vl:7b``).
_NAMES = {
    'cosmos3_edge': r'cosmos[-_ ]?3[-_ ]?edge',
    'fast_vlm': r'fast[-_ ]?vlm',
    # Not Gemma 3n, which is another.
    'gemma3': r'gemma[-_ ]?3(?![\dn])',
    'idefics3': r'idefics[-_ ]?3(?!\d)',
    'internvl': r'intern[-_ ]?vl',
    'llava_onevision': r'llava[-_ ]?(?:onevision|ov)(?![a-z])',
    'molmo2': r'molmo[-_ ]?2(?!\d)',
    'smolvlm': r'smol[-_ ]?vlm',
    'qwen2_vl': r'qwen[-_ ]?2[-_ .]?vl',
    'qwen2_5_vl': r'qwen[-_ ]?2[._]5[-_ .]?vl',
    'qwen3_vl': r'qwen[-_ ]?3[-_ .]?vl',
    'qwen3_5': r'qwen[-_ ]?3[._]5(?!\d)',
}

LOG = logging.getLogger(__name__)


def family_in(names: Iterable[str]) -> str | None:
    """Return the family that a name tells, by ``model_type``; of the first that tells one."""
    for name in names:
        found = [(place.start(), family) for family, pattern in _NAMES.items()
                 for place in re.finditer(pattern, name, re.IGNORECASE)]
        if found:
            # The end of a path says what it is, its beginning where it is.
            return max(found)[1]
    return None


def served_family(name: str, sources: Iterable[str], said: str = '') -> tuple[str, Convention]:
    """
    Return as which family a served model is asked.

    Parameters
    ----------
    name
        That it has on the server.
    sources
        Where the server has it from: folders or names on the hub. What of it is on this computer
        is looked at.
    said
        The family, if somebody says it: a ``model_type``, or ``plain``.

    Returns
    -------
    Its ``model_type``, ``plain`` or ``trained here``, and its convention.

    Raises
    ------
    VlmError
        If there is no such family.

    """
    if said:
        if said != ANY and said not in CONVENTIONS:
            raise VlmError(f'no family {said!r} of a served model, there are: '
                           f'{", ".join([ANY, *CONVENTIONS])}')
        return said, CONVENTIONS.get(said, PLAIN)
    sources = list(sources)
    for source in sources:
        config = _config_in(Path(source))
        of_folder = str(config.get('model_type'))
        if of_folder in CONVENTIONS:
            is_ours = is_trained_here(Path(source), config)
            return (OURS, TRAINED_HERE) if is_ours else (of_folder, CONVENTIONS[of_folder])
    family = family_in([name, *sources])
    if family is None:
        LOG.warning('the name of %s does not tell its family: it is told times as "-0.4s" and '
                    'asked for boxes from 0 to 1; if it was trained otherwise, set '
                    'vlm.server_family', name)
        return ANY, PLAIN
    return family, CONVENTIONS[family]


def _config_in(folder: Path) -> dict[str, Any]:
    """Return what a config.json says; nothing where none can be read."""
    try:
        config = json.loads((folder / 'config.json').read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
