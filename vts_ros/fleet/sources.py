# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where recordings are: folders, patterns, lists, and addresses such as s3://bucket/drives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
import glob
import hashlib
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from pyarrow import fs

from vts_ros.errors import VtsError
from vts_ros.tools.bags import BAG_SUFFIXES
from vts_ros.tools.remote_recordings import (
    fetched,
    is_address,
    open_store,
    said_by_store,
    title_of,
)
from vts_ros.tools.storages import ZSTD_SUFFIXES

METADATA = 'metadata.yaml'
LIST_SUFFIX = '.txt'
#: Characters of an address that stay as they are.
_PLAIN = "%/:?#[]@!$&'()*+,;=~"


class FleetError(VtsError):
    """What keeps a fleet from being worked through, in one line."""


@dataclass(frozen=True)
class Recording:
    """
    A recording, wherever it is.

    Attributes
    ----------
    uri
        Absolute path of its folder or file, or its address with all that is needed to fetch it
        again, and no credentials.
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
        stem = self.title.split('.')[0]
        return f'{stem}-{hashlib.sha256(self.uri.encode()).hexdigest()[:12]}'

    @property
    def title(self) -> str:
        """Return what its folder or file is called."""
        return title_of(self.uri)

    @property
    def is_remote(self) -> bool:
        """Return whether it has to be fetched before it can be read."""
        return is_address(self.uri)

    def local(self) -> AbstractContextManager[Path]:
        """Return what yields where it can be read, see :func:`fetched`."""
        return fetched(self.uri)


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
        If a source is not there, has credentials in its address, or nothing is found.

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
    if is_address(source):
        _check_address(source)
        yield from _listed(quote(source, _PLAIN))
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
        # A path may have any characters.
        system, base = (open_store(address) if is_address(address)
                        else fs.FileSystem.from_uri(address))
        root = system.get_file_info(base)
        if root.type == fs.FileType.NotFound:
            raise FleetError(f'{address} does not exist')
        files = [root] if root.type == fs.FileType.File else [
            file for file in system.get_file_info(fs.FileSelector(base, recursive=True))
            if file.type == fs.FileType.File and '/.' not in file.path[len(root.path):]]
    except (OSError, ValueError) as error:
        raise FleetError(f'{address} cannot be listed: {said_by_store(error)}') from error
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
        yield _recording(below(address, path[len(root.path):]), parts)


def below(address: str, path: str) -> str:
    """Return the address of what is listed at a path below another, with its query."""
    if not is_address(address):
        return address + path
    parts = urlsplit(address)
    return parts._replace(path=parts.path.rstrip('/') + quote(path)).geturl()


def _check_address(address: str) -> None:
    """Refuse credentials: the address stands in the answers, in messages and on pages."""
    scheme, place, *_ = urlsplit(address)
    # No name of a bucket has a colon; a key may have a slash, which ends the place too early.
    if ':' in place.rpartition('@')[0] or (scheme in ('s3', 'gs', 'gcs') and ':' in place):
        raise FleetError(
            f'an address of {scheme}:// has a password: addresses are kept with the answers, so '
            'give it in the environment or in the file of the provider, such as '
            'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY')


def _is_storage(path: str) -> bool:
    suffixes = PurePosixPath(path).suffixes
    return bool(suffixes) and (suffixes[-1] in BAG_SUFFIXES or (
        suffixes[-1] in ZSTD_SUFFIXES and suffixes[-2:-1] != [] and suffixes[-2] in BAG_SUFFIXES))


def _recording(uri: str, files: Sequence[fs.FileInfo]) -> Recording:
    facts = sorted((PurePosixPath(file.path).name, file.size, file.mtime_ns) for file in files)
    return Recording(uri, hashlib.sha256(repr(facts).encode()).hexdigest()[:16],
                     sum(file.size or 0 for file in files))
