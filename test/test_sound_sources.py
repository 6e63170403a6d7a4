# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sound beside recorded pictures: WAV, the track of a video, a topic; and what is broken there."""

from __future__ import annotations

from collections import Counter
import json
from pathlib import Path
from typing import Any

from all_commands import app
from bag_maker import compressed, COMPRESSED_TOPIC, drive, header, jpeg, picture, times, write
import numpy as np
import pytest
from sound_maker import int16, RATE, Samples, siren_in_noise, write_video_with_sound, write_wav
from typer.testing import CliRunner
from video_maker import write_video

from vts_ros.errors import SoundError
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.sound_sense import new_listener
from vts_ros.sound.pcm import AUDIO_DATA_STAMPED, AUDIO_INFO, Chunk
from vts_ros.tools.annotate import annotate, answers_to
from vts_ros.tools.audio_tracks import has_sound, read_sound, sounds_of, with_sound
from vts_ros.tools.bag_types import TYPESTORE

pytestmark = pytest.mark.slow

#: A drive of 12 s at 5 Hz, with a siren in its second half.
PICTURES, BEGIN_SEC = 60, 6.0
TOPIC, INFO_TOPIC = '/audio', '/audio_info'


@pytest.fixture(scope='module')
def siren() -> Samples:
    return siren_in_noise(0.2 * PICTURES, BEGIN_SEC, 0.2 * PICTURES)


@pytest.fixture(scope='module')
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Return a pipeline whose model is small and says nothing that can be read."""
    folder = tmp_path_factory.mktemp('model') / 'tiny'
    create_checkpoint(
        folder, ['a car ahead', 'brake'], vocab_size=600, text_hidden=64, text_layers=2,
        text_heads=2, text_intermediate=64, hidden_size=32, depth=2, num_heads=2,
        intermediate_size=64)
    return Pipeline.load(PipelineConfig(model=str(folder), max_new_tokens=4, keep_ratio=0.3))


Reports = list[dict[str, Any]]


def described(source: Path, pipeline: Pipeline, **options: Any) -> Reports:
    """Describe every other window: what is heard in between is heard all the same."""
    return [json.loads(report.to_json()) for _, report in answers_to(
        source, pipeline, Counter(), every=2, **options)]


def annotated(source: Path, out: Path, pipeline: Pipeline, **options: Any) -> Reports:
    """Have all files written as well, and read what is in them."""
    annotate(source, out, pipeline, every=2, **options)
    return [json.loads(line) for line in (out / 'answers.jsonl').read_text().splitlines()]


@pytest.fixture(scope='module')
def silent(tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline) -> tuple[Path, Reports]:
    """Return the drive without sound, and what is said of it."""
    bag = drive(tmp_path_factory.mktemp('silent') / 'bag', PICTURES)
    return bag, described(bag, pipeline)


def test_sound_of_a_wav_file(tmp_path: Path, siren: Samples) -> None:
    for rate, channels in ((RATE, 1), (44_100, 2)):
        at = np.arange(int(len(siren) / RATE * rate)) / rate
        wav = write_wav(tmp_path / f'{rate}.wav', np.interp(at, np.arange(len(siren)) / RATE,
                                                            siren), rate, channels)
        chunks = list(read_sound(wav, begin_ns=5))
        assert {chunk.rate for chunk in chunks} == {rate}
        assert chunks[0].stamp_ns == 5
        total = sum(len(chunk.samples) for chunk in chunks)
        assert total == len(at)
        expected = np.interp(at, np.arange(len(siren)) / RATE, siren)
        np.testing.assert_allclose(
            np.concatenate([chunk.samples for chunk in chunks]), expected, atol=1e-3)


@pytest.mark.parametrize('kind', ['wav', 'track', 'topic'])
def test_a_siren_beside_recorded_pictures(
        tmp_path: Path, pipeline: Pipeline, siren: Samples, kind: str,
        silent: tuple[Path, Reports]) -> None:
    """It is in the reports of its time, moves tokens there, and is told; before it nothing is."""
    source, plain = silent
    if kind == 'track':
        source = write_video_with_sound(tmp_path / 'drive.mp4', siren, PICTURES, 200)
        audio, begin_ns = 'track', 0
        plain = described(source, pipeline)
    elif kind == 'wav':
        audio, begin_ns = str(write_wav(tmp_path / 'siren.wav', siren)), times(1)[0]
    else:
        source, begin_ns = bag_with_sound(tmp_path / 'bag', siren), times(1)[0]
        audio = TOPIC
    heard = described(source, pipeline, audio=audio)
    assert len(plain) > 5
    assert [report['stamp'] for report in heard] == [report['stamp'] for report in plain]
    assert not any(report['events'] for report in plain)
    moved = 0
    for with_sound_, without in zip(heard, plain, strict=True):
        at_sec = 1e-9 * (with_sound_['stamp'] - begin_ns)
        kinds = {event['kind'] for event in with_sound_['events']}
        if at_sec < BEGIN_SEC - 1.0:
            assert not kinds
            assert with_sound_['tokens']['keep'] == without['tokens']['keep']
        elif at_sec > BEGIN_SEC + 2.0:
            assert kinds == {'siren'}
            assert all(event['told'] and event['strength'] > 0.5
                       for event in with_sound_['events'])
        assert len(with_sound_['tokens']['keep']) == len(without['tokens']['keep'])
        moved += with_sound_['tokens']['keep'] != without['tokens']['keep']
    # In windows with frames before it and in it.
    assert moved > 0


def test_either_use_is_switched_off_alone(
        tmp_path: Path, pipeline: Pipeline, siren: Samples, silent: tuple[Path, Reports]) -> None:
    bag, plain = silent
    wav = str(write_wav(tmp_path / 'siren.wav', siren))
    keep = [report['tokens']['keep'] for report in plain]
    told = annotated(bag, tmp_path / 'told', pipeline, audio=wav, moves_tokens=False)
    assert [report['tokens']['keep'] for report in told] == keep
    assert any(event['told'] for report in told for event in report['events'])
    moved = annotated(bag, tmp_path / 'moved', pipeline, audio=wav, is_told=False)
    assert [report['tokens']['keep'] for report in moved] != keep
    assert any(report['events'] for report in moved)
    assert not any(event['told'] for report in moved for event in report['events'])


def test_the_model_is_told_in_words(pipeline: Pipeline, siren: Samples, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / 'siren.wav', siren)
    frames = [Frame('front', 200_000_000 * number, picture(number)) for number in range(PICTURES)]
    pipeline.clear()
    listener = new_listener(pipeline.events.add, lambda: True, lambda: True)
    list(with_sound(frames, lambda begin_ns: read_sound(wav, begin_ns), listener))
    window = frames[-5:]
    prompt = pipeline.description_prompt(window, None, pipeline.events.near(
        [frame.stamp_ns for frame in window]))
    assert 'Heard: siren for ' in prompt.instruction
    early = pipeline.events.near([frame.stamp_ns for frame in frames[:5]])
    assert 'Heard' not in pipeline.description_prompt(frames[:5], None, early).instruction


def test_nothing_is_heard_before_its_time(siren: Samples, tmp_path: Path) -> None:
    """With each picture only what came before it was heard, as on the road."""
    wav = write_wav(tmp_path / 'siren.wav', siren)
    listener = new_listener(lambda event: None, lambda: True, lambda: True)
    frames = (Frame('front', 200_000_000 * number, b'') for number in range(20))
    for frame in with_sound(frames, lambda begin_ns: read_sound(wav, begin_ns), listener):
        assert listener.heard_ns <= frame.stamp_ns
        assert listener.heard_ns >= frame.stamp_ns - 250_000_000


def bag_with_sound(path: Path, samples: Samples, broken: int | None = None) -> Path:
    """Write a bag of pictures and sound, with what says how the samples are written."""
    types = TYPESTORE.types
    info = types[AUDIO_INFO](1, RATE, 'S16LE', 0, 'wave')
    messages = [(INFO_TOPIC, AUDIO_INFO, times(1)[0] - 1,
                 bytes(TYPESTORE.serialize_cdr(info, AUDIO_INFO)))]
    for number, stamp in enumerate(times(PICTURES)):
        messages.append((COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp, compressed(
            stamp, jpeg(picture(number)))))
        data = int16(samples[number * RATE // 5:(number + 1) * RATE // 5]).tobytes()
        if number == broken:
            data = data[:-1]
        sound = types[AUDIO_DATA_STAMPED](header(stamp), types['audio_common_msgs/msg/AudioData'](
            np.frombuffer(data, np.uint8)))
        messages.append((TOPIC, AUDIO_DATA_STAMPED, stamp + 200_000_000, bytes(
            TYPESTORE.serialize_cdr(sound, AUDIO_DATA_STAMPED))))
    return write(path, sorted(messages, key=lambda message: message[2]))


def test_a_broken_message_of_sound_is_counted(
        tmp_path: Path, siren: Samples, pipeline: Pipeline) -> None:
    bag = bag_with_sound(tmp_path / 'bag', siren, broken=3)
    counters: Counter[str] = Counter()
    chunks = list(sounds_of(bag, TOPIC, counters)(0))
    assert len(chunks) == PICTURES - 1
    assert counters == {'refused sound': 1}
    found = described(bag, pipeline, audio=TOPIC)
    assert len(found) > 5
    assert {event['kind'] for event in found[-1]['events']} == {'siren'}


@pytest.mark.parametrize('samples', [
    np.zeros(3 * RATE), np.random.default_rng(0).uniform(-1.0, 1.0, 3 * RATE), np.zeros(0)])
def test_sound_that_says_nothing_or_ends_early_stops_no_picture(
        tmp_path: Path, pipeline: Pipeline, samples: Samples, silent: tuple[Path, Reports]
        ) -> None:
    bag, plain = silent
    found = described(bag, pipeline, audio=str(write_wav(tmp_path / 'a.wav', samples)))
    assert [report['tokens']['keep'] for report in found] == [
        report['tokens']['keep'] for report in plain]


def test_a_damaged_track_stops_no_picture(
        tmp_path: Path, pipeline: Pipeline, siren: Samples) -> None:
    video = write_video_with_sound(tmp_path / 'drive.mkv', siren, PICTURES, 200)
    data = video.read_bytes()
    video.write_bytes(data[:2 * len(data) // 3])
    heard, plain = (described(video, pipeline, audio=audio) for audio in ('track', ''))
    assert len(heard) == len(plain) > 3


def test_chunks_with_wrong_times_stop_no_picture() -> None:
    """Backwards, far ahead, empty, and no numbers."""
    frames = [Frame('front', 200_000_000 * number, b'') for number in range(20)]
    bad = [Chunk(np.full(1600, np.nan), RATE, 0), Chunk(np.zeros(0), RATE, 100_000_000),
           Chunk(np.zeros(1600), RATE, -10 ** 18), Chunk(np.zeros(1600), 44_100, 10 ** 18),
           Chunk(np.zeros(1600), RATE, 0)]
    listener = new_listener(lambda event: None, lambda: True, lambda: True)
    assert list(with_sound(frames, lambda begin_ns: iter(bad), listener)) == frames


@pytest.mark.parametrize(('audio', 'reason'), [
    ('missing.wav', 'missing.wav does not exist'), ('text.wav', 'has no sound that can be read'),
    ('track', 'has no sound'), ('silent', 'is no video')])
def test_sound_that_is_not_there_is_one_line(tmp_path: Path, audio: str, reason: str) -> None:
    (tmp_path / 'text.wav').write_text('no sound')
    silent = write_video(tmp_path / 'silent.mp4', range(0, 500, 100))
    assert not has_sound(silent)
    source, given = silent, audio if audio == 'track' else str(tmp_path / audio)
    if audio == 'silent':
        source, given = drive(tmp_path / 'bag', 5), 'track'
    with pytest.raises(SoundError, match=reason):
        sounds_of(source, given, Counter())
    done = CliRunner().invoke(app, [
        'annotate', '--bag' if audio == 'silent' else '--video', str(source), '--audio', given,
        '--out', str(tmp_path / 'out')])
    assert done.exit_code == 1
    assert 'Traceback' not in done.output


def test_a_topic_without_sound_names_those_with_some(tmp_path: Path, siren: Samples) -> None:
    bag = bag_with_sound(tmp_path / 'bag', siren)
    with pytest.raises(SoundError, match=f'no sound on /radio; it has some on {TOPIC}'):
        list(sounds_of(bag, '/radio', Counter())(0))
