# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether there is a GPU and what works on it, tested in a process that may crash."""

from __future__ import annotations

from functools import lru_cache
import json
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any, NamedTuple

from vts_ros.engines.tensorrt_probe import load_driver
from vts_ros.errors import EngineError

_PROBE = Path(__file__).with_name('tensorrt_probe.py')
#: A driver that wakes up several large GPUs takes many seconds.
_TIMEOUT_SEC = 120.0


class Gpu(NamedTuple):
    """
    The GPU that engines run on.

    Attributes
    ----------
    name
        As the driver says it.
    capability
        Compute capability, such as (8, 6).
    memory_mib
        All of its memory.

    """

    name: str
    capability: tuple[int, int]
    memory_mib: int

    @property
    def target(self) -> str:
        """Return the compute capability as compilers write it, such as `sm86`."""
        return 'sm{}{}'.format(*self.capability)


@lru_cache(maxsize=1)
def find_gpu() -> Gpu:
    """Return the first GPU; raise EngineError with the reason if there is none."""
    try:
        # Where there is no driver, which is most often why, no process need look for it.
        load_driver()
    except RuntimeError as error:
        raise EngineError(str(error)) from None
    found = _ask('gpu')
    if 'problem' in found:
        raise EngineError(found['problem'])
    major, minor = found['capability']
    return Gpu(found['name'], (major, minor), found['memory_mib'])


@lru_cache(maxsize=4)
def try_tensorrt(module: str) -> str:
    """
    Let a TensorRT library build and load a small engine in another process.

    Returns
    -------
    The version of the library.

    Raises
    ------
    EngineError
        If there is no GPU, or the library does not work on it or dies.

    """
    find_gpu()
    found = _ask('tensorrt', module)
    if 'problem' in found:
        raise EngineError(f'{module} does not work on this GPU: {found["problem"]}')
    return str(found['version'])


def _ask(*question: str) -> dict[str, Any]:
    """Return the result of the probe, also if it died."""
    try:
        done = subprocess.run([sys.executable, str(_PROBE), *question], capture_output=True,
                              text=True, timeout=_TIMEOUT_SEC, check=False)
        return dict(json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else {
            'problem': _death(done.returncode, done.stderr)}
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {'problem': f'the probe gave no answer ({" ".join(str(error).split())})'}


def _death(code: int, stderr: str) -> str:
    try:
        how = f'was ended by {signal.Signals(-code).name}'
    except ValueError:
        how = f'ended with code {code}'
    last = (stderr.strip().splitlines() or ['no message'])[-1]
    return f'the process that tried it {how} ({last})'
