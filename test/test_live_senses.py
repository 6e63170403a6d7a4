# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What ``vts live`` knows of a recording beside its pictures: signals of the car, and sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import threading
from typing import Any

from all_commands import app
from bag_maker import drive, START_NS, STEP_NS
import pytest
from sound_maker import siren_in_noise, write_video_with_sound
from test_live import Page, tiny
from test_signals import BRAKE, drive_that_brakes
from typer.testing import CliRunner
from video_maker import write_video

from vts_ros.errors import SignalError, SoundError
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.bag_frames import read_frames_from
from vts_ros.tools.bag_signals import SignalUse
from vts_ros.tools.live.live_hub import Hub
from vts_ros.tools.live.live_pipeline import LivePipeline
from vts_ros.tools.live.live_sources import Recording
from vts_ros.tools.recorded_senses import RecordedSenses, SoundUse
from vts_ros.vlm.vehicle import Vehicle

pytestmark = pytest.mark.slow

ALL = SignalUse((BRAKE,), tell_vehicle=True, evidence=True)
#: Times before and after all that is played here, of a bag and of a video.
WHOLE = (0, START_NS + 60 * STEP_NS)

__all__ = ['tiny']


def played(source: Recording, count: int) -> list[tuple[Frame, Vehicle | None, list[str]]]:
    """Play so many pictures; return each with what the car did then, and its events."""
    stop = threading.Event()
    found: list[tuple[Frame, Vehicle | None, list[str]]] = []

    def push(frame: Frame) -> None:
        found.append((frame, source.senses.vehicle(), [
            event.kind for event in source.senses.events.near(WHOLE)]))
        if len(found) == count:
            stop.set()

    source.play(push, source.senses.forget, stop)
    return found


def test_what_the_car_did_is_known_with_each_picture_and_not_before(tmp_path: Path) -> None:
    """As ``vts annotate`` knows it; the second pass begins anew."""
    source = Recording.bag(drive_that_brakes(tmp_path / 'bag'), None, True, ALL)
    found = played(source, 20)
    for pictures in (found[:16], found[16:]):
        assert pictures[1][1] is not None
        assert pictures[1][1].speed_mps == 15.0
        assert not any(events for _, _, events in pictures[:8])
    _, middle, _ = found[8]
    _, last, events = found[15]
    assert middle is not None
    assert last is not None
    assert (middle.is_braking, last.is_braking, events) == (False, True, ['hard_braking'])


def test_nothing_is_taken_while_the_next_picture_is_waited_for(tmp_path: Path) -> None:
    bag = drive_that_brakes(tmp_path / 'bag')
    senses = RecordedSenses(bag, ALL)
    while_waiting: list[Vehicle | None] = []

    def due() -> Iterator[tuple[int, Frame]]:
        for item in read_frames_from(0, bag):
            while_waiting.append(senses.vehicle())
            yield item

    with_pictures = [senses.vehicle() for _ in senses.beside(due())]
    assert while_waiting[1:] == with_pictures[:-1]
    assert len({vehicle.speed_mps for vehicle in with_pictures if vehicle}) > 4


def test_signals_are_not_read_unless_they_are_wanted(tmp_path: Path) -> None:
    source = Recording.bag(drive_that_brakes(tmp_path / 'bag'), None, False, SignalUse((BRAKE,)))
    assert {(vehicle, *events) for _, vehicle, events in played(source, 16)} == {(None,)}


def test_the_sound_of_a_video_is_heard(tmp_path: Path) -> None:
    siren = siren_in_noise(7.0, 2.0, 7.0)
    source = Recording.video(write_video_with_sound(tmp_path / 'a.mp4', siren, 35, 200), False,
                             sound=SoundUse('track'))
    found = [events for _, _, events in played(source, 35)]
    assert not any(found[:8])
    assert found[-1] == ['siren']


def test_the_model_is_told_whichever_it_is(
        tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after it has been changed, and in answers to questions."""
    told: list[Vehicle | None] = []
    describe, ask = Pipeline.describe, Pipeline.ask

    def noted_describe(self: Pipeline, *given: Any, **options: Any) -> SceneReport:
        told.append(given[2])
        return describe(self, *given, **options)

    def noted_ask(self: Pipeline, *given: Any, **options: Any) -> str:
        told.append(given[3])
        return ask(self, *given, **options)

    monkeypatch.setattr(Pipeline, 'describe', noted_describe)
    monkeypatch.setattr(Pipeline, 'ask', noted_ask)
    hub = Hub({})
    page = Page(hub)
    source = Recording.bag(drive_that_brakes(tmp_path / 'bag'), None, False, ALL)
    live = LivePipeline(hub, source, Pipeline.load(PipelineConfig(
        model=tiny, max_new_tokens=6, threads=1)), FrameBuffer())
    live.start()
    try:
        page.wait_for('state', status='the recording is over')
        live.change('mode', 'causal')
        page.wait_for('state', mode='causal')
        told_before = len(told)
        live.ask('Is it safe?')
        page.wait_for('answer')
        reports = [event['report'] for event in page.told if event['kind'] == 'report']
    finally:
        live.close()
    assert told_before > 0
    assert all(vehicle and vehicle.speed_mps for vehicle in told)
    assert told[-1] is not None
    assert told[-1].is_braking
    assert {event['kind'] for event in reports[-1]['events']} == {'hard_braking'}
    assert live._pipeline is not None
    assert live._pipeline.events is source.senses.events


@pytest.mark.parametrize('option', ['--tell-vehicle', '--evidence'])
def test_a_video_has_no_signals(tmp_path: Path, option: str) -> None:
    video = write_video(tmp_path / 'a.mp4', range(0, 1000, 200))
    with pytest.raises(SignalError, match='has no signals of the car: leave out --tell-vehicle'):
        Recording.video(video, False, ALL)
    result = CliRunner().invoke(app, ['annotate', '--video', str(video), option])
    assert isinstance(result.exception, SignalError)


@pytest.mark.parametrize('option', [['--tell-vehicle'], ['--evidence'], ['--audio', 'a.wav']])
@pytest.mark.parametrize('source', [['rtsp://nobody/a'], ['--camera', '0'], ['--topic', '/a']])
def test_senses_go_with_recordings(source: list[str], option: list[str]) -> None:
    result = CliRunner().invoke(app, ['live', *source, *option])
    assert result.exit_code == 2
    assert f'{option[0]} goes with a recording' in result.output


def test_sound_that_is_not_there_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(SoundError, match='does not exist'):
        Recording.bag(drive(tmp_path / 'bag', 6), None, False, sound=SoundUse('no.wav'))
