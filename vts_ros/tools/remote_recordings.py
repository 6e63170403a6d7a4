# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings at addresses such as s3://bucket/drives/1: fetched, read here, and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
import re
import tempfile
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from vts_ros.errors import BagError

if TYPE_CHECKING:
    from pyarrow import fs

#: Without a limit, the library for Google's storage tries for a quarter of an hour.
_RETRY_SEC = 30
_NO_ENTRY = re.compile('ACCESS_DENIED|ACCESS_KEY|SIGNATURE|PERMISSION_DENIED|UNAUTHENTICATED|'
                       'access token')


def is_address(source: str) -> bool:
    """Return whether a recording has to be fetched before it can be read."""
    return '://' in source


def title_of(uri: str) -> str:
    """Return what the folder or the file of a recording is called, wherever it is."""
    return PurePosixPath(unquote(urlsplit(uri).path) if is_address(uri) else uri).name


def open_store(uri: str) -> tuple[fs.FileSystem, str]:
    """
    Return where an address is: a file system, and the path there.

    Raises
    ------
    OSError, ValueError
        If there is no such store, or it cannot be reached.

    """
    from pyarrow import fs

    parts = urlsplit(uri)
    if parts.scheme in ('gs', 'gcs') and 'retry_limit_seconds' not in parts.query:
        query = '&'.join(filter(None, (parts.query, f'retry_limit_seconds={_RETRY_SEC}')))
        uri = parts._replace(query=query).geturl()
    return fs.FileSystem.from_uri(uri)


@contextmanager
def fetched(uri: str) -> Iterator[Path]:
    """
    Yield where a recording can be read; what was fetched for that is deleted afterwards.

    Parameters
    ----------
    uri
        Its path, or an address that pyarrow knows.

    Raises
    ------
    BagError
        If it cannot be fetched.

    """
    if not is_address(uri):
        yield Path(uri)
        return
    from pyarrow import fs

    with tempfile.TemporaryDirectory(prefix='vts_fetched_') as folder:
        target = Path(folder) / title_of(uri)
        try:
            system, path = open_store(uri)
            if system.get_file_info(path).type == fs.FileType.Directory:
                target.mkdir()
            fs.copy_files(path, str(target), source_filesystem=system,
                          destination_filesystem=fs.LocalFileSystem())
        except (OSError, ValueError) as error:
            raise BagError(f'{uri} cannot be fetched: {said_by_store(error)}') from error
        try:
            yield target
        except BagError as error:
            # Where the copy was says nothing to anybody.
            raise BagError(str(error).replace(f'{folder}/', '')) from error


def said_by_store(error: Exception) -> str:
    """Return what a store says, in one line."""
    # Google's library says all of it once more behind that.
    said = ' '.join(str(error).split()).partition(' error_info={')[0]
    # A store need not say more than that, not even which credentials it was given.
    return f'{said} Are the credentials right, and may they read it?' if _NO_ENTRY.search(
        said) else said
