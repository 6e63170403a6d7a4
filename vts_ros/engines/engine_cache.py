# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Built engines on disk, each with the facts that decide whether it may be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
import hashlib
import json
import logging
import os
from pathlib import Path
import tempfile
import threading
import time
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from vts_ros.errors import EngineError

LOG = logging.getLogger(__name__)

#: Smallest, usual and largest size of each axis of each input.
Shapes = dict[str, tuple[tuple[int, int, int], ...]]

#: How long one process may wait for an engine that another is building.
LOCK_TIMEOUT_SEC = 2 * 3600.0
HEARTBEAT_SEC = 5.0


def default_directory() -> Path:
    """Return ``$VTS_CACHE_DIR``, or ``vts_ros/engines`` below the cache folder of the user."""
    if chosen := os.environ.get('VTS_CACHE_DIR'):
        return Path(chosen).expanduser()
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'vts_ros' / 'engines'


@dataclass(frozen=True)
class EngineKey:
    """
    All that an engine depends on: if one of these changes, it is another engine.

    Attributes
    ----------
    graph
        Name of the graph.
    onnx_sha256
        Of the graph in the precision that is built.
    library, version
        Compiler.
    gpu
        Name of the GPU, or ``any`` for engines that only depend on the compute capability.
    target
        Compute capability, such as ``sm86``.
    precision
        ``fp32``, ``fp16`` or ``int8``.
    shapes
        Of the inputs.

    """

    graph: str
    onnx_sha256: str
    library: str
    version: str
    gpu: str
    target: str
    precision: str
    shapes: Shapes

    def to_json(self) -> dict[str, Any]:
        """Return the fields in the form in which they are written and compared."""
        return dict(json.loads(json.dumps(asdict(self))))

    @property
    def stem(self) -> str:
        """Return the name of the files, without suffix."""
        digest = hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()
        return f'{self.graph}-{self.library}-{self.target}-{self.precision}-{digest[:16]}'


class Built(NamedTuple):
    """An engine as its compiler returns it, and notes about it for the JSON file."""

    plan: bytes
    notes: dict[str, Any]


class Stored(NamedTuple):
    """
    An engine out of the cache.

    Attributes
    ----------
    plan
        The serialised engine.
    hit
        Whether it was there before.
    build_sec
        How long its build took, whenever that was.
    path
        Its file.

    """

    plan: bytes
    hit: bool
    build_sec: float
    path: Path


class EngineCache:
    """
    A directory of engines, each with a JSON file that says what it is.

    Several processes may use it at once: the first builds, the others wait for it. Files are
    written under another name and renamed, so that nobody sees half of one.

    Parameters
    ----------
    directory
        Made when it is first needed.

    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or default_directory()

    def get_or_build(self, key: EngineKey, build: Callable[[], Built]) -> Stored:
        """
        Return the engine, built and stored if it is not there or not sound.

        A cache that cannot be written to costs a warning and the next build, nothing more.

        Raises
        ------
        EngineError
            If it cannot be built, or another process has been building it for hours.

        """
        path = self.directory / f'{key.stem}.engine'
        with self._locked(path):
            return self._read(key, path) or self._build(key, build, path)

    def discard(self, key: EngineKey) -> None:
        """Remove an engine that turned out to be unusable."""
        for suffix in ('.engine', '.json'):
            with suppress(OSError):
                (self.directory / f'{key.stem}{suffix}').unlink(missing_ok=True)

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Keep other processes and threads from the files of an engine."""
        lock = FileLock(path.with_suffix('.lock'))
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                LOG.info('another process is building %s: waiting for it', path.name)
                lock.acquire(timeout=LOCK_TIMEOUT_SEC)
        except Timeout as error:
            raise EngineError(f'{path} has been locked by another process for '
                              f'{LOCK_TIMEOUT_SEC / 3600:g} hours') from error
        except OSError as error:
            LOG.warning('engines are not kept: %s cannot be written (%s)', self.directory,
                        error.strerror or error)
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def _read(self, key: EngineKey, path: Path) -> Stored | None:
        """Return the stored engine, or None; with a warning if it exists and cannot be used."""
        try:
            plan = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            LOG.warning('%s is built again: it cannot be read (%s)', path, error.strerror)
            return None
        try:
            notes = json.loads(path.with_suffix('.json').read_text())
            if notes['key'] != key.to_json():
                raise ValueError('it is about another engine')
            if notes['engine_sha256'] != hashlib.sha256(plan).hexdigest():
                raise ValueError('the engine is not the one that was written')
            return Stored(plan, True, float(notes['build_sec']), path)
        # Whatever lies there: a JSON of another version, a list, binary garbage.
        except (OSError, ValueError, KeyError, TypeError) as error:
            LOG.warning('%s is built again: %s does not vouch for it (%s)', path,
                        path.with_suffix('.json').name, ' '.join(str(error).split()))
            return None

    def _build(self, key: EngineKey, build: Callable[[], Built], path: Path) -> Stored:
        what = f'{key.graph} for {key.target} in {key.precision} with {key.library} {key.version}'
        start = time.monotonic()
        with heartbeat(f'building {what}'):
            built = build()
        build_sec = time.monotonic() - start
        LOG.info('built %s: %.1f MB in %.1f s', what, len(built.plan) * 1e-6, build_sec)
        notes = {
            'key': key.to_json(), 'engine_sha256': hashlib.sha256(built.plan).hexdigest(),
            'engine_bytes': len(built.plan), 'build_sec': round(build_sec, 3),
            'built_at': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()), **built.notes}
        try:
            _replace(path, built.plan)
            _replace(path.with_suffix('.json'), json.dumps(notes, indent=1).encode())
        except OSError as error:
            LOG.warning('%s is not kept: %s', path, error.strerror or error)
        return Stored(built.plan, False, build_sec, path)


@contextmanager
def heartbeat(what: str, period_sec: float = HEARTBEAT_SEC) -> Iterator[None]:
    """Log that something has begun, and from time to time that it goes on."""
    done = threading.Event()
    start = time.monotonic()

    def beat() -> None:
        while not done.wait(period_sec):
            LOG.info('still %s, %.0f s so far', what, time.monotonic() - start)

    LOG.info('%s ...', what)
    thread = threading.Thread(target=beat, name='heartbeat', daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after the power went."""
    with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f'.{path.name}.', delete=False) as new:
        try:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
            # Temporary files are for their owner only; engines may serve other users.
            os.chmod(new.name, 0o644)
            os.replace(new.name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(new.name)
            raise
