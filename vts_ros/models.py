# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the shipped models are, in a source checkout and once installed."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import sys


def model_path(name: str | Path) -> Path:
    """
    Find a model file or directory.

    Parameters
    ----------
    name
        A name below the shipped models, such as `embedded` or `proposal/frame.onnx`, or a path.

    Raises
    ------
    FileNotFoundError
        If it is nowhere; the message says where it was looked for.

    """
    given = Path(name).expanduser()
    places = list(_model_directories())
    # What lies about in the working directory must not take the place of a shipped model.
    if len(given.parts) > 1 and given.exists():
        return given
    for place in places:
        if (place / given).exists():
            return place / given
    if given.exists():
        return given
    looked = ', '.join(map(str, places)) or 'no models directory'
    raise FileNotFoundError(f'model {str(name)!r} not found (looked in {looked})')


def _model_directories() -> Iterator[Path]:
    """Yield the places of shipped models: chosen by the user, source checkout, installed."""
    if chosen := os.environ.get('VTS_MODELS_DIR'):
        yield Path(chosen).expanduser()
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / 'package.xml').is_file():
        yield checkout / 'models'
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    for prefix in dict.fromkeys([*prefixes, sys.prefix]):
        yield Path(prefix) / 'share' / 'vts_ros' / 'models'
