# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where recordings are: folders, patterns, lists, and addresses such as s3://bucket/drives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import glob
import hashlib
from pathlib import Path, PurePosixPath
import tempfile

from pyarrow import fs

from vts_ros.errors import BagError, VtsError
from vts_ros.tools.bags import BAG_SUFFIXES
from vts_ros.tools.storages import ZSTD_SUFFIXES

METADATA = 'metadata.yaml'
LIST_SUFFIX = '.txt'


class FleetError(VtsError):
    """What keeps a fleet from being worked through, in one line."""


@dataclass(frozen=True)
class Recording:
    """
    A recording, wherever it is.

    Attributes
    ----------
    uri
        Absolute path of its folder or file, or its address.
    signature
        Sizes and times of its files: another one means another recording.
    size_bytes
        Of all of its files.

    """

    uri: str
    signature: str
    size_bytes: int

    @property
    def name(self) -> str:
        """Return a name for its results, different from that of any other."""
        stem = PurePosixPath(self.uri).name.split('.')[0]
        return f'{stem}-{hashlib.sha256(self.uri.encode()).hexdigest()[:12]}'

    @property
    def is_remote(self) -> bool:
        """Return whether it has to be fetched before it can be read."""
        return '://' in self.uri

    @contextmanager
    def local(self) -> Iterator[Path]:
        """Yield where it can be read; what was fetched for that is deleted afterwards."""
        if not self.is_remote:
            yield Path(self.uri)
            return
        with tempfile.TemporaryDirectory(prefix='vts_fleet_') as folder:
            target = Path(folder) / PurePosixPath(self.uri).name
            try:
                system, path = fs.FileSystem.from_uri(self.uri)
                if system.get_file_info(path).type == fs.FileType.Directory:
                    target.mkdir()
                fs.copy_files(path, str(target), source_filesystem=system,
                              destination_filesystem=fs.LocalFileSystem())
            except OSError as error:
                raise BagError(f'{self.uri} cannot be fetched: {error}') from error
            yield target


def find_recordings(sources: Iterable[str]) -> list[Recording]:
    """
    Return all recordings, each once, in the order of their addresses.

    Parameters
    ----------
    sources
        Recordings; folders and addresses below which recordings are; patterns such as
        ``drives/2026-*``; lists (.txt) with one of these in each line.

    Raises
    ------
    FleetError
        If a source is not there, or nothing is found.

    """
    found: dict[str, Recording] = {}
    sources = list(sources)
    for source in sources:
        for recording in _expand(source):
            found[recording.uri] = recording
    if not found:
        raise FleetError(f'no recording in {", ".join(sources)}: expected rosbag2 bags '
                         f'({", ".join(BAG_SUFFIXES)})')
    return [found[uri] for uri in sorted(found)]


def _expand(source: str) -> Iterator[Recording]:
    if '://' in source:
        yield from _listed(source)
    elif glob.has_magic(source) and not Path(source).exists():
        for path in sorted(glob.glob(source, recursive=True)):
            yield from _expand(path)
    elif source.endswith(LIST_SUFFIX):
        try:
            lines = Path(source).read_text(encoding='utf-8').splitlines()
        except OSError as error:
            raise FleetError(f'{source} cannot be read: {error.strerror}') from error
        for line in lines:
            if line.strip() and not line.startswith('#'):
                yield from _expand(line.strip())
    else:
        yield from _listed(str(Path(source).absolute()))


def _listed(address: str) -> Iterator[Recording]:
    """Yield the recordings at or below an address."""
    try:
        system, base = fs.FileSystem.from_uri(address)
        root = system.get_file_info(base)
        if root.type == fs.FileType.NotFound:
            raise FleetError(f'{address} does not exist')
        files = [root] if root.type == fs.FileType.File else [
            file for file in system.get_file_info(fs.FileSelector(base, recursive=True))
            if file.type == fs.FileType.File and '/.' not in file.path[len(root.path):]]
    except (OSError, ValueError) as error:
        raise FleetError(f'{address} cannot be listed: {error}') from error
    prefix = address[:len(address) - len(base)] if '://' in address else ''
    if prefix and not address.endswith(base):
        prefix = f'{address.split("://")[0]}://'
    bags = {str(PurePosixPath(file.path).parent) for file in files
            if PurePosixPath(file.path).name == METADATA}
    grouped: dict[str, list[fs.FileInfo]] = {}
    for file in files:
        folder = str(PurePosixPath(file.path).parent)
        if folder in bags and root.type != fs.FileType.File:
            grouped.setdefault(folder, []).append(file)
        elif _is_storage(file.path):
            grouped.setdefault(file.path, []).append(file)
    for path, parts in grouped.items():
        yield _recording(prefix + path, parts)


def _is_storage(path: str) -> bool:
    suffixes = PurePosixPath(path).suffixes
    return bool(suffixes) and (suffixes[-1] in BAG_SUFFIXES or (
        suffixes[-1] in ZSTD_SUFFIXES and suffixes[-2:-1] != [] and suffixes[-2] in BAG_SUFFIXES))


def _recording(uri: str, files: Sequence[fs.FileInfo]) -> Recording:
    facts = sorted((PurePosixPath(file.path).name, file.size, file.mtime_ns) for file in files)
    return Recording(uri, hashlib.sha256(repr(facts).encode()).hexdigest()[:16],
                     sum(file.size or 0 for file in files))
