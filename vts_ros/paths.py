# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the files of the package are, in a source checkout and once installed."""

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
    # What lies about in the working directory must not take the place of a shipped model.
    if len(given.parts) > 1 and given.exists():
        return given
    places = [place / 'models' for place in _share_directories()]
    if chosen := os.environ.get('VTS_MODELS_DIR'):
        places.insert(0, Path(chosen).expanduser())
    return _first(given, [*places, Path()])


def share_path(name: str) -> Path:
    """Find a file that is installed with the package, such as `config/vts.rviz`; see above."""
    return _first(Path(name), list(_share_directories()))


def checkpoint(model: str) -> str:
    """Return where a shipped or local checkpoint is; anything else is left for the hub."""
    try:
        return str(model_path(model))
    except FileNotFoundError:
        return model


def _first(name: Path, places: list[Path]) -> Path:
    for place in places:
        if (place / name).exists():
            return place / name
    looked = ', '.join(map(str, places))
    raise FileNotFoundError(f'{str(name)!r} not found (looked in {looked})')


def _share_directories() -> Iterator[Path]:
    """Yield the source checkout, if this is one, and the places of the installed package."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / 'package.xml').is_file():
        yield checkout
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    for prefix in dict.fromkeys([*prefixes, sys.prefix]):
        yield Path(prefix) / 'share' / 'vts_ros'
