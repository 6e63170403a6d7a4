# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The video of a drive, in which every answer stays while it is the newest."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from vts_ros.tools.pictures import Picture

#: Frames per second of the video; an answer stays until the next one, as it did in the drive.
VIDEO_FPS = 10
MAX_HOLD_SEC = 5.0
LAST_HOLD_SEC = 1.0
#: H.264 is what every browser plays. Small text must stay readable.
CODEC, QUALITY = 'libx264', {'crf': '23', 'preset': 'veryfast'}


class AnswerVideo:
    """MP4 in which every answer stays for as long as it was the newest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._pending: tuple[Picture, int] | None = None

    def __enter__(self) -> AnswerVideo:
        """Begin; the file is made with the first picture."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the last picture, unless there was an error, and close the file."""
        try:
            if self._pending and kind is None:
                self._write(self._pending[0], LAST_HOLD_SEC)
                self._encode(None)
        finally:
            if self._container:
                self._container.close()

    def add(self, picture: Picture, stamp_ns: int) -> None:
        """Show a picture from this stamp on."""
        if self._pending:
            hold_sec = 1e-9 * (stamp_ns - self._pending[1])
            self._write(self._pending[0], min(hold_sec, MAX_HOLD_SEC))
        self._pending = picture, stamp_ns

    def _write(self, picture: Picture, hold_sec: float) -> None:
        if self._container is None:
            self._open(picture.shape[1], picture.shape[0])
        # Converted once, however long it stays.
        frame = av.VideoFrame.from_ndarray(picture, format='rgb24').reformat(format='yuv420p')
        for _ in range(max(1, round(hold_sec * VIDEO_FPS))):
            frame.pts = None  # it is given the next one
            self._encode(frame)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """Write a picture; None what the encoder still holds."""
        assert self._container is not None
        assert self._stream is not None
        try:
            self._container.mux(self._stream.encode(frame))
        except FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error

    def _open(self, width: int, height: int) -> None:
        # With the index in front, a browser plays it while it loads.
        self._container = av.open(str(self._path), 'w', options={'movflags': '+faststart'})
        try:
            stream = self._container.add_stream(CODEC, rate=VIDEO_FPS, options=QUALITY)
        except (FFmpegError, ValueError) as error:
            raise OSError(f'this PyAV has no encoder for H.264 ({CODEC})') from error
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        self._stream = stream
