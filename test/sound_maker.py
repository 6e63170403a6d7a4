# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sound for the tests: a siren in noise, as samples, as WAV, and beside pictures of a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
import wave

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from bag_maker import picture
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.sounds.noises import BACKGROUND
from vts_ros.lab.sounds.sirens import LEARNED

RATE = 16_000
Samples = NDArray[np.float64]


def siren_in_noise(seconds: float, begin_sec: float, end_sec: float, kind: str = 'wail',
                   seed: int = 0) -> Samples:
    """Return the noise of tyres with a siren from some time to another; full scale is 1."""
    rng = np.random.default_rng(seed)
    noise = BACKGROUND['tyres'](rng, int(seconds * RATE))
    sound = 0.02 * noise / noise.std()
    first = int(begin_sec * RATE)
    if end_sec > begin_sec:
        siren = LEARNED[kind](rng, end_sec - begin_sec)
        sound[first:first + len(siren)] += 0.1 * siren / siren.std()
    return sound.clip(-1.0, 1.0)


def int16(samples: Samples) -> NDArray[np.int16]:
    """Return samples as whole numbers of 16 bits."""
    return np.round(samples * 32767.0).astype('<i2')


def write_wav(path: Path, samples: Samples, rate: int = RATE, channels: int = 1) -> Path:
    """Write a WAV file, the same in all channels."""
    with wave.open(str(path), 'wb') as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(int16(samples), channels).tobytes())
    return path


def write_video_with_sound(path: Path, samples: Samples, pictures: int, step_ms: int) -> Path:
    """Write a video with an audio track in AAC."""
    with av.open(str(path), 'w') as container:
        video = container.add_stream('libx264', rate=10)
        audio = container.add_stream('aac', rate=RATE)
        assert isinstance(video, VideoStream)
        assert isinstance(audio, AudioStream)
        audio.layout = 'mono'
        video.height, video.width = picture(0).shape[:2]
        video.pix_fmt = 'yuv420p'
        video.codec_context.time_base = video.time_base = Fraction(1, 1000)
        for number in range(pictures):
            frame = av.VideoFrame.from_ndarray(picture(number), format='rgb24')
            frame.pts, frame.time_base = number * step_ms, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, len(samples), 1024):
            part = samples[start:start + 1024].astype(np.float32)
            sound = av.AudioFrame.from_ndarray(part[None], format='fltp', layout='mono')
            sound.sample_rate, sound.pts, sound.time_base = RATE, start, Fraction(1, RATE)
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path
