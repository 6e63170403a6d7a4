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
from typer.testing import CliRunner

from vts_ros.errors import SoundError
from vts_ros.lab.evaluation.sound_evaluation import (
    _recognised,
    judge_drives,
    listen,
    share_with_interval,
    TRACK_SEC,
)
from vts_ros.lab.evaluation.sound_thresholds import said_sec, sirens_in
from vts_ros.lab.sounds import fresh_kinds, noises, sirens, sound_net, warnings_and_impacts
from vts_ros.lab.sounds.any_siren import _is_held_out, _PERIODS_SEC
from vts_ros.lab.sounds.hidden_vehicle import DRIVE_SEC, hidden_vehicle
from vts_ros.lab.sounds.moving_source import behind_houses, Pass
from vts_ros.lab.sounds.sound_net import SoundNet
from vts_ros.lab.sounds.soundtrack import (
    background,
    FRESH,
    HELD_OUT,
    LEARNED,
    Palette,
    SNR_DB,
    soundtrack,
    TRAINING,
    VALIDATION,
)
from vts_ros.lab.training import sound_training
from vts_ros.lab.training.sound_training import (
    export_sound,
    make_clips,
    SEEDS,
    spectrogram,
)
from vts_ros.sound.log_mel import SAMPLE_RATE, STEP_FRAMES
from vts_ros.sound.sound_events import KINDS, Threshold, THRESHOLDS
from vts_ros.sound.sound_network import SoundNetwork


def loudest_hz(sound: np.ndarray) -> float:
    """Return the frequency of the strongest part."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18))
    return float(np.fft.rfftfreq(1 << 18, 1.0 / SAMPLE_RATE)[spectrum.argmax()])


def test_a_seed_is_a_soundtrack() -> None:
    for palette in (LEARNED, TRAINING, VALIDATION, HELD_OUT, FRESH):
        first, second = (soundtrack((9, 4), 4.0, palette) for _ in range(2))
        np.testing.assert_array_equal(first.samples, second.samples)
        assert first.heard == second.heard
    other = soundtrack((9, 5), 4.0)
    assert not np.array_equal(other.samples, soundtrack((9, 4), 4.0).samples)


@pytest.mark.parametrize('palette', [LEARNED, TRAINING, HELD_OUT],
                         ids=['learned', 'training', 'held out'])
def test_the_truth_is_where_the_sound_is(palette: Palette) -> None:
    kinds = set()
    for number in range(12):
        track = soundtrack((8, number), 8.0, palette, empty=0.0)
        assert np.isfinite(track.samples).all()
        assert 0.0 < np.abs(track.samples).max() <= 1.0
        assert track.truth.shape == (80, len(KINDS))
        kinds |= {heard.kind for heard in track.heard}
        for heard in track.heard:
            assert SNR_DB[0] <= heard.snr_db <= SNR_DB[1]
            assert heard.name in (palette.sirens if heard.kind == 'siren'
                                  else palette.others[heard.kind])
        for at, kind in enumerate(KINDS):
            spans = [(heard.start_sec, heard.end_sec) for heard in track.heard
                     if heard.kind == kind]
            for step in np.flatnonzero(track.truth[:, at] == 1.0).tolist():
                # A sound is held for three steps, as a bell between its strokes.
                assert any(start - 0.1 <= 0.1 * step <= end + 0.4 for start, end in spans)
            # Where there is none, not even one too weak to be heard, that is known.
            for step in range(80):
                if not any(start - 0.2 <= 0.1 * step <= end + 0.5 for start, end in spans):
                    assert track.truth[step, at] == 0.0
    assert kinds == set(KINDS)


def test_nothing_is_heard_where_nothing_is() -> None:
    track = soundtrack((8, 1), 5.0, empty=1.0)
    assert not track.heard
    assert not track.truth.any()
    assert track.background


def test_what_is_held_out_is_not_learned() -> None:
    """Neither are the generators of test and of val among those of training, by any name."""
    for other in (HELD_OUT, VALIDATION, FRESH):
        assert not {*other.sirens.values()} & {*TRAINING.sirens.values()}
    assert not {*HELD_OUT.sirens.values()} & {*VALIDATION.sirens.values()}
    assert not {*FRESH.sirens.values()} & {*HELD_OUT.sirens.values(), *VALIDATION.sirens.values()}
    sounds = [*noises.BACKGROUND.values(), *noises.TRAINING.values(), *noises.VALIDATION.values(),
              *noises.HELD_OUT.values(), *fresh_kinds.NOISES.values()]
    assert len(set(sounds)) == len(sounds)
    for kind in KINDS[1:]:
        learned = warnings_and_impacts.LEARNED[kind]
        assert not learned.keys() & warnings_and_impacts.HELD_OUT[kind].keys()
    names = {name for number in range(40)
             for name in soundtrack((7, number), 1.0, TRAINING).background}
    assert not names & (noises.HELD_OUT.keys() | noises.VALIDATION.keys()
                        | fresh_kinds.NOISES.keys())
    assert names & (noises.TRAINING.keys() - noises.HARMLESS.keys())


def test_sirens_of_no_maker_leave_out_what_is_held_out() -> None:
    for low, high in _PERIODS_SEC:
        # Those of the piercer, the slow wail and the motor siren.
        for first, last in ((0.05, 0.10), (8.0, 12.0), (12.0, 22.0)):
            assert high < first or low > last
    two = np.array([400.0, 400.0 * 1.6])
    assert _is_held_out(two, np.array([0.9, 0.9]))
    assert not _is_held_out(two, np.array([0.5, 0.5]))
    assert not _is_held_out(np.array([400.0, 500.0]), np.array([0.9, 0.9]))


@pytest.mark.parametrize('name', TRAINING.sirens.keys() - LEARNED.sirens.keys())
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


@pytest.mark.parametrize('name', fresh_kinds.NOISES)
def test_fresh_noises_are_sounds_that_change(name: str) -> None:
    sound = fresh_kinds.NOISES[name](np.random.default_rng(3), 4 * SAMPLE_RATE)
    assert sound.shape == (4 * SAMPLE_RATE,)
    assert np.isfinite(sound).all()
    assert sound.std() > 0.0
    assert len(np.unique(spectrogram(0.1 * sound / sound.std())[2:].argmax(axis=1))) > 2
    only = FRESH._replace(harmless=(name,), harmless_counts=(0.0, 1.0, 0.0))
    assert background(np.random.default_rng(3), SAMPLE_RATE, only)[1][-1] == name


@pytest.mark.parametrize('name', FRESH.sirens)
def test_fresh_sirens_are_tones_as_long_as_asked_for(name: str) -> None:
    sound = FRESH.sirens[name](np.random.default_rng(2), 12.0)
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
        assert drive.siren in sirens.HELD_OUT
        assert 10.0 < drive.seen_sec < DRIVE_SEC
    assert not hidden_vehicle((5, 0), False).siren
    learned = {hidden_vehicle((5, number), True, LEARNED).siren for number in range(2)}
    assert learned <= sirens.LEARNED.keys()
    assert hidden_vehicle((5, 1), True, FRESH).siren in fresh_kinds.SIRENS


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
    # How much it remembers is written in it.
    assert 0.0 <= SoundNetwork(path).step(np.zeros((STEP_FRAMES, 48), np.float32))[0] <= 1.0
    model = onnx.load(path)
    about = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**about, 'memory': '9'})
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


@pytest.mark.slow
def test_thresholds_are_tried() -> None:
    tried = CliRunner().invoke(app, ['eval', 'sound', '--tune', '--drives', '2', '--json'])
    assert tried.exit_code == 0, tried.output
    result = json.loads(tried.output.splitlines()[-1])
    assert result['n'] == 2
    by_rule = {(row['on'], row['steps']): row for row in result['rows']}
    for name in ('learned', 'other', 'false_alarms'):
        # Who has to be surer for longer says less.
        assert by_rule[0.99, 30][name] <= by_rule[0.8, 6][name]
    assert result['best'] is None or result['best']['false_alarms'] <= 0.015


def test_intervals_of_shares() -> None:
    share, low, high = share_with_interval([False] * 200)
    assert (share, low) == (0.0, 0.0)
    assert 0.015 < high < 0.025
    share, low, high = share_with_interval([True] * 8 + [False] * 2)
    assert (share, round(low, 2), round(high, 2)) == (0.8, 0.49, 0.94)


def test_soundtracks_to_learn_from_are_made_once_and_as_many_as_asked_for(tmp_path: Path) -> None:
    path = tmp_path / 'soundtracks' / 'train-000000.npz'
    few = make_clips(tmp_path, 2)
    written = path.stat().st_mtime_ns
    single = make_clips(tmp_path, 1)
    assert path.stat().st_mtime_ns == written
    more = make_clips(tmp_path, 3)
    assert [len(clips.truth) for clips in (single, few, more)] == [1, 2, 3]
    np.testing.assert_array_equal(more.levels[:2], few.levels)
    np.testing.assert_array_equal(single.levels, few.levels[:1])


@pytest.mark.slow
def test_training_goes_on_and_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped before it wrote its graph goes on, and what comes out is judged."""
    arguments = ['train', 'sound', '--work', str(tmp_path / 'work'), '--clips', '32', '--out',
                 str(tmp_path / 'sound')]

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
    assert result['drives']['held_out']['n'] == result['drives']['fresh']['n'] == 2
    assert result['use']['windows_with_moved_tokens'] == 2


@pytest.mark.slow
def test_the_shipped_network_hears_what_it_has_learned() -> None:
    """On seeds of their own; the figures in docs/senses.md are of more of them."""
    network, seed = SoundNetwork(), SEEDS['val']
    tracks = (soundtrack((seed, 10, number), TRACK_SEC, empty=0.0) for number in range(6))
    assert _recognised(network, tracks)['all'][0] > 0.6
    drives = judge_drives(network, seed, 6, LEARNED)
    assert drives['named_before'][0] >= 0.6
    assert drives['false_alarms'][0] <= 0.1
