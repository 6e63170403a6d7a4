# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Samples of a microphone, from the messages that carry them, of rclpy as of rosbags.

Messages are known by their fields. Two packages are called ``audio_common_msgs``: that of
ros-drivers (``AudioData``, ``AudioDataStamped``, ``AudioInfo``), and another with
``AudioStamped``, which holds all in one message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import SoundError

AUDIO_STAMPED = 'audio_common_msgs/msg/AudioStamped'
AUDIO_DATA_STAMPED = 'audio_common_msgs/msg/AudioDataStamped'
AUDIO_DATA = 'audio_common_msgs/msg/AudioData'
AUDIO_INFO = 'audio_common_msgs/msg/AudioInfo'
RAW_AUDIO = 'foxglove_msgs/msg/RawAudio'
UINT8_ARRAY = 'std_msgs/msg/UInt8MultiArray'
#: Messages that hold sound, those that say most about it first.
SOUND_TYPES = (AUDIO_STAMPED, RAW_AUDIO, AUDIO_DATA_STAMPED, AUDIO_DATA, UINT8_ARRAY)
#: Of these the rate has to be said elsewhere.
BARE_TYPES = (AUDIO_DATA_STAMPED, AUDIO_DATA, UINT8_ARRAY)

#: Samples per second that a microphone may have.
RATES = (8000, 192_000)
#: A message that holds more is none of a microphone that somebody listens to.
MOST_SEC = 10.0

#: Fields of an AudioStamped with samples, and what full scale is in them.
_FIELDS = {'float32_data': 1.0, 'int32_data': 2.0 ** 31, 'int24_data': 2.0 ** 23,
           'int16_data': 2.0 ** 15, 'int8_data': 2.0 ** 7, 'uint8_data': 2.0 ** 7}
#: What a format of GStreamer or ALSA says: kind, bits, byte order.
_FORMAT = re.compile(r'([SUF])(8|16|24|32|64)(?:_?(LE|BE))?', re.IGNORECASE)


class Chunk(NamedTuple):
    """Samples, float64 with a full scale of 1, their rate (Hz) and the time of the first (ns)."""

    samples: NDArray[np.float64]
    rate: int
    stamp_ns: int


@dataclass(frozen=True)
class PcmFormat:
    """
    How samples are written where the message does not say it.

    Attributes
    ----------
    rate
        Samples per second.
    channels
        How many are interleaved.
    name
        Such as ``S16LE``.

    """

    rate: int = 16_000
    channels: int = 1
    name: str = 'S16LE'

    @classmethod
    def of(cls, info: Any) -> PcmFormat:
        """
        Return what an AudioInfo says.

        Raises
        ------
        SoundError
            If that is no plain PCM.

        """
        coding = str(info.coding_format)
        if coding.lower() not in ('', 'wave', 'wav', 'pcm', 'raw'):
            raise SoundError(f'sound comes as {coding}: have it sent as PCM (format:=wave of '
                             'audio_capture)')
        return cls(int(info.sample_rate), max(1, int(info.channels)), str(
            info.sample_format) or 'S16LE')


def chunk_of(message: Any, known: PcmFormat, now_ns: int) -> Chunk:
    """
    Return the samples of a message, of all channels together.

    Parameters
    ----------
    message
        Of one of SOUND_TYPES.
    known
        How samples are written, where the message does not say it.
    now_ns
        When it came, for one without a stamp: what it holds was heard just before.

    Raises
    ------
    SoundError
        If it cannot be read.

    """
    if hasattr(message, 'audio') and hasattr(message.audio, 'audio_data'):
        info = message.audio.info
        return _chunk(_typed(message.audio.audio_data), int(info.rate), int(info.channels),
                      _stamp_ns(message.header.stamp), now_ns)
    if hasattr(message, 'number_of_channels'):
        if message.format != 'pcm-s16':
            raise SoundError(f'sound comes as {message.format!r}, expected pcm-s16')
        return _chunk(_decoded(message.data, 'S16LE'), int(message.sample_rate),
                      int(message.number_of_channels), _stamp_ns(message.timestamp), now_ns)
    data = message.audio.data if hasattr(message, 'audio') else message.data
    stamp_ns = _stamp_ns(message.header.stamp) if hasattr(message, 'header') else 0
    return _chunk(_decoded(data, known.name), known.rate, known.channels, stamp_ns, now_ns)


def _chunk(samples: NDArray[np.float64], rate: int, channels: int, stamp_ns: int, now_ns: int
           ) -> Chunk:
    if not RATES[0] <= rate <= RATES[1]:
        raise SoundError(f'sound has {rate} samples per second, expected {RATES[0]} to {RATES[1]}')
    if channels < 1 or len(samples) % channels:
        raise SoundError(f'{len(samples)} samples are not those of {channels} channels')
    if len(samples) > MOST_SEC * rate * channels:
        raise SoundError(f'a message holds {len(samples) / rate / channels:.0f} s of sound, '
                         f'expected at most {MOST_SEC:g} s')
    mono = samples.reshape(-1, channels).mean(axis=1)
    return Chunk(mono, rate, stamp_ns or now_ns - round(1e9 * len(mono) / rate))


def _typed(data: Any) -> NDArray[np.float64]:
    """Return the samples of the only field that has some."""
    for name, full in _FIELDS.items():
        values: Sequence[float] = getattr(data, name, ())
        if len(values):
            samples = np.asarray(values, np.float64)
            return (samples - (full if name == 'uint8_data' else 0.0)) / full
    return np.zeros(0)


def _decoded(data: Any, name: str) -> NDArray[np.float64]:
    """Return samples that are written as bytes."""
    found = _FORMAT.fullmatch(name.strip())
    kind, bits = (found[1].upper(), int(found[2])) if found else ('', 0)
    if not found or (bits < 32 if kind == 'F' else bits > 32):
        raise SoundError(f'sound is written as {name!r}, expected one such as S16LE')
    raw = np.frombuffer(bytes(data), np.uint8)
    size = bits // 8
    if len(raw) % size:
        raise SoundError(f'{len(raw)} bytes are no whole samples of {bits} bits')
    big = (found[3] or 'LE').upper() == 'BE'
    if kind == 'F':
        return raw.view(f'{">" if big else "<"}f{size}').astype(np.float64)
    # As whole numbers of 32 bits, with the sample in the upper ones.
    words = np.zeros((len(raw) // size, 4), np.uint8)
    words[:, 4 - size:] = raw.reshape(-1, size)[:, ::-1 if big else 1]
    if kind == 'U':
        words[:, 3] ^= 0x80
    return words.view('<i4')[:, 0].astype(np.float64) / 2.0 ** 31


def _stamp_ns(stamp: Any) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
