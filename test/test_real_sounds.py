# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Real sound: files of packages, what is made up in them, and thresholds tried on them."""

import json
from pathlib import Path
import struct
import wave

from all_commands import app
import numpy as np
import pytest
from typer.testing import CliRunner

from vts_ros.errors import SoundError
from vts_ros.lab.evaluation.real_sound_evaluation import (
    evaluate_real_sound,
    over_traffic,
    siren_secs,
)
from vts_ros.lab.evaluation.real_sound_tracks import (
    in_container,
    MOST_SEC,
    tracks_of,
)
from vts_ros.lab.evaluation.real_sounds import LEFT_OUT, NOTHING, Package, PACKAGES
from vts_ros.lab.sounds.sound_files import read_at_rate
from vts_ros.lab.sounds.waves import level_of
from vts_ros.sound.log_spectrum import SAMPLE_RATE, STEP_FRAMES, STEP_SEC
from vts_ros.sound.sound_events import EventDetector, KINDS, Threshold, THRESHOLDS
from vts_ros.sound.sound_network import SoundNetwork

PACKAGE = Package('some-data', '1.0', 'val', (
    ('*/siren.wav', 'siren'), ('*/bell*', 'bell'), ('*/road.wav', 'traffic'),
    ('*/left.wav', LEFT_OUT), ('*#Horn', 'horn'), ('*/*.wav', 'effects')))
SECONDS = {'siren': 6.0, 'road': 3.0, 'left': 4.0, 'short_a': 0.4, 'short_b': 0.6, 'long': 2.0}


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Write a WAV file of one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), 'wb') as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32000.0 * samples.clip(-1.0, 1.0)).astype('<i2').tobytes())


def wail(seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Return a siren that rises and falls."""
    at = np.arange(round(seconds * rate)) / rate
    hz = 1000.0 + 450.0 * np.sin(2.0 * np.pi * at / 4.0)
    phase = 2.0 * np.pi * np.cumsum(hz) / rate
    return 0.2 * (np.sin(phase) + np.sin(2.0 * phase) / 2.0 + np.sin(3.0 * phase) / 3.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an unpacked package, one file of another rate, and one in its list."""
    rng = np.random.default_rng(3)
    place = tmp_path / 'some-data' / 'usr' / 'share'
    for name, seconds in SECONDS.items():
        noise = 0.05 * rng.standard_normal(round(seconds * SAMPLE_RATE))
        write(place / f'{name}.wav', wail(seconds) if name == 'siren' else noise)
    write(place / 'bell.wav', 0.1 * rng.standard_normal(22050), 22050)
    (place / 'broken.wav').write_bytes(b'no sound at all')
    return tmp_path


def test_every_file_is_in_one_split_and_of_a_known_kind() -> None:
    """A package is to choose by or to judge by, and has a kind for each pattern."""
    assert len({package.name for package in PACKAGES}) == len(PACKAGES)
    for split in ('val', 'test'):
        kinds = {kind for package in PACKAGES if package.split == split
                 for _, kind in package.kinds}
        assert {'siren', 'horn', 'screech', 'crash', 'bell', *NOTHING} <= kinds
        assert kinds <= {*KINDS, *NOTHING, LEFT_OUT}


def test_sounds_of_a_package(folder: Path) -> None:
    """Short ones are joined, another rate is resampled, what cannot be read is left out."""
    tracks = {track.path.rpartition('/')[2]: track
              for track in tracks_of(PACKAGE, folder / PACKAGE.name, {*KINDS, *NOTHING})}
    assert set(tracks) == {'siren.wav', 'road.wav', 'long.wav', 'bell.wav', '2 short sounds'}
    assert tracks['siren.wav'].kind == 'siren'
    assert tracks['siren.wav'].seconds == 6.0
    # 0.4 and 0.6 s with a pause of half a second after each.
    assert tracks['2 short sounds'].seconds == pytest.approx(2.0)
    assert tracks['bell.wav'].seconds == pytest.approx(1.0)
    assert np.std(tracks['bell.wav'].samples) == pytest.approx(0.1 * 32000 / 32768, rel=0.4)


def test_long_files_are_cut(folder: Path) -> None:
    """Of a long file the first part is heard."""
    write(folder / 'long.wav', np.linspace(0.0, 1.0, round((MOST_SEC + 9.0) * 8000)), 8000)
    samples = read_at_rate(folder / 'long.wav', MOST_SEC)
    assert len(samples) == MOST_SEC * SAMPLE_RATE
    assert samples[-1] == pytest.approx(MOST_SEC / (MOST_SEC + 9.0), abs=0.03)


def test_container(folder: Path) -> None:
    """A container of OpenTTD gives its sounds by their titles, and nothing where it is broken."""
    write(folder / 'horn.wav', wail(1.5))
    sound = (folder / 'horn.wav').read_bytes()
    name = b'"Horn". By somebody.'
    data = struct.pack('<II', 8 | 1 << 31, len(sound)) + bytes([len(name)]) + name + sound
    assert list(in_container(data)) == [('Horn', sound)]
    (folder / PACKAGE.name / 'sounds.cat').write_bytes(data)
    tracks = list(tracks_of(PACKAGE, folder / PACKAGE.name, {'horn'}))
    assert [(track.path, track.seconds) for track in tracks] == [('sounds.cat#Horn', 1.5)]
    with pytest.raises(SoundError, match='no container'):
        list(in_container(b'abc'))


@pytest.mark.parametrize('snr_db', [10.0, 0.0])
def test_over_traffic(snr_db: float) -> None:
    """The siren begins after three seconds, and is as loud as asked."""
    traffic = 0.05 * np.random.default_rng(1).standard_normal(2 * SAMPLE_RATE)
    siren = wail(6.0)
    mixed = over_traffic(siren, traffic, snr_db)
    assert len(mixed) == 10 * SAMPLE_RATE
    before = mixed[:3 * SAMPLE_RATE]
    scale = np.linalg.lstsq(np.resize(traffic, len(before))[:, None], before, rcond=None)[0][0]
    heard = mixed[3 * SAMPLE_RATE:9 * SAMPLE_RATE] - scale * np.resize(
        traffic, len(mixed))[3 * SAMPLE_RATE:9 * SAMPLE_RATE]
    ratio = level_of(heard) / level_of(scale * np.resize(traffic, len(mixed)))
    assert 20.0 * np.log10(ratio) == pytest.approx(snr_db, abs=0.2)


def test_thresholds_are_tried_as_events_are_made() -> None:
    """What is tried on noted probabilities begins when the detector says so."""
    rng = np.random.default_rng(5)
    level = np.repeat(rng.uniform(0.0, 1.0, 120), rng.integers(2, 40, 120))
    siren = (0.5 + 0.5 * np.sign(level - 0.5) * rng.uniform(0.85, 1.0, len(level))).clip(0, 1)
    for threshold in (Threshold(0.9, 6, 15), Threshold(0.93, 10, 15), THRESHOLDS['siren']):
        detector = EventDetector({**THRESHOLDS, 'siren': threshold})
        begun: dict[int, float] = {}
        for number, probability in enumerate(siren):
            silent = np.full((STEP_FRAMES, _bands()), -60.0, np.float32)
            for event in detector.step([float(probability), 0.0, 0.0, 0.0, 0.0], silent,
                                       round(1e9 * STEP_SEC * number),
                                       round(1e9 * STEP_SEC * (number + 1))):
                begun.setdefault(event.start_ns, STEP_SEC * (number + 1))
        assert len(begun) > 2 or threshold.on > 0.95
        assert siren_secs(siren, threshold) == pytest.approx(list(begun.values()), abs=2e-3)
    assert siren_secs(np.zeros(0), THRESHOLDS['siren']) == []


def _bands() -> int:
    from vts_ros.sound import log_spectrum

    return log_spectrum.BANDS


def test_evaluation(folder: Path) -> None:
    """Warnings are no false alarms, what is left out does not count, and hours are right."""
    result = evaluate_real_sound(SoundNetwork(), folder, 'val', packages=[PACKAGE])
    assert result['all']['hours'] * 3600.0 == pytest.approx(3.0 + 2.0 + 2.0)
    assert set(result['by_kind']) == {'traffic', 'effects'}
    assert result['warnings']['siren']['n'] == result['warnings']['bell']['n'] == 1
    assert all('left.wav' not in row['path'] for row in result['files'])
    siren, = result['sirens']
    assert list(siren['after_sec']) == ['alone', '10 dB', '5 dB', '0 dB']
    # The shipped network has learned wails: this one is named, and no sooner than it can be.
    after = siren['after_sec']['alone']
    assert after is not None
    assert STEP_SEC * THRESHOLDS['siren'].steps <= after <= 6.0
    row = next(row for row in result['thresholds']
               if (row['on'], row['steps']) == (THRESHOLDS['siren'].on, THRESHOLDS['siren'].steps))
    assert row['alone'] == 1
    assert row['of'] == 4
    assert row['named'] == sum(value is not None for value in siren['after_sec'].values())
    assert row['per_hour'] == pytest.approx(result['all']['per_hour']['siren'])


def test_command(tmp_path: Path) -> None:
    """The command says what is missing, and refuses a folder with nothing."""
    refused = CliRunner().invoke(app, ['eval', 'sound', '--real', str(tmp_path)])
    assert refused.exit_code != 0
    place = tmp_path / 'micropolis-data' / 'usr'
    write(place / 'siren.wav', wail(4.0))
    write(place / 'park.wav', 0.01 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE))
    command = ['eval', 'sound', '--real', str(tmp_path), '--split', 'val']
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert 'missing: tuxpaint-stamps-default' in ' '.join(said.output.split())
    assert 'micropolis-data' in said.output
    assert 'thresholds of a siren' in said.output
    told = json.loads(CliRunner().invoke(app, [*command, '--json']).stdout)
    assert told['split'] == 'val'
    assert len(told['sirens']) == 1
    assert 'lincity-ng-data' not in told['missing']


@pytest.mark.slow
def test_thresholds_are_chosen_by_drives_and_real_sound(tmp_path: Path) -> None:
    place = tmp_path / 'micropolis-data' / 'usr'
    write(place / 'siren.wav', wail(4.0))
    # What is not named as a siren is known to hold none.
    write(place / 'park.wav', wail(8.0))
    tried = CliRunner().invoke(app, ['eval', 'sound', '--tune', '--real', str(tmp_path),
                                     '--drives', '2', '--json'])
    assert tried.exit_code == 0, tried.output
    result = json.loads(tried.output.splitlines()[-1])
    assert result['n'] == 2
    by_rule = {(row['on'], row['steps']): row for row in result['rows']}
    for name in ('learned', 'other', 'false_learned', 'false_other', 'per_hour'):
        # Who has to be surer for longer says less.
        assert by_rule[0.99, 30][name] <= by_rule[0.8, 6][name]
    # One siren in these eight seconds is hundreds in an hour.
    assert by_rule[0.7, 6]['per_hour'] > 100.0
    assert all(row['in_traffic'] == 0 for row in result['rows'])
