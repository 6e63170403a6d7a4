# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Videos for the tests, encoded here."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream
from bag_maker import picture
import numpy as np
from numpy.typing import NDArray

#: Ticks of a second in the videos made here.
CLOCK = 1000


def write_video(path: Path, times_ms: Sequence[int], codec: str = 'libx264',
                pictures: Sequence[NDArray[np.uint8]] = (), **options: str) -> Path:
    """Write a video with a picture at each time, drawn as those of the bags if none are given."""
    shown = pictures or [picture(number) for number in range(len(times_ms))]
    height, width = shown[0].shape[:2]
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=10, options={'crf': '12', **options})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        if codec == 'mjpeg':
            stream.pix_fmt = 'yuvj420p'
        stream.codec_context.time_base = stream.time_base = Fraction(1, CLOCK)
        for time_ms, rgb in zip(times_ms, shown, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, format='rgb24')
            frame.pts, frame.time_base = time_ms, Fraction(1, CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def packets(count: int, codec: str = 'libx264', gap: int = 5, **options: str) -> list[bytes]:
    """Return a packet per picture as cameras send them: no picture waits for a later one."""
    settings = {'tune': 'zerolatency', 'preset': 'veryfast', 'g': str(gap), 'crf': '12',
                'bf': '0'}
    if codec == 'libx265':
        settings['x265-params'] = f'keyint={gap}:bframes=0:repeat-headers=1:log-level=none'
    else:
        settings['x264-params'] = f'keyint={gap}:min-keyint={gap}:scenecut=0:repeat-headers=1'
    settings = {name: value for name, value in {**settings, **options}.items() if value}
    context = av.CodecContext.create(codec, 'w')
    assert isinstance(context, av.VideoCodecContext)
    height, width = picture(0).shape[:2]
    context.width, context.height, context.pix_fmt = width, height, 'yuv420p'
    context.time_base, context.options = Fraction(1, CLOCK), settings
    made: list[bytes] = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(picture(number), format='rgb24')
        frame.pts, frame.time_base = 200 * number, Fraction(1, CLOCK)
        made += [bytes(packet) for packet in context.encode(frame)]
    made += [bytes(packet) for packet in context.encode(None)]
    assert len(made) == count
    return made


def turn(path: Path, quarters: int) -> Path:
    """Have an MP4 say that its pictures are to be turned by so many quarters, clockwise."""
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters % 4]
    unit = 1 << 16
    matrix = (cosine * unit, sine * unit, 0, -sine * unit, cosine * unit, 0, 0, 0, 1 << 30)
    data = bytearray(path.read_bytes())
    # Behind name, version, times, number, length, reserved, layer, group and volume of the track.
    begin = data.index(b'tkhd') + 4 + 4 + 4 * 5 + 8 + 4 * 2
    data[begin:begin + 36] = b''.join(value.to_bytes(4, 'big', signed=True) for value in matrix)
    path.write_bytes(data)
    return path
