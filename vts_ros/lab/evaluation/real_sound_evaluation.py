# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a network hears in real sound: recordings in Debian packages, none of which is learned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import SoundError
from vts_ros.lab.evaluation.real_sound_tracks import Track, tracks_of
from vts_ros.lab.evaluation.real_sounds import NOTHING, Package, PACKAGES
from vts_ros.lab.evaluation.sound_evaluation import listen, Progress, Said
from vts_ros.lab.evaluation.sound_thresholds import ON, siren_secs, STEPS
from vts_ros.lab.sounds.waves import level_of, Samples
from vts_ros.sound.log_spectrum import SAMPLE_RATE
from vts_ros.sound.sound_events import KINDS, Threshold, THRESHOLDS
from vts_ros.sound.sound_network import SoundNetwork

#: Sirens are mixed over traffic that is so much weaker (dB, above 300 Hz).
SNR_DB = (10.0, 5.0, 0.0)
#: Traffic is heard so long before the siren begins, and after it has ended.
_BEFORE_SEC, _AFTER_SEC = 3.0, 1.0
_SIREN = KINDS.index('siren')


class Found(NamedTuple):
    """What was heard, and the probability of a siren, (steps)."""

    said: list[Said]
    siren: NDArray[np.float64]

    def said_sec(self, kind: str, since_sec: float = 0.0) -> float | None:
        """Return when a kind was named for the first time after some time, None if it was not."""
        return min((said.said_sec for said in self.said
                    if said.event.kind == kind and said.said_sec > since_sec), default=None)


class _Noting:
    """A network that notes what it says, so that thresholds can be tried on it."""

    def __init__(self, network: SoundNetwork) -> None:
        self._network = network
        self.siren: list[float] = []

    def begin(self) -> None:
        self._network.begin()

    def step(self, level_db: NDArray[np.float32]) -> NDArray[np.float32]:
        probabilities = self._network.step(level_db)
        self.siren.append(float(probabilities[_SIREN]))
        return probabilities


def hear(network: SoundNetwork, samples: Samples) -> Found:
    """Return what is heard in samples at SAMPLE_RATE, as ``Listener`` hears it."""
    noting = _Noting(network)
    said = listen(cast(SoundNetwork, noting), samples)
    return Found(said, np.array(noting.siren))


def over_traffic(siren: Samples, traffic: Samples, snr_db: float) -> Samples:
    """
    Return a siren over traffic, which begins _BEFORE_SEC before and ends _AFTER_SEC after it.

    Parameters
    ----------
    traffic
        Repeated where it is shorter.
    snr_db
        Level of the siren over that of the traffic, above 300 Hz.

    """
    before, after = round(_BEFORE_SEC * SAMPLE_RATE), round(_AFTER_SEC * SAMPLE_RATE)
    mixed = np.resize(traffic, before + len(siren) + after)
    mixed = mixed * (level_of(siren) / max(level_of(mixed), 1e-9) / 10.0 ** (snr_db / 20.0))
    mixed[before:before + len(siren)] += siren
    loudest: Samples = mixed / max(1.0, float(np.abs(mixed).max()))
    return loudest


def evaluate_real_sound(network: SoundNetwork, folder: Path, split: str,
                        progress: Progress = lambda share, what: None,
                        packages: Sequence[Package] = PACKAGES) -> dict[str, Any]:
    """
    Return what is made up in real sound without warnings, and what is named of those there are.

    Parameters
    ----------
    folder
        Holds the packages, each unpacked to a folder of its name.
    split
        ``val`` or ``test``.

    Raises
    ------
    SoundError
        If none of the packages of the split is there.

    """
    wanted = [package for package in packages if package.split == split]
    there = [package for package in wanted if (folder / package.name).is_dir()]
    if not there:
        names = ' '.join(package.name for package in wanted)
        raise SoundError(f'{folder} has none of the packages of {split}: {names}')
    files: list[dict[str, Any]] = []
    sirens: list[Track] = []
    traffic: list[Samples] = []
    for number, package in enumerate(there):
        for track in tracks_of(package, folder / package.name, {*KINDS, *NOTHING}):
            progress(number / len(there), package.name)
            files.append(_row(track, hear(network, track.samples)))
            if track.kind == 'siren':
                sirens.append(track)
            elif track.kind == 'traffic':
                traffic.append(track.samples)
    noise = np.concatenate(traffic) if traffic else None
    named = [_siren(network, track, noise) for track in sirens]
    nothing = [row for row in files if row['kind'] in NOTHING]
    return {
        'split': split, 'missing': [package.name for package in wanted if package not in there],
        'packages': {package.name: package.version for package in there},
        'all': _made_up(nothing),
        'by_package': _grouped(nothing, 'package'), 'by_kind': _grouped(nothing, 'kind'),
        'warnings': {kind: _named(rows, kind) for kind in KINDS
                     if (rows := [row for row in files if row['kind'] == kind])},
        'sirens': named, 'thresholds': _thresholds(nothing, named), 'files': files}


def _row(track: Track, found: Found) -> dict[str, Any]:
    return {'package': track.package, 'path': track.path, 'kind': track.kind,
            'seconds': round(track.seconds, 2),
            'heard': [{'kind': event.kind, 'said_sec': round(said_sec, 2),
                       'start_sec': round(1e-9 * event.start_ns, 2),
                       'end_sec': round(1e-9 * event.end_ns, 2)}
                      for event, said_sec, _ in found.said],
            'siren_sec': _tried(found.siren)}


def _tried(siren: NDArray[np.float64]) -> dict[str, list[float]]:
    """Return when each threshold would name a siren, of those that would."""
    off_steps = THRESHOLDS['siren'].off_steps
    tried = {_key(on, steps): siren_secs(siren, Threshold(on, steps, off_steps))
             for on in ON for steps in STEPS}
    return {key: seconds for key, seconds in tried.items() if seconds}


def _key(on: float, steps: int) -> str:
    return f'{on} over {steps}'


def _siren(network: SoundNetwork, track: Track, traffic: Samples | None) -> dict[str, Any]:
    """Return whether a siren is named, alone and over traffic, and how long after its begin."""
    heard = {'alone': (hear(network, track.samples), 0.0)}
    if traffic is not None:
        for snr_db in SNR_DB:
            mixed = over_traffic(track.samples, traffic, snr_db)
            heard[f'{snr_db:.0f} dB'] = hear(network, mixed), _BEFORE_SEC
    row: dict[str, Any] = {'package': track.package, 'path': track.path,
                           'seconds': round(track.seconds, 2), 'after_sec': {}, 'tried': {}}
    for name, (found, begin_sec) in heard.items():
        said = found.said_sec('siren', begin_sec)
        row['after_sec'][name] = None if said is None else round(said - begin_sec, 2)
        row['tried'][name] = {
            key: round(min(after) - begin_sec, 2) for key, seconds in _tried(found.siren).items()
            if (after := [second for second in seconds if second > begin_sec])}
    return row


def _made_up(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the events of each kind in an hour of sound in which there is none."""
    hours = sum(row['seconds'] for row in rows) / 3600.0
    wrong = Counter(event['kind'] for row in rows for event in row['heard'])
    with_event = [bool(row['heard']) for row in rows]
    return {'files': len(rows), 'hours': hours,
            'events': {kind: wrong[kind] for kind in KINDS},
            'per_hour': {kind: wrong[kind] / hours if hours else 0.0 for kind in KINDS},
            'share_of_files': float(np.mean(with_event)) if rows else 0.0}


def _grouped(rows: list[dict[str, Any]], by: str) -> dict[str, Any]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row[by]].append(row)
    return {name: _made_up(group) for name, group in groups.items()}


def _named(rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return in how many files a kind was named, and in how many another."""
    names = [{event['kind'] for event in row['heard']} for row in rows]
    return {'n': len(rows), 'named': sum(kind in found for found in names),
            'others': dict(Counter(other for found in names for other in found - {kind}))}


def _thresholds(nothing: list[dict[str, Any]], sirens: list[dict[str, Any]]
                ) -> list[dict[str, Any]]:
    """Return for each threshold of a siren the false alarms in an hour and the sirens named."""
    hours = sum(row['seconds'] for row in nothing) / 3600.0
    tried = [found for row in sirens for found in row['tried'].values()]
    rows = []
    for on in ON:
        for steps in STEPS:
            key = _key(on, steps)
            alarms = [len(row['siren_sec'].get(key, ())) for row in nothing]
            rows.append({
                'on': on, 'steps': steps, 'per_hour': sum(alarms) / hours if hours else 0.0,
                'files_with': sum(map(bool, alarms)),
                'in_traffic': sum(number for number, row in zip(alarms, nothing, strict=True)
                                  if row['kind'] == 'traffic'),
                'alone': sum(key in row['tried']['alone'] for row in sirens),
                'named': sum(key in found for found in tried), 'of': len(tried)})
    return rows
