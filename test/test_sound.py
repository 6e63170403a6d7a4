# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Samples to events: the spectrogram, the formats, the network in steps, and broken sound."""

from __future__ import annotations

from pathlib import Path
import re
import shutil
from types import SimpleNamespace as Message
from typing import Any

from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from numpy.typing import NDArray
import onnx
import pytest
from sound_maker import int16, RATE, Samples, siren_in_noise

from vts_ros.errors import SoundError
from vts_ros.pipeline.sound_sense import event_of
from vts_ros.sound.listener import Listener
from vts_ros.sound.log_spectrum import (
    band_edges_hz,
    BANDS,
    FLOOR_DB,
    LogSpectrum,
    Resampler,
    SAMPLE_RATE,
    STEP_FRAMES,
    STEP_SAMPLES,
)
from vts_ros.sound.pcm import Chunk, chunk_of, PcmFormat
from vts_ros.sound.sound_events import EventDetector, KINDS, SoundEvent
from vts_ros.sound.sound_network import SoundNetwork

MODEL = ROOT / 'models' / 'sound' / 'hear.onnx'
STAMP = Message(sec=7, nanosec=500_000_000)
STAMP_NS = 7_500_000_000
KNOWN = PcmFormat()


@pytest.fixture(scope='module')
def network() -> SoundNetwork:
    return SoundNetwork()


def heard(network: SoundNetwork, chunks: list[Chunk]) -> tuple[list[SoundEvent], Listener]:
    """Return all that was said of chunks, and who said it."""
    said: list[SoundEvent] = []
    network.begin()
    listener = Listener(network, said.append)
    for chunk in chunks:
        listener.hear(chunk)
    return said, listener


def in_chunks(samples: Samples, sizes: list[int], rate: int = RATE, begin_ns: int = 0
              ) -> list[Chunk]:
    """Cut samples into chunks of these sizes, again and again."""
    chunks, start, number = [], 0, 0
    while start < len(samples):
        size = sizes[number % len(sizes)]
        chunks.append(Chunk(samples[start:start + size], rate,
                            begin_ns + round(1e9 * start / rate)))
        start, number = start + size, number + 1
    return chunks


def test_a_tone_is_in_its_band_at_its_level() -> None:
    at = np.arange(STEP_SAMPLES) / SAMPLE_RATE
    for hz in (440.0, 1000.0, 3000.0):
        spectrum = LogSpectrum()
        spectrum.step(np.sin(2.0 * np.pi * hz * at))
        # Of whole periods, so that it goes on from step to step.
        level = spectrum.step(np.sin(2.0 * np.pi * hz * at))
        assert level.shape == (STEP_FRAMES, BANDS)
        band = int(level[2].argmax())
        edges = band_edges_hz()
        assert edges[band] < hz < edges[band + 2]
        assert -4.0 < level[2].max() < 4.0
    assert np.allclose(LogSpectrum().step(np.zeros(STEP_SAMPLES)), FLOOR_DB)


@pytest.mark.parametrize('rate', [8000, 22_050, 44_100, 48_000, 96_000])
def test_other_rates_sound_the_same(rate: int) -> None:
    at = np.arange(2 * rate) / rate
    found = np.concatenate(list(Resampler(rate).add(np.sin(2.0 * np.pi * 1000.0 * at))))
    expected = np.sin(2.0 * np.pi * 1000.0 * np.arange(len(found)) / SAMPLE_RATE)
    assert len(found) >= 2 * SAMPLE_RATE - 2 * STEP_SAMPLES
    # The first samples have silence before them.
    assert np.abs(found - expected)[100:].max() < 1e-3
    if rate > SAMPLE_RATE:
        # What 16 kHz cannot hold must not come back as something else.
        high = np.concatenate(list(Resampler(rate).add(np.sin(2.0 * np.pi * 9500.0 * at))))
        assert np.abs(high[100:]).max() < 0.02


@given(st.lists(st.integers(100, 9000), min_size=1, max_size=12),
       st.sampled_from([16_000, 44_100, 48_000]))
def test_chunks_make_no_difference_in_any_bit(sizes: list[int], rate: int) -> None:
    samples = np.random.default_rng(rate).normal(0.0, 0.1, rate)
    whole, cut = Resampler(rate), Resampler(rate)
    spectrum, spectrum_cut = LogSpectrum(), LogSpectrum()
    expected = [spectrum.step(step) for step in whole.add(samples)]
    found = [spectrum_cut.step(step) for chunk in in_chunks(samples, sizes, rate)
             for step in cut.add(chunk.samples)]
    assert len(expected) == 9
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('rate', [16_000, 48_000])
def test_events_of_chunks_are_those_of_the_whole(network: SoundNetwork, rate: int) -> None:
    samples = siren_in_noise(8.0, 2.0, 6.0)
    if rate != RATE:
        samples = np.interp(np.arange(8 * rate) / rate, np.arange(8 * RATE) / RATE, samples)
    expected, _ = heard(network, [Chunk(samples, rate, 0)])
    assert {event.kind for event in expected} == {'siren'}
    for sizes in ([160], [4096], [1, 5000, 37]):
        found, listener = heard(network, in_chunks(samples, sizes, rate))
        assert found == expected
        assert listener.counters['gaps'] == listener.counters['back'] == 0


def test_a_siren_is_named_with_its_time(network: SoundNetwork) -> None:
    said, listener = heard(network, in_chunks(
        siren_in_noise(12.0, 3.0, 8.0), [1600], begin_ns=STAMP_NS))
    assert {event.kind for event in said} == {'siren'}
    last = said[-1]
    assert last.is_over
    assert 3.0 - 0.6 <= 1e-9 * (last.start_ns - STAMP_NS) <= 4.5
    assert 7.5 <= 1e-9 * (last.end_ns - STAMP_NS) <= 9.0
    assert last.confidence > 0.6
    # That it begins does not mean that it comes.
    assert {event.trend for event in said} == {''}
    assert re.fullmatch('siren for [456] s', last.text)
    assert listener.counters == {'steps': 119}


def test_noise_alone_is_nothing(network: SoundNetwork) -> None:
    said, _ = heard(network, in_chunks(siren_in_noise(20.0, 20.0, 20.0), [1600]))
    assert not said


def test_the_shipped_network_is_small() -> None:
    weights = sum(int(np.prod(tensor.dims)) for tensor in onnx.load(MODEL).graph.initializer)
    assert 20_000 < weights < 50_000
    assert MODEL.stat().st_size < 400_000


def test_another_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = shutil.copy(ROOT / 'models' / 'proposal' / 'window.onnx', tmp_path / 'hear.onnx')
    with pytest.raises(SoundError, match='is no network that hears siren, horn'):
        SoundNetwork(Path(other))
    monkeypatch.setattr('vts_ros.sound.sound_network.SHIPPED', 'sound/missing.onnx')
    with pytest.raises(SoundError, match='vts train sound makes it'):
        SoundNetwork()


def test_gaps_and_time_going_back_are_new_beginnings(network: SoundNetwork) -> None:
    samples = siren_in_noise(8.0, 1.0, 8.0)
    first = in_chunks(samples, [1600], begin_ns=100_000_000_000)
    for away_sec, counter in ((20.0, 'gaps'), (-50.0, 'back')):
        moved = [chunk._replace(stamp_ns=chunk.stamp_ns + round(1e9 * (8.0 + away_sec)))
                 for chunk in first]
        said, listener = heard(network, first + moved)
        assert listener.counters[counter] == 1
        starts = sorted({event.start_ns for event in said})
        assert len(starts) == 2
        # Nothing is remembered: the same again is heard in the same way.
        again = [event for event in said if event.start_ns == starts[away_sec > 0]]
        assert [event.confidence for event in again] == [
            event.confidence for event in heard(network, first)[0]]
        # What went on has ended with the last sound before.
        ends = [event for event in said if event.is_over]
        assert len(ends) == 1
        assert ends[0].end_ns <= 108_000_000_000
    jitter = [chunk._replace(stamp_ns=chunk.stamp_ns + 50_000_000 * (number % 3))
              for number, chunk in enumerate(first)]
    assert heard(network, jitter)[1].counters['gaps'] == 0
    other_rate = [first[0], first[1]._replace(rate=8000)]
    assert heard(network, other_rate)[1].counters['gaps'] == 1


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_no_sample_spoils_nothing_that_follows(network: SoundNetwork, bad: float) -> None:
    samples = siren_in_noise(10.0, 4.0, 9.0)
    samples[80_000:81_000] = bad
    said, listener = heard(network, in_chunks(samples, [1600]))
    assert listener.counters['broken'] == (0 if np.isfinite(bad) else 1)
    assert 'siren' in {event.kind for event in said}
    assert all(np.isfinite(event.confidence) for event in said)
    assert said[-1].end_ns > 8_500_000_000
    # It neither came nor went.
    assert {event.trend for event in said} == {''}


def test_silence_is_nothing_and_what_follows_is_heard(network: SoundNetwork) -> None:
    said, _ = heard(network, in_chunks(
        np.concatenate([np.zeros(5 * RATE), siren_in_noise(6.0, 1.0, 6.0)]), [1600]))
    assert {event.kind for event in said} == {'siren'}
    assert min(event.start_ns for event in said) > 5_000_000_000


def steps(values: list[float], kind: str = 'siren', level: float = -30.0, rise: float = 0.0
          ) -> list[SoundEvent]:
    """Return what is said of probabilities, with levels that rise by so many dB per second."""
    detector = EventDetector()
    said = []
    for number, value in enumerate(values):
        found = np.full((STEP_FRAMES, BANDS), level + 0.1 * rise * number, np.float32)
        said += detector.step([value if kind == other else 0.0 for other in KINDS], found,
                              number * 100_000_000, (number + 1) * 100_000_000)
    return said + detector.end()


def test_an_event_needs_several_steps_and_bridges_short_pauses() -> None:
    assert not steps([0.0] * 10 + [1.0] * 2 + [0.0] * 30)
    said = steps([0.0] * 10 + [1.0] * 10 + [0.0] * 8 + [1.0] * 10 + [0.0] * 30)
    assert len({event.start_ns for event in said}) == 1
    assert said[-1].is_over
    # Some of the steps that decide may be just before it.
    assert 700_000_000 <= said[-1].start_ns <= 1_100_000_000
    assert said[-1].end_ns == 3_800_000_000
    apart = steps([1.0] * 10 + [0.0] * 30 + [1.0] * 10 + [0.0] * 30)
    assert len({event.start_ns for event in apart}) == 2
    # At the end of the sound, what goes on is over.
    assert steps([1.0] * 20)[-1].is_over


@pytest.mark.parametrize(('rise', 'trend', 'words'), [
    (3.0, 'closer', 'siren for 8 s, coming closer'), (-3.0, 'away', 'siren for 8 s, going away'),
    (0.3, '', 'siren for 8 s')])
def test_a_siren_that_becomes_louder_comes_closer(rise: float, trend: str, words: str) -> None:
    last = steps([1.0] * 80, rise=rise)[-2]
    assert (last.trend, last.text) == (trend, words)
    assert steps([1.0] * 80, 'horn', rise=rise)[-2].trend == ''
    # Too short to know.
    assert steps([1.0] * 30, rise=rise)[-2].trend == ''


def test_an_event_moves_tokens_and_is_told_only_where_that_is_wanted() -> None:
    heard = SoundEvent('siren', 5, 2_000_000_005, 0.9, 'closer')
    event = event_of(heard, moves_tokens=True, is_told=True)
    assert (event.kind, event.start_ns, event.end_ns) == ('siren', 5, 2_000_000_005)
    assert (event.strength, event.is_told) == (0.9, True)
    assert event.sentence == 'Heard: siren for 2 s, coming closer.'
    assert event_of(heard, moves_tokens=False, is_told=True).strength == 0.0
    assert not event_of(heard, moves_tokens=True, is_told=False).is_told


def stamped(**fields: Any) -> Message:
    """Return an AudioStamped with samples in one of its fields."""
    info = Message(rate=fields.pop('rate', 16_000), channels=fields.pop('channels', 1))
    empty: dict[str, Any] = {
        'float32_data': [], 'int32_data': [], 'int16_data': [], 'int8_data': [],
        'uint8_data': []}
    return Message(header=Message(stamp=STAMP), audio=Message(
        audio_data=Message(**{**empty, **fields}), info=info))


WAVE = np.array([0.0, 0.5, -0.5, 0.25])


@pytest.mark.parametrize(('message', 'steps'), [
    (stamped(float32_data=WAVE.astype(np.float32)), 1e-7),
    (stamped(int16_data=int16(WAVE)), 1e-4),
    (stamped(int32_data=(WAVE * 2 ** 31).astype(np.int64)), 1e-8),
    (stamped(int8_data=(WAVE * 127).astype(np.int8)), 1e-2),
    (stamped(uint8_data=(WAVE * 127 + 128).astype(np.uint8)), 1e-2),
    (Message(timestamp=STAMP, data=int16(WAVE).tobytes(), format='pcm-s16', sample_rate=16_000,
             number_of_channels=1), 1e-4),
    (Message(header=Message(stamp=STAMP), audio=Message(data=int16(WAVE).tobytes())), 1e-4),
])
def test_samples_of_messages(message: Any, steps: float) -> None:
    chunk = chunk_of(message, KNOWN, 0)
    assert (chunk.rate, chunk.stamp_ns) == (16_000, STAMP_NS)
    np.testing.assert_allclose(chunk.samples, WAVE, atol=steps)


@pytest.mark.parametrize(('name', 'data'), [
    ('S16LE', int16(WAVE)), ('S16BE', int16(WAVE).astype('>i2')),
    ('S32LE', (WAVE * (2 ** 31 - 1)).astype('<i4')), ('F32LE', WAVE.astype('<f4')),
    ('F32BE', WAVE.astype('>f4')), ('F64LE', WAVE), ('S8', (WAVE * 127).astype(np.int8)),
    ('U8', (WAVE * 127 + 128).astype(np.uint8)), ('s16_le', int16(WAVE)),
    ('S24LE', np.frombuffer(b''.join(
        int(value * (2 ** 23 - 1)).to_bytes(3, 'little', signed=True) for value in WAVE),
        np.uint8))])
def test_samples_as_bytes(name: str, data: NDArray[Any]) -> None:
    chunk = chunk_of(Message(data=data.tobytes()), PcmFormat(name=name), STAMP_NS)
    np.testing.assert_allclose(chunk.samples, WAVE, atol=1e-2)
    # Without a stamp, it was heard just before it came.
    assert chunk.stamp_ns == STAMP_NS - 250_000


def test_channels_are_heard_together() -> None:
    chunk = chunk_of(stamped(float32_data=[0.2, 0.4, -0.2, 0.0], channels=2), KNOWN, 0)
    np.testing.assert_allclose(chunk.samples, [0.3, -0.1])


@pytest.mark.parametrize(('message', 'known', 'reason'), [
    (Message(data=b'abc'), KNOWN, '3 bytes are no whole samples of 16 bits'),
    (Message(data=b'abcd'), PcmFormat(name='MP3'), "written as 'MP3', expected one such as"),
    (Message(data=b'abcd'), PcmFormat(name='F16LE'), "written as 'F16LE'"),
    (Message(data=b'abcd'), PcmFormat(rate=0), 'has 0 samples per second'),
    (Message(data=b'abcdef'), PcmFormat(channels=2), '3 samples are not those of 2 channels'),
    (stamped(int16_data=np.zeros(16_000 * 11)), KNOWN, 'a message holds 11 s'),
    (stamped(int16_data=[1], rate=-5), KNOWN, 'has -5 samples per second'),
    (Message(timestamp=STAMP, data=b'', format='opus', sample_rate=1, number_of_channels=1), KNOWN,
     "comes as 'opus'"),
])
def test_what_cannot_be_heard_is_one_line(message: Any, known: PcmFormat, reason: str) -> None:
    with pytest.raises(SoundError, match=reason) as error:
        chunk_of(message, known, 0)
    assert '\n' not in str(error.value)


def test_the_format_is_what_audio_info_says() -> None:
    info = Message(channels=2, sample_rate=44_100, sample_format='S16LE', bitrate=0,
                   coding_format='wave')
    assert PcmFormat.of(info) == PcmFormat(44_100, 2, 'S16LE')
    info.coding_format = 'mp3'
    with pytest.raises(SoundError, match='sound comes as mp3: have it sent as PCM'):
        PcmFormat.of(info)
