# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When a window is described, by itself: without topics, models or a node."""

from __future__ import annotations

from collections.abc import Iterator
import time

import pytest

pytest.importorskip('rclpy')

from node_stand_ins import camera_stand_in, RecordedJobs, RecordedOutputs, SILENT_LOG, untyped

from vts_ros.nodes.current_pictures import CurrentPictures
from vts_ros.nodes.scheduler import Scheduler
from vts_ros.nodes.worker import Worker
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.pipeline_health import PipelineHealth

STEP_NS = 400_000_000


class Stage:
    """A scheduler on a real worker, one camera, and jobs that do nothing."""

    def __init__(self) -> None:
        self.settings = untyped({'pipeline.lazy': False, 'pipeline.period_sec': 0.0,
                                 'sparsify.mode': 'window'})
        self.worker, self.health = Worker(), PipelineHealth()
        self.jobs, self.outputs = untyped(RecordedJobs()), untyped(RecordedOutputs())
        self.cameras = untyped([camera_stand_in()])
        pictures = CurrentPictures(self.cameras, lambda: 0, lambda: 0.0)
        pictures.buffer = FrameBuffer(frames=2)
        self.scheduler = Scheduler(self.settings, self.cameras, pictures, self.worker, self.jobs,
                                   self.outputs, self.health, SILENT_LOG)
        self.stamp_ns = 0

    def show(self, count: int) -> None:
        """Show so many frames, a step apart."""
        for _ in range(count):
            self.stamp_ns += STEP_NS
            self.scheduler.on_frame(self.cameras[0], Frame('front', self.stamp_ns, b''))

    def wait_until_busy(self) -> None:
        """Wait until the worker does something."""
        deadline = time.monotonic() + 60.0
        while not self.worker.running:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def finish(self) -> list[str]:
        """Return what the worker has done since this was last called."""
        self.jobs.go_on.set()
        self.worker.submit('test', lambda stop: None).result(500.0)
        done = list(self.jobs.done)
        self.jobs.done.clear()
        return done


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Return a scheduler that has seen nothing yet."""
    opened = Stage()
    yield opened
    opened.jobs.go_on.set()
    assert opened.worker.close(60.0)


def test_a_window_is_described_once_it_is_complete(stage: Stage) -> None:
    stage.show(1)
    assert stage.finish() == []
    stage.show(1)
    assert stage.finish() == ['describe full']
    assert stage.health.counters['skipped'] == 0
    assert stage.cameras[0].health.counters['admitted'] == 2


def test_windows_that_come_while_one_waits_are_skipped(stage: Stage) -> None:
    stage.jobs.go_on.clear()
    stage.show(2)
    stage.wait_until_busy()
    stage.show(4)
    # One is being described, one waits for its turn.
    assert stage.finish() == ['describe full'] * 2
    assert stage.health.counters['skipped'] == 3


@pytest.mark.parametrize(('mode', 'done'), [('window', []), ('causal', ['read'])])
def test_within_the_period_frames_are_read_in_causal_mode_alone(
        stage: Stage, mode: str, done: list[str]) -> None:
    stage.settings.update({'pipeline.period_sec': 3600.0, 'sparsify.mode': mode})
    stage.show(2)
    assert stage.finish() == ['describe full']
    stage.show(1)
    assert stage.finish() == done
    assert stage.health.counters['skipped'] == 1


def test_a_disabled_node_describes_when_asked(stage: Stage) -> None:
    stage.scheduler.enable(False)
    assert (stage.scheduler.state, stage.outputs.retracted) == (
        'disabled', ['the node was disabled'])
    stage.show(3)
    assert stage.finish() == []
    assert stage.scheduler.describe_now().result(500.0) == (True, 'describe')
    stage.scheduler.enable(True)
    stage.show(1)
    assert stage.finish() == ['describe', 'describe full']
    assert stage.scheduler.state == 'enabled'


def test_a_lazy_node_describes_for_those_who_listen(stage: Stage) -> None:
    stage.settings['pipeline.lazy'] = True
    stage.show(2)
    assert stage.finish() == []
    assert stage.outputs.retracted == ['nobody was listening']
    assert stage.scheduler.state == 'idle: nobody listens'
    stage.outputs.listeners = 1
    stage.show(1)
    assert stage.finish() == ['describe full']
    assert stage.scheduler.state == 'enabled'


def test_time_that_goes_back_interrupts_everything(stage: Stage) -> None:
    stage.jobs.go_on.clear()
    stage.show(2)
    stage.wait_until_busy()
    asked = stage.scheduler.describe_now()
    stage.cameras[0].health.received('front')
    stage.scheduler.start_anew()
    assert asked.cancelled()
    assert stage.outputs.retracted == ['time went back']
    assert not stage.cameras[0].health.arrivals
    assert stage.finish() == ['describe full', 'clear']
    # The window is empty.
    stage.show(1)
    assert stage.finish() == []


def test_a_frame_of_the_past_starts_a_new_drive(stage: Stage) -> None:
    stage.stamp_ns = 1000 * STEP_NS
    stage.show(2)
    stage.finish()
    stage.stamp_ns = 0
    # A single one would be a stray.
    stage.show(3)
    assert stage.outputs.retracted == ['time went back']
    assert 'clear' in stage.finish()


def test_without_cameras_the_node_is_not_active(stage: Stage) -> None:
    stage.cameras.clear()
    assert stage.scheduler.state == 'not active'
