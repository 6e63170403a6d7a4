# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Videos: files of dashcams, and streams of cameras in a network. No ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
import re
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.error import FFmpegError

from vts_ros.errors import VideoError
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.video_packets import VideoPicture

#: What may stand before `://` in the address of a stream.
STREAMS = ('rtsp', 'rtsps', 'http', 'https', 'tcp', 'udp')
#: How long a stream may be silent.
STREAM_TIMEOUT_SEC = 10.0
#: FFmpeg opens addresses within files as well, such as playlists: they may name no other places.
_FILE_PROTOCOLS = 'file'
_STREAM_PROTOCOLS = 'rtsp,rtsps,http,https,tcp,tls,udp,rtp,crypto'

def picture_of(decoded: av.VideoFrame) -> VideoPicture:
    """Return a decoded picture, which stands as the container says."""
    return VideoPicture(decoded, round(decoded.rotation / 90) % 4)


def is_stream(source: str) -> bool:
    """Return whether this is the address of a stream and not a file."""
    return source.partition('://')[0].lower() in STREAMS and '://' in source


def shown(source: str | Path) -> str:
    """Return the address of a stream without user and password, or the file."""
    if not is_stream(str(source)):
        return str(source)
    parts = urlsplit(str(source))
    place = parts.netloc.rpartition('@')[2]
    return f'{parts.scheme}://{place}{parts.path}'


def camera_of(source: str | Path) -> str:
    """Return what the camera of a video is called: the name of the file or of the machine."""
    name = urlsplit(str(source)).hostname if is_stream(str(source)) else Path(source).stem
    return re.sub(r'\W+', '_', name or '').strip('_') or 'video'


@contextmanager
def opened(source: str | Path) -> Iterator[InputContainer]:
    """
    Open a video.

    Raises
    ------
    VideoError
        If it cannot be opened or has no pictures.

    """
    name = str(source)
    options: dict[str, str] = {'protocol_whitelist': _FILE_PROTOCOLS}
    timeout: float | None = None
    if is_stream(name):
        options['protocol_whitelist'] = _STREAM_PROTOCOLS
        timeout = STREAM_TIMEOUT_SEC
        if name.startswith('rtsp'):
            # Over UDP every packet that is lost spoils pictures up to the next whole one.
            options['rtsp_transport'] = 'tcp'
    elif not Path(name).exists():
        raise VideoError(f'{name} does not exist')
    try:
        container = av.open(name, options=options, timeout=timeout)
    except (FFmpegError, OSError, ValueError) as error:
        what = 'is no video that can be read'
        if is_stream(name):
            what = 'cannot be reached, or is no video'
        raise VideoError(f'{shown(name)} {what}: {_reason(error)}') from error
    with container:
        if not container.streams.video:
            raise VideoError(f'{shown(name)} has no pictures')
        yield container


def read_video(source: str | Path, counters: Counter[str] | None = None) -> Iterator[Frame]:
    """
    Yield the pictures of a video in the order in which they are shown.

    Every packet is decoded once, as later pictures are made from earlier ones; a picture becomes
    RGB only where a window takes it. Stamps are the time in the video in nanoseconds, so that of
    a variable frame rate, too.

    Parameters
    ----------
    source
        A file, or the address of a stream.
    counters
        Where to count ``frames``, and places that are ``damaged``, as far as the decoder says so:
        the readers of some containers (Matroska) jump over damage in silence.

    Raises
    ------
    VideoError
        If it cannot be opened or nothing in it can be decoded.

    """
    counters = Counter() if counters is None else counters
    camera = camera_of(source)
    failure: Exception | None = None
    found = 0
    with opened(source) as container:
        for decoded, error in _decoded(container, is_stream(str(source))):
            if decoded is None:
                failure = failure or error
                counters['damaged'] += 1
                continue
            found += 1
            counters['frames'] += 1
            yield Frame(camera, decoded[0], picture_of(decoded[1]))
    if not found:
        reason = f': {_reason(failure)}' if failure else ''
        raise VideoError(f'no picture of {shown(source)} can be decoded{reason}')


def _decoded(container: InputContainer, is_live: bool
             ) -> Iterator[tuple[tuple[int, av.VideoFrame] | None, Exception | None]]:
    """Yield stamp (ns) and picture, or what was in the way of one."""
    stream = container.streams.video[0]
    # Threads for whole pictures are faster, and hold back as many of them.
    stream.thread_type = 'SLICE' if is_live else 'AUTO'
    rate = stream.average_rate or stream.guessed_rate
    step_ns = round(1e9 / rate) if rate else 40_000_000
    start_ns: int | None = None
    last_ns = -step_ns
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            pictures = packet.decode()
        except (FFmpegError, OSError) as error:
            yield None, error
            if isinstance(error, OSError):
                return
            continue
        for picture in pictures:
            if not isinstance(picture, av.VideoFrame) or picture.is_corrupt:
                yield None, VideoError('a picture is damaged')
                continue
            stamp_ns = last_ns + step_ns
            if picture.pts is not None and picture.time_base is not None:
                at_ns = int(picture.pts * picture.time_base * 1_000_000_000)
                start_ns = at_ns if start_ns is None else start_ns
                stamp_ns = at_ns - start_ns
            last_ns = stamp_ns
            yield (stamp_ns, picture), None


def video_info(source: str | Path) -> Mapping[str, str]:
    """Return codec, size and rate of a video, for people; raise VideoError as `opened`."""
    with opened(source) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        return {'codec': stream.codec_context.name,
                'size': f'{stream.codec_context.width}x{stream.codec_context.height}',
                'rate': f'{float(rate):.3g} Hz' if rate else 'variable rate'}


def _reason(error: Exception) -> str:
    return getattr(error, 'strerror', None) or str(error) or type(error).__name__
