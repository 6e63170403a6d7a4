# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is heard in synthesised soundtracks that nothing was learned from, and what is made up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.sounds.hidden_vehicle import hidden_vehicle
from vts_ros.lab.sounds.moving_source import Pass
from vts_ros.lab.sounds.soundtrack import (
    Heard,
    LEARNED,
    Palette,
    SEEDS,
    Soundtrack,
    soundtrack,
    UNHEARD,
    VALIDATION,
)
from vts_ros.sound.listener import Listener
from vts_ros.sound.log_spectrum import SAMPLE_RATE
from vts_ros.sound.pcm import Chunk
from vts_ros.sound.sound_events import KINDS, SoundEvent
from vts_ros.sound.sound_network import SoundNetwork
from vts_ros.tools.audio_tracks import read_sound

#: Length of the soundtracks to judge by.
TRACK_SEC = 20.0
#: An event may be named this long after the sound has ended.
_LATE_SEC = 1.0
#: First numbers of the seeds of drives with and without a vehicle: as learned, other kinds.
_WITH, _WITHOUT = (41, 43), (51, 53)
#: A source comes closer or goes away where its distance changes by so much a second.
_MOVES_MPS = 3.0

Progress = Callable[[float, str], None]


class Said(NamedTuple):
    """An event as it was when it began, with when that was said, and as it ended."""

    event: SoundEvent
    said_sec: float
    trends: tuple[tuple[float, str], ...]


def share_with_interval(hits: Sequence[bool]) -> tuple[float, float, float]:
    """Return a share with its 95 % interval after Wilson, which is right near 0 and 1, too."""
    n, share, z = len(hits), sum(hits) / len(hits), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, max(0.0, middle - half), min(1.0, middle + half)


def listen(network: SoundNetwork, samples: NDArray[np.float64]) -> list[Said]:
    """Return what is heard in samples at SAMPLE_RATE."""
    said: dict[tuple[str, int], Said] = {}

    def note(event: SoundEvent) -> None:
        key, now_sec = (event.kind, event.start_ns), 1e-9 * listener.heard_ns
        before = said.get(key, Said(event, now_sec, ()))
        trends = before.trends if event.is_over else (*before.trends, (now_sec, event.trend))
        said[key] = Said(event, before.said_sec, trends)

    listener = Listener(network, note)
    for start in range(0, len(samples), SAMPLE_RATE):
        listener.hear(Chunk(samples[start:start + SAMPLE_RATE], SAMPLE_RATE,
                            round(1e9 * start / SAMPLE_RATE)))
    listener.begin(0, SAMPLE_RATE)
    return list(said.values())


def evaluate_sound(network: SoundNetwork, n: int, drives: int, split: str = 'test',
                   progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Judge a network by soundtracks with learned and with other kinds, by noise and by drives.

    Parameters
    ----------
    n
        Soundtracks of each part.
    drives
        Drives with a hidden vehicle for each part, and as many without.
    split
        ``test``, whose other kinds are those of ``soundtrack.UNHEARD``, or ``val``, where they are
        those of ``soundtrack.VALIDATION``.

    """
    seed = SEEDS[split]
    other = UNHEARD if split == 'test' else VALIDATION
    parts = {'learned': LEARNED, 'other': other}
    result: dict[str, Any] = {'n': n, 'split': split, 'track_sec': TRACK_SEC}
    for number, (part, palette) in enumerate(parts.items()):
        tracks = (soundtrack((seed, 10 + number, index), TRACK_SEC, palette, empty=0.0)
                  for index in range(n))
        result[part] = _recognised(network, _told(tracks, n, progress, number / 5, part))
        empty = (soundtrack((seed, 20 + number, index), TRACK_SEC, palette, empty=1.0)
                 for index in range(n))
        result[part]['noise'] = _made_up(network, _told(
            empty, n, progress, (number + 0.5) / 5, f'{part}, noise'))
    result['trend'] = _trends(network, seed, n, other, progress)
    result['drives'] = {
        part: judge_drives(network, seed, drives, palette, progress)
        for part, palette in parts.items()}
    return result


def _told(tracks: Iterator[Soundtrack], n: int, progress: Progress, begin: float, what: str
          ) -> Iterator[Soundtrack]:
    for number, track in enumerate(tracks):
        progress(begin + 0.1 * number / n, what)
        yield track


def _recognised(network: SoundNetwork, tracks: Iterator[Soundtrack]) -> dict[str, Any]:
    """Return how many sounds were named, how soon, and how many events were not there."""
    found: dict[str, list[bool]] = defaultdict(list)
    by_name: dict[str, list[bool]] = defaultdict(list)
    by_snr: dict[str, list[bool]] = defaultdict(list)
    delays: dict[str, list[float]] = defaultdict(list)
    wrong: Counter[str] = Counter()
    seconds = 0.0
    for track in tracks:
        seconds += len(track.samples) / SAMPLE_RATE
        said = listen(network, track.samples)
        for heard in track.heard:
            delay = _delay(heard, said)
            found[heard.kind].append(delay is not None)
            by_name[f'{heard.kind}: {heard.name}'].append(delay is not None)
            low = 5 * int(heard.snr_db // 5)
            by_snr[f'{low} to {low + 5} dB'].append(delay is not None)
            if delay is not None:
                delays[heard.kind].append(delay)
        wrong.update(event.event.kind for event in said
                     if not any(_is_of(event, heard) for heard in track.heard))
    return {
        'kinds': {kind: {'n': len(found[kind]), 'recall': share_with_interval(found[kind]),
                         'delay_sec': float(np.median(delays[kind])) if delays[kind] else None,
                         'wrong_per_hour': 3600.0 * wrong[kind] / seconds}
                  for kind in KINDS if found[kind]},
        'names': {name: {'n': len(hits), 'recall': float(np.mean(hits))}
                  for name, hits in sorted(by_name.items())},
        'snr': {name: {'n': len(hits), 'recall': float(np.mean(hits))}
                for name, hits in sorted(by_snr.items(), key=lambda item: int(
                    item[0].partition(' ')[0]))},
        'all': share_with_interval([hit for hits in found.values() for hit in hits])}


def _is_of(said: Said, heard: Heard) -> bool:
    event = said.event
    return event.kind == heard.kind and 1e-9 * event.start_ns <= heard.end_sec + _LATE_SEC and (
        1e-9 * event.end_ns >= heard.start_sec)


def _delay(heard: Heard, said: list[Said]) -> float | None:
    """Return how long after its begin a sound was named, None if it was not."""
    times = [event.said_sec - heard.start_sec for event in said if _is_of(event, heard)
             and event.said_sec <= heard.end_sec + _LATE_SEC]
    return max(0.0, min(times)) if times else None


def _made_up(network: SoundNetwork, tracks: Iterator[Soundtrack]) -> dict[str, Any]:
    """Return how many events of each kind are heard per hour where there is nothing."""
    wrong: Counter[str] = Counter()
    by_noise: dict[str, list[bool]] = defaultdict(list)
    seconds = 0.0
    for track in tracks:
        seconds += len(track.samples) / SAMPLE_RATE
        said = listen(network, track.samples)
        wrong.update(event.event.kind for event in said)
        for name in track.background:
            by_noise[name].append(bool(said))
    return {'hours': seconds / 3600.0,
            'per_hour': {kind: 3600.0 * wrong[kind] / seconds for kind in KINDS},
            'all_per_hour': 3600.0 * wrong.total() / seconds,
            'tracks_with': {name: {'n': len(hits), 'share': float(np.mean(hits))}
                            for name, hits in sorted(by_noise.items())}}


def _trends(network: SoundNetwork, seed: int, n: int, other: Palette, progress: Progress
            ) -> dict[str, Any]:
    """Return how often it is right that a siren comes closer or goes away, where that is said."""
    right: list[bool] = []
    could = 0
    for number in range(n):
        progress(0.4 + 0.1 * number / n, 'coming closer')
        track = soundtrack((seed, 30, number), TRACK_SEC, other if number % 2 else LEARNED,
                           empty=0.0)
        for heard in track.heard:
            if heard.kind != 'siren':
                continue
            for said in listen(network, track.samples):
                if not _is_of(said, heard):
                    continue
                # Once a second, as what is said twice in a row is one claim.
                for at_sec, trend in said.trends[::10]:
                    if not heard.start_sec + 4.0 <= at_sec <= heard.end_sec:
                        continue
                    truth = _moves(heard.source, at_sec)
                    could += bool(truth)
                    if trend:
                        right.append(trend == truth)
    return {'said': len(right), 'right': share_with_interval(right) if right else None,
            'said_of_moving': sum(right) / could if could else None}


def _moves(source: Pass, at_sec: float) -> str:
    """Return whether a source has come closer or gone away in the last four seconds."""
    far, near = source.distance_m(np.array([at_sec - 4.0, at_sec]))
    if abs(far - near) < 4.0 * _MOVES_MPS:
        return ''
    return 'closer' if near < far else 'away'


def judge_drives(network: SoundNetwork, seed: int, n: int, palette: Palette,
                 progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """Return how often a hidden vehicle is named before it is seen, and where there is none."""
    before: list[bool] = []
    ahead: list[float] = []
    by_name: dict[str, list[bool]] = defaultdict(list)
    false: list[bool] = []
    by_noise: dict[str, list[bool]] = defaultdict(list)
    place = 0 if palette is LEARNED else 1
    for number in range(n):
        progress(0.5 + 0.25 * (place + number / n), 'drives with a hidden vehicle')
        drive = hidden_vehicle((seed, _WITH[place], number), True, palette)
        times = [said.said_sec for said in listen(network, drive.samples)
                 if said.event.kind == 'siren']
        is_before = bool(times) and min(times) < drive.seen_sec
        before.append(is_before)
        by_name[drive.siren].append(is_before)
        by_name[drive.place].append(is_before)
        if is_before:
            ahead.append(drive.seen_sec - min(times))
        drive = hidden_vehicle((seed, _WITHOUT[place], number), False, palette)
        false.append(any(said.event.kind == 'siren' for said in listen(network, drive.samples)))
        for name in drive.noises:
            by_noise[name].append(false[-1])
    return {'n': n, 'named_before': share_with_interval(before),
            'ahead_sec': float(np.median(ahead)) if ahead else None,
            'false_alarms': share_with_interval(false),
            'names': {name: {'n': len(hits), 'named_before': float(np.mean(hits))}
                      for name, hits in sorted(by_name.items())},
            'noises': {name: {'n': len(hits), 'false_alarms': float(np.mean(hits))}
                       for name, hits in sorted(by_noise.items())}}


def false_alarms(network: SoundNetwork, recordings: Sequence[Path]) -> dict[str, Any]:
    """Return what is heard in files of real sound in which there is nothing to be heard."""
    found = {}
    for path in recordings:
        heard: dict[tuple[str, int], SoundEvent] = {}
        listener = Listener(network, lambda event, heard=heard: heard.update(  # type: ignore[misc]
            {(event.kind, event.start_ns): event}))
        seconds = 0.0
        for chunk in read_sound(path):
            seconds += len(chunk.samples) / chunk.rate
            listener.hear(chunk)
        found[path.name] = {'seconds': round(seconds, 2),
                            'heard': [event.text for event in heard.values()]}
    return found
