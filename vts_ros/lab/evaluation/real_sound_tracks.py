# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The sounds in a folder of unpacked packages, at the rate at which they are heard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
import struct
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from vts_ros.errors import SoundError
from vts_ros.lab.evaluation.real_sounds import NOTHING, Package
from vts_ros.lab.sounds.sound_files import read_at_rate
from vts_ros.lab.sounds.waves import Samples
from vts_ros.sound.log_spectrum import SAMPLE_RATE

#: So much of a long file is heard: other music tells more than more of the same.
MOST_SEC = 30.0
#: Sounds shorter than this are joined, with pauses.
_SHORT_SEC, _PAUSE_SEC = 1.0, 0.5
_SUFFIXES = ('.wav', '.ogg', '.flac', '.mp3', '.cat')


class Track(NamedTuple):
    """A sound at SAMPLE_RATE, what there is in it, and where it is from."""

    package: str
    path: str
    kind: str
    samples: Samples

    @property
    def seconds(self) -> float:
        """Return its length."""
        return len(self.samples) / SAMPLE_RATE


def in_container(data: bytes) -> Iterator[tuple[str, bytes]]:
    """
    Yield the names and WAV files of a container of OpenTTD (``.cat``).

    Raises
    ------
    SoundError
        If it is none.

    """
    try:
        count = (struct.unpack_from('<I', data)[0] & 0x7fffffff) // 8
        for number in range(count):
            offset, length = struct.unpack_from('<II', data, 8 * number)
            offset &= 0x7fffffff
            name = data[offset + 1:offset + 1 + data[offset]].decode('latin-1').rstrip('\0')
            begin = offset + 1 + data[offset]
            title = name.split('"')[1] if name.count('"') > 1 else name
            yield title, data[begin:begin + length]
    except (struct.error, IndexError) as error:
        raise SoundError(f'this is no container of sounds: {error}') from error


def tracks_of(package: Package, folder: Path, kinds: Iterable[str]) -> Iterator[Track]:
    """
    Yield the sounds of a package that are of some kinds; short ones of nothing are joined.

    Parameters
    ----------
    folder
        Where it was unpacked.

    """
    kinds = set(kinds)
    short: dict[str, list[Samples]] = defaultdict(list)
    for path, kind, samples in _sounds(package, folder, kinds):
        if len(samples) < _SHORT_SEC * SAMPLE_RATE and kind in NOTHING:
            short[kind].append(samples)
        elif len(samples):
            yield Track(package.name, path, kind, samples)
    pause = np.zeros(round(_PAUSE_SEC * SAMPLE_RATE))
    for kind, sounds in short.items():
        yield Track(package.name, f'{len(sounds)} short sounds', kind,
                    np.concatenate([part for samples in sounds for part in (samples, pause)]))


def _sounds(package: Package, folder: Path, kinds: set[str]
            ) -> Iterator[tuple[str, str, Samples]]:
    for path in sorted(folder.rglob('*')):
        if path.suffix.lower() not in _SUFFIXES or not path.is_file() or path.is_symlink():
            continue
        name = str(path.relative_to(folder))
        if path.suffix == '.cat':
            yield from _contained(package, path, name, kinds)
        elif (kind := package.kind_of(name)) in kinds:
            try:
                yield name, kind, read_at_rate(path, MOST_SEC)
            except SoundError:
                continue


def _contained(package: Package, path: Path, name: str, kinds: set[str]
               ) -> Iterator[tuple[str, str, Samples]]:
    with TemporaryDirectory() as place:
        for title, data in in_container(path.read_bytes()):
            kind = package.kind_of(f'{name}#{title}')
            if kind in kinds:
                file = Path(place) / 'sound.wav'
                file.write_bytes(data)
                try:
                    yield f'{name}#{title}', kind, read_at_rate(file, MOST_SEC)
                except SoundError:
                    continue
