# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sound beside pictures: WAV files, audio tracks of videos, topics of recordings. No ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import av
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
import numpy as np

from vts_ros.errors import BagError, SoundError
from vts_ros.pipeline.frames import Frame
from vts_ros.sound.listener import Listener
from vts_ros.sound.pcm import AUDIO_INFO, Chunk, chunk_of, PcmFormat, SOUND_TYPES
from vts_ros.tools.bags import Bag, is_video_file

#: What asks for the sound of a video itself.
TRACK = 'track'
#: Yields the sound of a drive whose first picture has some stamp.
Sounds = Callable[[int], Iterator[Chunk]]


def has_sound(source: str | Path) -> bool:
    """Return whether a file has an audio track; False where it cannot be opened."""
    try:
        with av.open(str(source), options={'protocol_whitelist': 'file'}) as container:
            return any(stream.codec_context is not None for stream in container.streams.audio)
    except (FFmpegError, OSError, ValueError):
        return False


def read_sound(source: str | Path, begin_ns: int = 0) -> Iterator[Chunk]:
    """
    Yield the sound of a file, of all channels together.

    Parameters
    ----------
    source
        A WAV file, another one with sound, or a video. The time of a video is that of its first
        picture.
    begin_ns
        Stamp of the begin.

    Raises
    ------
    SoundError
        If it cannot be opened, or has no sound.

    """
    name = str(source)
    if not Path(name).exists():
        raise SoundError(f'{name} does not exist')
    try:
        container = av.open(name, options={'protocol_whitelist': 'file'})
    except (FFmpegError, OSError, ValueError) as error:
        raise SoundError(f'{name} has no sound that can be read: {error}') from error
    with container:
        if not container.streams.audio:
            raise SoundError(f'{name} has no sound')
        stream = container.streams.audio[0]
        if stream.codec_context is None or not stream.rate:
            raise SoundError(f'{name} has sound in a form that cannot be decoded')
        # Pictures count from the first of them, as in read_video.
        first = 0.0
        if container.streams.video:
            video = container.streams.video[0]
            first = float((video.start_time or 0) * (video.time_base or 0))
        # Not to one channel as well: what is alike in two would be louder, and clipped.
        floats = AudioResampler(format='fltp')
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                decoded = packet.decode() if packet else []
            except (FFmpegError, OSError) as error:
                if isinstance(error, OSError):
                    return
                continue
            if packet is None:
                return
            for frame in decoded:
                at_sec = frame.time or 0.0
                for part in floats.resample(frame):
                    samples = part.to_ndarray().mean(axis=0, dtype=np.float64)
                    yield Chunk(samples, stream.rate, begin_ns + round(1e9 * (at_sec - first)))


def read_sound_topic(bag: str | Path, topic: str, counters: Counter[str]) -> Iterator[Chunk]:
    """
    Yield the sound of a topic; messages that cannot be read are counted as ``refused sound``.

    Raises
    ------
    SoundError
        If there is no such topic, or it has no sound.

    """
    with Bag(bag) as opened:
        kinds = {connection.msgtype for connection in opened.connections
                 if connection.topic == topic}
        if not kinds & set(SOUND_TYPES):
            known = ', '.join(sorted(connection.topic for connection in opened.connections
                                     if connection.msgtype in SOUND_TYPES)) or 'no topic'
            raise SoundError(f'{bag} has no sound on {topic}; it has some on {known}')
        infos = {connection.topic for connection in opened.connections
                 if connection.msgtype == AUDIO_INFO}
        known_format = PcmFormat()
        try:
            for connection, received_ns, data in opened.messages({topic, *infos}):
                try:
                    message = opened.deserialize(data, connection.msgtype)
                    if connection.msgtype == AUDIO_INFO:
                        known_format = PcmFormat.of(message)
                    elif connection.msgtype in SOUND_TYPES:
                        yield chunk_of(message, known_format, received_ns)
                # Those of rosbags and of NumPy are of any kind.
                except Exception:
                    counters['refused sound'] += 1
        except BagError:
            # The pictures say that it is damaged.
            return


def sounds_of(source: Path, audio: str, counters: Counter[str]) -> Sounds:
    """
    Return where the sound of a drive comes from.

    Parameters
    ----------
    source
        The recording or video.
    audio
        A file with sound, which begins with the first picture; a topic of the recording; or TRACK.

    Raises
    ------
    SoundError
        If there is no such sound.

    """
    if audio == TRACK:
        if not is_video_file(source):
            raise SoundError(f'{source} is no video: give a WAV file, or a topic of the recording')
        if not has_sound(source):
            raise SoundError(f'{source} has no sound')
        return lambda begin_ns: read_sound(source, begin_ns)
    if not Path(audio).exists() and not is_video_file(source) and audio.startswith('/'):
        return lambda begin_ns: read_sound_topic(source, audio, counters)
    if not has_sound(audio):
        raise SoundError(f'{audio} does not exist' if not Path(audio).exists()
                         else f'{audio} has no sound that can be read')
    return lambda begin_ns: read_sound(audio, begin_ns)


def with_sound(frames: Iterable[Frame], sounds: Sounds, listener: Listener) -> Iterator[Frame]:
    """
    Yield frames, each when all was heard that came before it, and nothing that came after.

    Parameters
    ----------
    sounds
        Yields chunks on the clock of the frames, in the order of time.

    """
    sound: Iterator[Chunk] = iter(())
    chunk: Chunk | None = None
    is_first = True
    for frame in frames:
        if is_first:
            is_first, sound = False, sounds(frame.stamp_ns)
            chunk = next(sound, None)
        while chunk and chunk.stamp_ns + 1e9 * len(chunk.samples) / chunk.rate <= frame.stamp_ns:
            listener.hear(chunk)
            chunk = next(sound, None)
        yield frame
