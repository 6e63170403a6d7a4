# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Parameter files that have nothing for the node that they are given to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
import re
from typing import Any

import yaml

OPTION = '--params-file'
_PARAMETERS = 'ros__parameters'


def unused_files(arguments: Sequence[str], node: str) -> list[str]:
    """
    Return a warning for each parameter file of which the node takes nothing: ROS is silent.

    Parameters
    ----------
    arguments
        Those of the command line.
    node
        Name of the node with its namespace, such as ``/car1/vts_node``.

    """
    warnings = []
    for file in (given for option, given in pairwise(arguments) if option == OPTION):
        try:
            names = sorted(set(_names(yaml.safe_load(Path(file).read_text(encoding='utf-8')))))
        except (OSError, ValueError, yaml.YAMLError):
            # ROS says what is wrong with it.
            continue
        if not any(re.fullmatch(_pattern(name), node) for name in names):
            warnings.append(f'{file} has nothing for {node}, only for '
                            f'{", ".join(names) or "no node"}; {node} or /** is expected')
    return warnings


def _names(tree: Any, above: str = '') -> Iterator[str]:
    """Yield the names of the nodes that have parameters in a file."""
    if not isinstance(tree, dict):
        return
    for key, value in tree.items():
        name = f'{above}/{str(key).strip("/")}'
        if isinstance(value, dict) and _PARAMETERS in value:
            yield name
        else:
            yield from _names(value, name)


def _pattern(name: str) -> str:
    """Return a regular expression for a name in which * is a name, and ** any number of them."""
    parts = re.split(r'(/\*\*|\*)', name)
    return ''.join({'/**': '(/[^/]+)*', '*': '[^/]+'}.get(part, re.escape(part)) for part in parts)
