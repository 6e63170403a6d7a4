# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a gate costs and saves on rendered drives."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path

from all_commands import app
import numpy as np
import pytest
from typer.testing import CliRunner

from vts_ros.lab.evaluation import drive_records, drives
from vts_ros.lab.evaluation.drive_records import drive_windows, DriveRecord
from vts_ros.lab.scenes.drive import draw_drive
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.change_gate import ChangeGate, FEATURES

SEC = 0.4


def recorded(truth: str, said: str, objects: str = '', seed: int = 1) -> DriveRecord:
    """Return a drive with a level per letter: none, low, medium, high, unknown."""
    names = {'n': 'none', 'l': 'low', 'm': 'medium', 'h': 'high', 'u': 'unknown'}
    count = len(truth)
    rng = np.random.default_rng(seed)
    # The network sees what is there, roughly.
    strength = np.array(['nlmh'.index(letter) for letter in truth]) / 4.0
    saliency = np.clip(0.1 + 0.05 * rng.random((count, 8, 14)), 0.0, 1.0)
    saliency[:, 4, 6] = 0.1 + 0.8 * strength
    embedding = np.zeros((count, 2, 8, 14))
    embedding[:, 0] = 1.0
    there, told = (tuple((names[letter], '' if letter in 'nu' else 'car') for letter in text)
                   for text in (truth, said))
    return DriveRecord(
        seed, (np.arange(count) * round(SEC * 1e9)).astype(np.int64), there, told,
        np.full(count, 0.9, np.float32),
        np.array([int(letter) for letter in objects or '7' * count], np.int64),
        saliency.astype(np.float32), embedding.astype(np.float32))


def test_asking_always_and_now_and_then() -> None:
    record = recorded('nnnhhhhnnn', 'nnnnhhhlnn')
    best = drives.quality(drives.always(record), SEC)
    assert list(best.delays_sec) == pytest.approx([0.4])
    assert (best.missed, best.changes, best.false) == (0, 2, 1)
    assert (best.right, best.windows) == (8, 10)
    played = drives.play(record, lambda last, index: index - last >= 3, 100.0)
    assert played.asked_at.tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert played.asked == 4
    found = drives.quality(played, SEC)
    assert list(found.delays_sec) == pytest.approx([1.2])
    assert drives.later_sec([best], [found]) == pytest.approx(0.8)
    never = drives.quality(drives.play(record, lambda last, index: False, 100.0), SEC)
    assert never.delays_sec == (np.inf,)
    assert (drives.missed_of([best], [never]), drives.missed_of([never], [best])) == (1, 0)


def test_the_heartbeat_and_what_is_unknown_are_asked_about() -> None:
    quiet = drives.play(recorded('n' * 9, 'n' * 9), lambda last, index: False, 1.2)
    assert quiet.asked_at.tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6]
    unsure = drives.play(recorded('n' * 5, 'nuunn'), lambda last, index: index == 1, 9.0)
    assert unsure.asked_at.tolist() == [0, 1, 2, 3, 3]


def test_a_hazard_is_an_object_whatever_is_nearer_for_a_moment() -> None:
    record = recorded('nmmlmhhnnmn', 'n' * 11, objects='07705777090')
    assert drives._hazards(record) == [[1, 2, 5, 6]]


def test_an_answer_can_end_after_the_risk_where_that_is_the_same() -> None:
    record = recorded('n' * 8, 'nnnhhhnn')
    assert drives.always(record).risk_only(100.0) == 5
    # With the heartbeat all is written.
    assert drives.always(recorded('n' * 8, 'n' * 8)).risk_only(1.0) == 5


@pytest.mark.slow
def test_a_gate_is_fitted_to_what_asking_would_put_right() -> None:
    rng = np.random.default_rng(5)
    records = []
    for seed in range(8):
        letters = ''.join(letter * int(rng.integers(4, 12)) for letter in 'nlmhn' * 3)
        records.append(recorded(letters, letters, seed=seed))
    gate, told = drives.tune(records, 0.25, 5.0, SEC)
    assert told['drives'] == 8
    assert [asked for asked, *_ in told['curve']] == sorted(asked for asked, *_ in told['curve'])
    # On a drive that it has not seen.
    letters = 'nnnnnnnnnnnhhhhhhhhhhhhnnnnnnnnnn'
    other = recorded(letters, letters, seed=99)
    found = drives.compare([other, replace(other, seed=98)], gate, 5.0, SEC)
    ways = found['ways']
    assert 0.0 < ways['gate']['asked'] < 0.5
    assert ways['gate']['delay_sec']['p95'] <= 0.4
    assert ways['always']['later_sec'] == 0.0
    assert ways['gate']['level_right'] > ways['periodic']['level_right'] - 0.05
    rise = dict(zip(FEATURES, gate.weights))['peak_rise']
    assert rise > 0.0


def test_a_record_goes_through_its_file(tmp_path: Path) -> None:
    record = recorded('nnhh', 'nlhh')
    record.save(tmp_path / 'drive.npz')
    again = DriveRecord.load(tmp_path / 'drive.npz')
    assert (again.truth, again.said) == (record.truth, record.said)
    assert np.abs(again.saliency - record.saliency).max() < 1e-3
    assert again.objects.tolist() == record.objects.tolist()


def test_a_gate_is_not_tuned_on_what_is_reported() -> None:
    done = CliRunner().invoke(app, ['eval', 'drives', '--tune'])
    assert done.exit_code == 2
    assert '--split val' in done.output


@pytest.mark.slow
def test_the_command_runs_the_pipeline_as_it_replays_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drives, '_STRETCH', 18)

    def begin(seed: int, interval_sec: float) -> Scene:
        scene = draw_drive(seed, interval_sec)
        return replace(scene, times=scene.times[:24])

    monkeypatch.setattr(drive_records, 'draw_drive', begin)
    done = CliRunner().invoke(app, ['eval', 'drives', '--split', 'val', '--n', '1', '--costs',
                                    '1', '--recorded', str(tmp_path), '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output.splitlines()[-1])
    assert [path.name for path in tmp_path.iterdir()] == ['drive_1000000000.npz']
    assert result['ways']['always']['asked'] == 1.0
    for speak, cost in result['costs'].items():
        assert cost['windows'] == sum(cost['count'].values()) == 18
        # Half floats and batches may tip a few.
        assert cost['agree'] >= 16, speak
    # What is written says what it costs; processor time differs with what else the machine does.
    counts = {speak: cost['count'] for speak, cost in result['costs'].items()}
    assert counts['always'] == {'whole': 18, 'risk': 0, 'confirmed': 0}
    assert counts['change']['confirmed'] > 0 == counts['change']['risk']
    assert counts['risk']['risk'] > 0
    assert counts['risk']['whole'] < counts['change']['whole'] < 18
    for speak, cost in result['costs'].items():
        assert {what for what, ms in cost['cpu_ms'].items() if ms} == {
            what for what, n in counts[speak].items() if n}


def test_the_first_windows_of_a_drive_are_those_of_all_of_it() -> None:
    few, more = (drive_windows(1_000_000_000, most) for most in (2, 3))
    assert (len(few), len(more)) == (2, 3)
    for window, same in zip(few, more):
        assert [frame.stamp_ns for frame in window] == [frame.stamp_ns for frame in same]
        assert all((np.asarray(frame.data) == np.asarray(other.data)).all()
                   for frame, other in zip(window, same))


def test_numbers_that_do_not_fit_make_no_gate() -> None:
    with pytest.raises(ValueError, match='peak_rise'):
        ChangeGate((1.0,), 0.0, (0.0,) * len(FEATURES), (1.0, 1.0, 1.0))
