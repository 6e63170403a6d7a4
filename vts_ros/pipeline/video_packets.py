# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures of a video, and the packets that cameras send one by one. Needs PyAV.

Each packet says what has changed since the one before. So every one is decoded, once; a picture
becomes RGB only where a window takes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
import re

import av
from av.codec.context import ThreadType
from av.error import FFmpegError
import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import FrameError
from vts_ros.pipeline.compressed_images import MAX_PIXELS
from vts_ros.pipeline.h264_numbers import PictureNumbers, UNIT
from vts_ros.rgb import check_rgb

#: What messages call a codec, by what FFmpeg calls it; with the names of encoders.
CODECS = {'h264': re.compile(r'h\.?264|x264|avc', re.IGNORECASE),
          'hevc': re.compile(r'h\.?265|x265|hevc', re.IGNORECASE)}
#: Kinds of units that nothing before is needed for.
_KEY_UNITS = {'h264': {5}, 'hevc': set(range(16, 22))}
#: So many packets without any picture are a stream that waits for nothing.
_MOST_DELAY = 32

# Damaged packets are told by their effect; FFmpeg would write a line for each. With any level PyAV
# takes the lines itself, for which a thread of a decoder waits for Python, and one that closes the
# decoder waits for that thread: both wait for ever.
av.logging.set_level(None)


@dataclass(frozen=True, eq=False)
class VideoPicture:
    """
    A picture of a video as the codec has it: converted when a window needs it, not before.

    Attributes
    ----------
    quarter_turns
        How often it is turned against the clock to stand upright.

    """

    decoded: av.VideoFrame
    quarter_turns: int = 0

    @cached_property
    def nbytes(self) -> int:
        """Return the size of its planes in bytes."""
        return sum(plane.buffer_size for plane in self.decoded.planes)

    def rgb(self) -> NDArray[np.uint8]:
        """Return the picture upright, uint8 (height, width, 3); raise FrameError if unusable."""
        if self.decoded.width * self.decoded.height > MAX_PIXELS:
            raise FrameError(f'picture of {self.decoded.width}x{self.decoded.height} px is larger '
                             f'than {MAX_PIXELS} px')
        try:
            rgb = self.decoded.to_ndarray(format='rgb24')
        except (FFmpegError, ValueError) as error:
            raise FrameError(f'picture cannot be converted: {error}') from error
        return check_rgb(np.ascontiguousarray(np.rot90(rgb, self.quarter_turns)))


def codec_of(name: str) -> str | None:
    """Return the codec that the format of a message names, None if it is none of ``CODECS``."""
    return next((codec for codec, pattern in CODECS.items() if pattern.search(name)), None)


def is_key(data: bytes, codec: str) -> bool:
    """Return whether a packet can be decoded without those before it."""
    for match in UNIT.finditer(data):
        unit = match[1][0]
        if (unit & 0x1f if codec == 'h264' else unit >> 1 & 0x3f) in _KEY_UNITS[codec]:
            return True
    return False


class NoKeyFrameError(FrameError):
    """A packet that cannot be decoded without ones that did not come."""


class PacketDecoder:
    """
    Decodes the video of one camera.

    It begins with the first packet that needs none before, and begins anew with the next of them
    where one was lost or is damaged: what comes between would be smeared.

    Parameters
    ----------
    codec
        One of ``CODECS``.

    Attributes
    ----------
    waits
        Whether packets are left out until one comes that needs none before.

    """

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.waits = True
        self._context = self._new_context()
        self._numbers = PictureNumbers() if codec == 'h264' else None
        self._stamps: dict[int, int] = {}
        self._number = 0

    def lost(self) -> None:
        """Take note that a packet is missing before the next one."""
        self.waits = True

    def decode(self, data: bytes, stamp_ns: int, is_wanted: bool = True
               ) -> Iterator[tuple[int, VideoPicture]]:
        """
        Yield the pictures that a packet completes, with their stamps: usually its own.

        Parameters
        ----------
        data
            The packet, Annex B.
        stamp_ns
            When its picture was taken.
        is_wanted
            Whether that picture is of use; one that is not, and that no other needs, is not
            decoded.

        Raises
        ------
        NoKeyFrameError
            If it is left out, as those before it are missing.
        FrameError
            If it cannot be decoded.

        """
        if self._numbers and self._numbers.lacks_one(data):
            self.waits = True
        if self.waits:
            if not is_key(data, self.codec):
                raise NoKeyFrameError('packet of a video without the ones before it')
            if self._number:
                self._context = self._new_context()
                self._stamps.clear()
            self.waits = False
        packet = av.Packet(data)
        self._number += 1
        packet.pts = packet.dts = self._number
        self._stamps[self._number] = stamp_ns
        self._context.skip_frame = 'DEFAULT' if is_wanted else 'NONREF'
        try:
            pictures = self._context.decode(packet)
        except (FFmpegError, OSError) as error:
            self.waits = True
            raise FrameError('damaged packet of a video') from error
        for picture in pictures:
            if not isinstance(picture, av.VideoFrame) or picture.is_corrupt:
                self.waits = True
                raise FrameError('damaged packet of a video')
            shown_ns = self._stamps.pop(picture.pts or self._number, stamp_ns)
            yield shown_ns, VideoPicture(picture)
        if len(self._stamps) > _MOST_DELAY:
            self._stamps.pop(next(iter(self._stamps)))

    def _new_context(self) -> av.VideoCodecContext:
        context = av.CodecContext.create(self.codec, 'r')
        assert isinstance(context, av.VideoCodecContext)
        # Threads for whole pictures would hold back as many of them.
        context.thread_type, context.thread_count = ThreadType.SLICE, 1
        context.options = {'err_detect': 'explode', 'flags': '+low_delay'}
        return context
