# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Synthesised sound: the truth about it, what is held out, and what is learned from it."""

from __future__ import annotations

import json
from pathlib import Path

from all_commands import app
import numpy as np
import onnx
import pytest
from sound_maker import write_wav
import torch
from torch.nn import functional
from typer.testing import CliRunner

from vts_ros.errors import SoundError
from vts_ros.lab.evaluation.sound_evaluation import (
    _recognised,
    judge_drives,
    listen,
    share_with_interval,
    TRACK_SEC,
)
from vts_ros.lab.evaluation.sound_thresholds import best_of, said_sec, sirens_in
from vts_ros.lab.sounds import (
    any_noise,
    any_siren,
    any_tune,
    noises,
    recorded_noise,
    sirens,
    sound_net,
    warnings_and_impacts,
)
from vts_ros.lab.sounds.hidden_vehicle import DRIVE_SEC, hidden_vehicle
from vts_ros.lab.sounds.moving_source import behind_houses, Pass
from vts_ros.lab.sounds.sound_net import SoundNet
from vts_ros.lab.sounds.soundtrack import (
    LEARNED,
    Palette,
    SEEDS,
    SNR_DB,
    soundtrack,
    step_levels,
    TRAINING,
    UNHEARD,
    VALIDATION,
)
from vts_ros.lab.sounds.waves import level_of
from vts_ros.lab.training import sound_parts, sound_training
from vts_ros.lab.training.sound_mixing import (
    _dulled,
    _for_a_while,
    _moved,
    _note,
    Mix,
    Mixer,
)
from vts_ros.lab.training.sound_parts import (
    as_they_arrive,
    make_parts,
    make_recorded_parts,
    more_common_sirens,
    Parts,
    RECORDED,
    spectrogram,
)
from vts_ros.lab.training.sound_training import export_sound
from vts_ros.sound.log_spectrum import BANDS, SAMPLE_RATE, STEP_FRAMES
from vts_ros.sound.sound_events import KINDS, Threshold, THRESHOLDS
from vts_ros.sound.sound_network import SoundNetwork


def loudest_hz(sound: np.ndarray) -> float:
    """Return the frequency of the strongest part."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18))
    return float(np.fft.rfftfreq(1 << 18, 1.0 / SAMPLE_RATE)[spectrum.argmax()])


def test_a_seed_is_a_soundtrack() -> None:
    for palette in (LEARNED, TRAINING, VALIDATION, UNHEARD):
        first, second = (soundtrack((9, 4), 4.0, palette) for _ in range(2))
        np.testing.assert_array_equal(first.samples, second.samples)
        assert first.heard == second.heard
    other = soundtrack((9, 5), 4.0)
    assert not np.array_equal(other.samples, soundtrack((9, 4), 4.0).samples)


@pytest.mark.parametrize('palette', [LEARNED, TRAINING, UNHEARD],
                         ids=['learned', 'training', 'unheard'])
def test_soundtracks_hold_what_they_say(palette: Palette) -> None:
    kinds = set()
    for number in range(16):
        track = soundtrack((8, number), 8.0, palette, empty=0.0)
        assert np.isfinite(track.samples).all()
        assert 0.0 < np.abs(track.samples).max() <= 1.0
        kinds |= {heard.kind for heard in track.heard}
        for heard in track.heard:
            assert SNR_DB[0] <= heard.snr_db <= SNR_DB[1]
            assert 0.0 <= heard.start_sec < heard.end_sec <= 8.0
            assert heard.name in (palette.sirens if heard.kind == 'siren'
                                  else palette.others[heard.kind])
    assert kinds == set(KINDS)


def test_nothing_is_heard_where_nothing_is() -> None:
    track = soundtrack((8, 1), 5.0, empty=1.0)
    assert not track.heard
    assert track.background


def test_what_is_judged_by_is_not_learned() -> None:
    """Neither are the generators of test and of val among those of training, by any name."""
    learned = {*TRAINING.sirens.values(), *TRAINING.harmless.values(), *any_noise.ANY.values(),
               *noises.BACKGROUND.values()}
    for first, second in ((VALIDATION, UNHEARD), (UNHEARD, VALIDATION)):
        for sounds in (first.sirens, first.harmless):
            others = {*sounds.values()} - {*noises.HARMLESS.values()}
            assert others
            assert not others & learned
            assert not others & {*second.sirens.values(), *second.harmless.values()}
    for kind in KINDS[1:]:
        assert not (warnings_and_impacts.LEARNED[kind].keys()
                    & warnings_and_impacts.HELD_OUT[kind].keys())


@pytest.mark.parametrize('name', any_noise.ANY)
def test_noises_of_no_maker_are_sounds_of_any_kind(name: str) -> None:
    spectra = []
    for seed in range(8):
        for count in (1600, 6 * SAMPLE_RATE):
            sound = any_noise.ANY[name](np.random.default_rng(seed), count)
            assert sound.shape == (count,)
            assert np.isfinite(sound).all()
            assert sound.std() > 0.0
        heard = spectrogram(0.1 * sound)[2:].mean(axis=0)
        spectra.append(heard - heard.mean())
    # One seed is unlike the other.
    assert np.corrcoef(spectra)[np.triu_indices(8, 1)].mean() < 0.8


@pytest.mark.parametrize('beat', [0.08, 0.5, 1.2])
def test_a_tune_has_more_pitches_than_a_siren(beat: float) -> None:
    for seed in range(100):
        pitches = any_tune._melody(np.random.default_rng(seed), 40, beat)
        window = int(np.clip(2.5 / beat, 5, 12))
        assert min(len({*pitches[at:at + window].tolist()})
                   for at in range(40 - window)) >= 4


def test_a_motor_siren_does_not_only_hum() -> None:
    for seed in range(100):
        assert np.ptp(any_siren._motor(np.random.default_rng(seed), 4.0).height) > 0.3


@pytest.mark.parametrize('name', sorted(TRAINING.sirens.keys() - LEARNED.sirens.keys()))
def test_sirens_of_no_maker_are_tones_that_change(name: str) -> None:
    strongest, others = [], []
    for seed in range(6):
        sound = TRAINING.sirens[name](np.random.default_rng(seed), 6.0)
        assert len(sound) == 6 * SAMPLE_RATE
        assert np.isfinite(sound).all()
        heard = spectrogram(sound)[2:]
        strongest.append(np.ptp(np.unique(heard.argmax(axis=1))))
        # Most of the sound is in a few bands: it is a tone.
        others.append(np.median(heard.max(axis=1) - np.median(heard, axis=1)))
    assert np.median(strongest) >= 2
    assert np.median(others) > 10.0


HARMLESS = {**TRAINING.harmless, **VALIDATION.harmless, **UNHEARD.harmless}


@pytest.mark.parametrize('name', HARMLESS)
def test_harmless_sounds_are_as_long_as_asked_for(name: str) -> None:
    first, second = (HARMLESS[name](np.random.default_rng(seed), 4 * SAMPLE_RATE)
                     for seed in (3, 4))
    assert first.shape == (4 * SAMPLE_RATE,)
    assert np.isfinite(first).all()
    assert first.std() > 0.0
    assert not np.array_equal(first, second)


JUDGED_BY = {**VALIDATION.sirens, **UNHEARD.sirens}


@pytest.mark.parametrize('name', JUDGED_BY)
def test_sirens_to_judge_by_are_tones_as_long_as_asked_for(name: str) -> None:
    sound = JUDGED_BY[name](np.random.default_rng(2), 12.0)
    assert sound.shape == (12 * SAMPLE_RATE,)
    assert np.isfinite(sound).all()
    heard = spectrogram(sound)[2:]
    assert len(np.unique(heard.argmax(axis=1))) >= 2
    assert np.median(heard.max(axis=1) - np.median(heard, axis=1)) > 10.0


@pytest.mark.parametrize(('nearest_sec', 'factor'), [(60.0, 343.0 / (343.0 - 30.0)),
                                                     (-60.0, 343.0 / (343.0 + 30.0))])
def test_what_comes_is_higher_and_what_goes_is_lower(nearest_sec: float, factor: float) -> None:
    tone = np.sin(2.0 * np.pi * 800.0 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
    found = Pass(30.0, 5.0, nearest_sec).heard(tone)
    assert loudest_hz(found) == pytest.approx(800.0 * factor, rel=0.002)


def test_what_is_near_is_louder_and_houses_hide_the_high() -> None:
    tone = np.sin(2.0 * np.pi * 500.0 * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE)
    found = Pass(20.0, 10.0, 4.0).heard(tone)
    # 75.6 m and 14.2 m away on average.
    first, last = found[:8000].std(), found[-12_000:-4000].std()
    assert 20.0 * np.log10(last / first) == pytest.approx(14.5, abs=1.0)
    noise = np.random.default_rng(0).normal(size=2 * SAMPLE_RATE)
    hidden = behind_houses(noise, 1.0, 0.5)
    high = np.abs(np.fft.rfft(hidden[:8000]))[2000:].mean()
    assert high < 0.3 * np.abs(np.fft.rfft(hidden[-8000:]))[2000:].mean()


def test_a_drive_with_a_hidden_vehicle() -> None:
    for number in range(2):
        drive = hidden_vehicle((5, number), True)
        assert len(drive.samples) == DRIVE_SEC * SAMPLE_RATE
        assert drive.siren in UNHEARD.sirens
        assert 10.0 < drive.seen_sec < DRIVE_SEC
    assert not hidden_vehicle((5, 0), False).siren
    learned = {hidden_vehicle((5, number), True, LEARNED).siren for number in range(2)}
    assert learned <= sirens.LEARNED.keys()
    assert hidden_vehicle((5, 1), True, VALIDATION).siren in VALIDATION.sirens


@pytest.mark.slow
@torch.no_grad()
def test_the_graph_in_steps_is_the_network_on_the_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = SoundNet().eval()
    assert net.first_norm.running_mean is not None
    net.first_norm.running_mean.normal_()
    path = tmp_path / 'hear.onnx'
    export_sound(net, path)
    level = spectrogram(soundtrack((4, 0), 3.0).samples)
    whole = torch.sigmoid(net(torch.from_numpy(level)[None], *SoundNet.begin())[0])[0]
    network = SoundNetwork(path)
    steps = [network.step(level[start:start + STEP_FRAMES])
             for start in range(0, len(level), STEP_FRAMES)]
    np.testing.assert_allclose(steps, whole.numpy(), atol=1e-5)
    # What was heard before makes a difference, until it is forgotten.
    again = network.step(level[:STEP_FRAMES])
    network.begin()
    assert not np.allclose(again, steps[0], atol=1e-4)
    np.testing.assert_array_equal(network.step(level[:STEP_FRAMES]), steps[0])
    assert 'net.' not in str(onnx.load(path).metadata_props)


@pytest.mark.slow
def test_a_network_of_another_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                              ) -> None:
    path = tmp_path / 'hear.onnx'
    monkeypatch.setattr(sound_net, '_MEMORY', 8)
    export_sound(SoundNet().eval(), path)
    # What it remembers is written in it.
    assert 0.0 <= SoundNetwork(path).step(np.zeros((STEP_FRAMES, BANDS), np.float32))[0] <= 1.0
    model = onnx.load(path)
    about = {entry.key: entry.value for entry in model.metadata_props}
    for state in (about['state'].replace('[1, 1, 8]', '[1, 1, 9]'), '{}', ''):
        onnx.helper.set_model_props(model, {**about, 'state': state})
        onnx.save(model, path)
        with pytest.raises(SoundError, match='another form: vts train sound makes it anew'):
            SoundNetwork(path)


def test_events_are_told_when_they_begin() -> None:
    network = SoundNetwork()
    drive = next(drive for drive in (hidden_vehicle((6, number), True, LEARNED)
                                     for number in range(10)) if drive.snr_db > 12.0)
    said = [named for named in listen(network, drive.samples) if named.event.kind == 'siren']
    assert said
    for named in said:
        assert named.event.is_over
        assert 1e-9 * named.event.start_ns < named.said_sec <= 1e-9 * named.event.end_ns + 0.1


def test_thresholds_say_when_a_listener_would() -> None:
    network = SoundNetwork()
    drive = next(drive for drive in (hidden_vehicle((6, number), True, LEARNED)
                                     for number in range(10)) if drive.snr_db > 12.0)
    first = min(named.said_sec for named in listen(network, drive.samples)
                if named.event.kind == 'siren')
    found = sirens_in(network, drive.samples)
    assert said_sec(found, THRESHOLDS['siren']) == pytest.approx(first)
    assert said_sec(np.zeros(9), Threshold(0.1, 3)) == np.inf
    # Before the first step there was nothing.
    assert said_sec(np.ones(9), Threshold(0.9, 3)) == pytest.approx(0.3)


def test_the_best_threshold() -> None:
    def row(on: float, named: float, false: float, per_hour: float, traffic: int = 0
            ) -> dict[str, object]:
        return {'on': on, 'learned': named, 'other': 0.5, 'false_alarms': false,
                'per_hour': per_hour, 'in_traffic': traffic}

    rows = [row(0.6, 0.95, 0.02, 1.0), row(0.7, 0.9, 0.01, 60.0), row(0.8, 0.8, 0.01, 40.0),
            row(0.9, 0.85, 0.01, 20.0, 1), row(0.95, 0.7, 0.0, 1.0)]
    best = best_of(rows)
    assert best is not None
    assert best['on'] == 0.8
    assert best_of([rows[0], *rows[3:]]) is None
    # Without real sound the most is named.
    best = best_of([{**tried, 'per_hour': None, 'in_traffic': None} for tried in rows])
    assert best is not None
    assert best['on'] == 0.7


def test_intervals_of_shares() -> None:
    share, low, high = share_with_interval([False] * 200)
    assert (share, low) == (0.0, 0.0)
    assert 0.015 < high < 0.025
    share, low, high = share_with_interval([True] * 8 + [False] * 2)
    assert (share, round(low, 2), round(high, 2)) == (0.8, 0.49, 0.94)


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with sounds to learn from."""
    folder = tmp_path_factory.mktemp('sound')
    make_parts(folder, 20)
    return folder


def test_sounds_to_learn_from_are_made_once_and_as_many_as_asked_for(work: Path) -> None:
    path = work / 'sounds' / 'siren-000000.npz'
    written = path.stat().st_mtime_ns
    few, many = make_parts(work, 10), make_parts(work, 20)
    assert path.stat().st_mtime_ns == written
    assert [len(parts['siren'].std) for parts in (few, many)] == [4, 8]
    np.testing.assert_array_equal(many['siren'].levels[:4], few['siren'].levels)
    assert {kind: len(parts.std) for kind, parts in few.items()}['bell'] == 1


def audible(part: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return 1 for steps in which a sound is heard over noise, NaN where it is weaker, else 0."""
    level, whole = step_levels(part)
    # Between the strokes of a bell it goes on.
    held, is_held = (np.max([np.pad(values, 3)[shift:shift + len(level)] for shift in range(4)],
                            axis=0) for values in (level, whole > 0.0))
    ratio_db = 20.0 * np.log10((held + 1e-9) / step_levels(noise)[0].mean())
    return np.where(is_held, np.where(ratio_db >= -10.0, 1.0, np.nan), 0.0)


def test_soundtracks_are_mixed_as_their_sounds_would_be(work: Path) -> None:
    """Powers that add up are what the spectrogram of the sum has, and the truth is the same."""
    parts = make_parts(work, 20)
    rng, rows = np.random.default_rng(0), np.arange(1)
    for number, snr_db in ((0, -5.0), (1, 5.0), (2, 15.0)):
        noise, siren = (next(as_they_arrive(kind, [number % len(parts[kind].std)]))
                        for kind in ('background', 'siren'))
        gain = 10.0 ** (0.05 * snr_db)
        mix = Mix(rng, 1, 500, 100)
        first, second = (Parts(*(values[[number % len(values)]] for values in parts[kind]))
                         for kind in ('background', 'siren'))
        mix.add_noise(rows, first, torch.ones(1))
        mix.settle()
        truth = mix.audible(rows, second, torch.full((1,), gain))
        np.testing.assert_array_equal(truth[0], audible(gain * siren, noise))
        mix.add(rows, second, torch.full((1,), gain))
        found = 10.0 * torch.log10(mix.power[0]).numpy()
        expected = spectrogram(noise + gain * siren)
        assert abs(np.median(found - expected)) < 0.1
        assert np.quantile(np.abs(found - expected), 0.8) < 1.0


def test_what_is_heard_is_heard_and_what_is_too_weak_is_nobodys_fault() -> None:
    """Of two sounds of a kind, whichever was there first."""
    unknown = torch.nan
    first = torch.tensor([[0.0, 0.0, 0.0, unknown, unknown, unknown, 1.0, 1.0, 1.0]])
    second = torch.tensor([[0.0, unknown, 1.0] * 3])
    _note(first, np.arange(1), second)
    np.testing.assert_array_equal(
        first[0], [0.0, unknown, 1.0, unknown, unknown, 1.0, 1.0, 1.0, 1.0])


def test_sounds_come_in_other_pitches_and_from_behind_houses(work: Path) -> None:
    part = make_parts(work, 20)['siren']
    moved = _moved(np.random.default_rng(2), part)
    steps = []
    for levels, found in zip(part.levels.float(), moved.levels.float(), strict=True):
        fits = [by for by in range(-5, 6)
                if torch.equal(found[:, 6:-6], levels.roll(by, dims=1)[:, 6:-6])]
        assert len(fits) == 1
        steps += fits
    assert len(set(steps)) > 2
    dull = _dulled(part, np.arange(len(part.std)) % 2 == 1)
    np.testing.assert_array_equal(dull.levels[::2], part.levels[::2])
    lost = (dull.levels - part.levels)[1::2].float()
    # The high is weaker, and the whole as loud as before.
    assert (lost[:, :, 60].mean() - lost[:, :, 20].mean()) < -6.0
    loud = [(10.0 ** (0.1 * levels[:, :, 18:].float())).sum(dim=(1, 2))
            for levels in (part.levels, dull.levels)]
    np.testing.assert_allclose(loud[1], loud[0], rtol=0.02)


def test_what_is_harmless_begins_and_ends_as_what_is_to_be_heard() -> None:
    steady = Parts(torch.zeros(200, 500, BANDS, dtype=torch.float16), torch.ones(200, 100),
                   torch.ones(200, 100, dtype=torch.bool), torch.ones(200))
    found = _for_a_while(np.random.default_rng(0), steady)
    np.testing.assert_array_equal(found.there, found.loud == 1.0)
    np.testing.assert_allclose(found.std, found.there.float().mean(dim=1).sqrt())
    for is_cut in (~found.there[:, 0], ~found.there[:, -1]):
        assert 0.35 < is_cut.float().mean() < 0.65
    for there, levels in zip(found.there, found.levels.float(), strict=True):
        # It is there without a pause, and silent before and after.
        assert there.float().diff().abs().sum() <= 2.0
        windows = there.repeat_interleave(5)
        near = functional.max_pool1d(windows.float()[None], 3, 1, 1)[0] > 0.0
        assert (levels[windows] > -2.0).all()
        assert (levels[~near] < -100.0).all()


def test_a_batch_is_what_a_microphone_has(work: Path) -> None:
    mixer = Mixer(make_parts(work, 20))
    levels, truth = mixer.batch(np.random.default_rng(1), 64)
    assert levels.shape == (64, 500, BANDS)
    assert truth.shape == (64, 100, len(KINDS))
    assert levels.isfinite().all()
    assert -90.0 <= levels.min() < levels.max() < 10.0
    # Where nothing is to be heard, and what is to be.
    assert 0.2 < (truth.nan_to_num(1.0).amax(dim=(1, 2)) == 0.0).float().mean() < 0.6
    assert (truth == 1.0).any(dim=(0, 1)).all()
    again, _ = mixer.batch(np.random.default_rng(1), 64)
    np.testing.assert_array_equal(levels, again)


def test_common_sirens_come_more_often_when_asked_for(work: Path) -> None:
    parts = make_parts(work, 20)
    count = len(parts['siren'].std)
    likely = more_common_sirens(count)
    assert likely.sum() == pytest.approx(1.0)
    for number, share in enumerate((likely / likely.min()).tolist()):
        # Sounds with the same seed are the same, whatever is drawn first.
        rng = np.random.default_rng((SEEDS['train'], 2, number))
        group = sound_parts._SIRENS[sound_parts._siren_group(rng)]
        expected = 3.75 if group is sirens.LEARNED else 2.7 if group is sirens.MORE else 1.0
        assert share == pytest.approx(expected)
    # What is never drawn is never heard.
    only = np.zeros(count)
    only[3] = 1.0
    found = [Mixer(parts, {'siren': only})._drawn(np.random.default_rng(0), kind, np.arange(9))
             for kind in ('siren', 'bell')]
    np.testing.assert_array_equal(found[0].levels, parts['siren'].levels[[3] * 9])
    np.testing.assert_array_equal(found[1].levels, parts['bell'].levels[[0] * 9])


@pytest.fixture
def programs() -> None:
    """Skip where nothing is installed that speaks and plays."""
    try:
        recorded_noise.require_programs()
    except SoundError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize('kind', RECORDED)
def test_speech_and_music_are_drawn_and_the_same_for_a_number(kind: str, programs: None) -> None:
    first, second, *_ = several = list(as_they_arrive(kind, range(6)))
    assert {len(sound) for sound in several} == {10 * SAMPLE_RATE}
    for sound in several:
        assert level_of(sound) == pytest.approx(1.0, abs=1e-3)
        # Something is said or played in each half.
        assert min(half.std() for half in np.split(sound, 2)) > 0.01
    assert np.corrcoef(first, second)[0, 1] < 0.5
    # Whatever else is made with it, but for the reverberation.
    assert np.corrcoef(next(as_they_arrive(kind, [3])), several[3])[0, 1] > 0.9


@pytest.mark.slow
def test_speech_and_music_are_noise_of_a_second_stage(tmp_path: Path, programs: None) -> None:
    arguments = ['train', 'sound', '--work', str(tmp_path), '--sounds', '100', '--recorded', '4',
                 '--steps', '1', '--recorded-steps', '2', '--out', str(tmp_path / 'sound')]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert len(make_recorded_parts(tmp_path, 4).std) == 4
    first, second = (torch.load(tmp_path / name, weights_only=True)
                     for name in ('sound.pt', 'sound_recorded.pt'))
    assert (first['step'], second['step']) == (1, 2)
    # It goes on from what was learned before.
    before, after = (state['modules']['0.heard.weight'] for state in (first, second))
    assert 0.0 < (after - before).abs().max() < 0.1


def test_who_has_no_instruments_is_told_what_to_install(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', '')
    with pytest.raises(SoundError, match=r'flite, espeak-ng, fluidsynth.*: apt install'):
        sound_training.train_sound(tmp_path / 'out', tmp_path / 'work')
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_training_goes_on_and_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped before it wrote its graph goes on, and what comes out is judged."""
    arguments = ['train', 'sound', '--work', str(tmp_path / 'work'), '--sounds', '100',
                 '--recorded-steps', '0', '--out', str(tmp_path / 'sound')]

    def stop(net: SoundNet, path: Path) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(sound_training, 'export_sound', stop)
        stopped = CliRunner().invoke(app, [*arguments, '--steps', '1'])
    assert isinstance(stopped.exception, InterruptedError)
    assert 'step 1 of 1' in stopped.output
    begun = torch.load(tmp_path / 'work' / 'sound.pt', weights_only=True)
    done = CliRunner().invoke(app, [*arguments, '--steps', '2'])
    assert done.exit_code == 0, done.output
    gone_on = torch.load(tmp_path / 'work' / 'sound.pt', weights_only=True)
    assert (begun['step'], gone_on['step']) == (1, 2)
    assert 'step 2 of 2' in done.output
    note = json.loads((tmp_path / 'sound' / 'training.json').read_text())
    assert note['weights'] < 50_000
    network = tmp_path / 'sound' / 'hear.onnx'
    wav = write_wav(tmp_path / 'quiet.wav', np.zeros(SAMPLE_RATE))
    judged = CliRunner().invoke(app, [
        'eval', 'sound', '--n', '2', '--drives', '2', '--network', str(network), '--recording',
        str(wav), '--windows', '2', '--json'])
    assert judged.exit_code == 0, judged.output
    result = json.loads(judged.output.splitlines()[-1])
    assert result['recordings'] == {'quiet.wav': {'seconds': 1.0, 'heard': []}}
    assert result['drives']['learned']['n'] == result['drives']['other']['n'] == 2
    assert result['use']['windows_with_moved_tokens'] == 2


@pytest.mark.slow
def test_the_shipped_network_hears_what_it_has_learned() -> None:
    """On seeds of their own; the figures in docs/senses.md are of more of them."""
    network, seed = SoundNetwork(), SEEDS['val']
    tracks = (soundtrack((seed, 10, number), TRACK_SEC, empty=0.0) for number in range(6))
    assert _recognised(network, tracks)['all'][0] > 0.6
    drives = judge_drives(network, seed, 12, LEARNED)
    assert drives['named_before'][0] >= 0.5
    assert drives['false_alarms'][0] <= 0.1
