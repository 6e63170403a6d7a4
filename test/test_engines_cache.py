# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The engine cache: what is trusted, what is built again, and who builds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
import logging
from pathlib import Path
import subprocess
import sys
import threading
import time

from filelock import FileLock
import pytest

from vts_ros.engines.engine_cache import Built, EngineCache, EngineKey, heartbeat

KEY = EngineKey('frame', 'ab' * 32, 'tensorrt', '10.3.0', 'NVIDIA RTX A5000', 'sm86', 'fp16',
                {'frame': ((1, 1, 1), (480, 480, 480), (848, 848, 848), (3, 3, 3))})


class Builder:
    """Counts how often it had to build."""

    def __init__(self) -> None:
        self.builds = 0

    def __call__(self) -> Built:
        self.builds += 1
        return Built(b'plan %d' % self.builds, {'tensors': []})


@pytest.fixture
def builder() -> Builder:
    return Builder()


def test_second_time_is_a_hit(tmp_path: Path, builder: Builder) -> None:
    first = EngineCache(tmp_path / 'new' / 'folder').get_or_build(KEY, builder)
    second = EngineCache(tmp_path / 'new' / 'folder').get_or_build(KEY, builder)
    assert (first.plan, first.hit, second.plan, second.hit) == (b'plan 1', False, b'plan 1', True)
    assert builder.builds == 1
    notes = json.loads(second.path.with_suffix('.json').read_text())
    assert notes['key']['gpu'] == 'NVIDIA RTX A5000'
    assert notes['key']['shapes']['frame'][1] == [480, 480, 480]
    assert notes['engine_bytes'] == 6
    assert second.build_sec == pytest.approx(first.build_sec, abs=1e-3)


@pytest.mark.parametrize('change', [
    {'onnx_sha256': 'cd' * 32}, {'version': '10.3.1'}, {'library': 'tensorrt_rtx'},
    {'gpu': 'NVIDIA RTX A4000'}, {'target': 'sm89'}, {'precision': 'fp32'},
    {'shapes': {'frame': ((2, 2, 2), (480, 480, 480), (848, 848, 848), (3, 3, 3))}}])
def test_whatever_changes_makes_another_engine(tmp_path: Path, builder: Builder,
                                               change: dict[str, object]) -> None:
    cache = EngineCache(tmp_path)
    cache.get_or_build(KEY, builder)
    assert not cache.get_or_build(replace(KEY, **change), builder).hit  # type: ignore[arg-type]
    assert cache.get_or_build(KEY, builder).plan == b'plan 1'


def cut_engine(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:3])


def remove_notes(engine: Path) -> None:
    engine.with_suffix('.json').unlink()


def spoil_notes(engine: Path) -> None:
    engine.with_suffix('.json').write_bytes(b'\xff{')


def list_in_notes(engine: Path) -> None:
    engine.with_suffix('.json').write_text('[1]')


def foreign_notes(engine: Path) -> None:
    notes = json.loads(engine.with_suffix('.json').read_text())
    notes['key']['gpu'] = 'another one'
    engine.with_suffix('.json').write_text(json.dumps(notes))


def folder_for_engine(engine: Path) -> None:
    engine.unlink()
    engine.mkdir()
    (engine / 'file').touch()


@pytest.mark.parametrize('damage', [cut_engine, remove_notes, spoil_notes, list_in_notes,
                                    foreign_notes])
def test_damaged_and_foreign_files_are_built_again(
        tmp_path: Path, builder: Builder, caplog: pytest.LogCaptureFixture,
        damage: Callable[[Path], None]) -> None:
    cache = EngineCache(tmp_path)
    damage(cache.get_or_build(KEY, builder).path)
    assert cache.get_or_build(KEY, builder).plan == b'plan 2'
    warning, = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert 'is built again' in warning.getMessage()
    assert cache.get_or_build(KEY, builder).hit
    assert builder.builds == 2


def test_what_cannot_be_replaced_costs_a_warning_only(
        tmp_path: Path, builder: Builder, caplog: pytest.LogCaptureFixture) -> None:
    cache = EngineCache(tmp_path)
    folder_for_engine(cache.get_or_build(KEY, builder).path)
    assert cache.get_or_build(KEY, builder).plan == b'plan 2'
    assert 'is not kept' in caplog.text
    assert not list(tmp_path.glob('.*'))  # nothing half written lies about


def test_cache_that_cannot_be_written_to(tmp_path: Path, builder: Builder,
                                         caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / 'file').touch()
    assert EngineCache(tmp_path / 'file').get_or_build(KEY, builder).plan == b'plan 1'
    assert 'engines are not kept' in caplog.text


def test_failed_build_leaves_nothing_locked(tmp_path: Path, builder: Builder) -> None:
    def fail() -> Built:
        raise RuntimeError('no luck')

    cache = EngineCache(tmp_path)
    with pytest.raises(RuntimeError, match='no luck'):
        cache.get_or_build(KEY, fail)
    assert cache.get_or_build(KEY, builder).plan == b'plan 1'


def test_discarded_engine_is_built_again(tmp_path: Path, builder: Builder) -> None:
    cache = EngineCache(tmp_path)
    cache.get_or_build(KEY, builder)
    cache.discard(KEY)
    cache.discard(KEY)
    assert cache.get_or_build(KEY, builder).plan == b'plan 2'


_BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from test_engines_cache import KEY
from vts_ros.engines.engine_cache import Built, EngineCache

def build():
    with open(Path(sys.argv[1], 'builds'), 'a') as log:
        log.write('x')
    time.sleep(1.0)
    return Built(bytes(5_000_000), {})

stored = EngineCache(Path(sys.argv[1])).get_or_build(KEY, build)
assert len(stored.plan) == 5_000_000
print(stored.hit)
"""


@pytest.mark.slow
def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    processes = [subprocess.Popen(
        [sys.executable, '-c', _BUILD_SLOWLY, str(tmp_path)], cwd=Path(__file__).parent,
        stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=500)[0].strip() for process in processes]
    assert sorted(said) == ['False', 'True', 'True']
    assert (tmp_path / 'builds').read_text() == 'x'


def test_a_killed_builder_blocks_nobody(tmp_path: Path, builder: Builder) -> None:
    process = subprocess.Popen([sys.executable, '-c', _BUILD_SLOWLY.replace('1.0', '60'),
                                str(tmp_path)], cwd=Path(__file__).parent)
    while not (tmp_path / 'builds').exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert EngineCache(tmp_path).get_or_build(KEY, builder).plan == b'plan 1'


def test_waiting_for_another_builder_is_told(tmp_path: Path, builder: Builder,
                                             caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lock = FileLock(tmp_path / f'{KEY.stem}.lock', thread_local=False)
    lock.acquire()
    timer = threading.Timer(0.5, lock.release)
    timer.start()
    assert EngineCache(tmp_path).get_or_build(KEY, builder).plan == b'plan 1'
    timer.join()
    assert 'another process is building' in caplog.text


def test_long_work_shows_that_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with heartbeat('building it', 0.05):
        time.sleep(0.4)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == 'building it ...'
    assert 2 <= len(messages) - 1 <= 8
    assert all(message.startswith('still building it, ') for message in messages[1:])
