# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings that are cut into stretches: the answers are those of one run, to the last bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from bag_maker import (
    compressed,
    COMPRESSED_TOPIC,
    jpeg,
    picture,
    START_NS,
    STEP_NS,
    write,
)
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from vts_ros.errors import BagError
from vts_ros.fleet.stretches import (
    describe_stretch,
    describe_whole,
    is_worth_cutting,
    make_plan,
    Plan,
    WindowSettings,
)
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.bag_signals import SignalUse
from vts_ros.tools.described_frames import Pair

pytestmark = pytest.mark.slow

LEFT = '/left/image_raw/compressed'


@pytest.fixture(scope='module')
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Return the real pipeline with a tiny language model that has learned nothing."""
    model = tmp_path_factory.mktemp('model') / 'tiny'
    create_checkpoint(
        model, ['a road'], vocab_size=512, text_hidden=64, text_layers=2, text_heads=2,
        text_intermediate=64, hidden_size=32, depth=2, num_heads=2,
        intermediate_size=64)
    return Pipeline.load(PipelineConfig(model=str(model), max_new_tokens=4, threads=1))


def road(number: int) -> bytes:
    """Return a picture whose contents change now and then, so that the key frame does, too."""
    rgb = picture(number)
    rng = np.random.default_rng(number // 3)
    rgb[:40] = rng.integers(0, 256, (40, rgb.shape[1], 3), np.uint8)
    return jpeg(rgb)


def messy_drive(path: Path, storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Write a drive in which pictures are broken, there is a gap, and time goes back."""
    messages = []
    received = stamp = START_NS
    for number in range(90):
        received += STEP_NS
        stamp += STEP_NS
        if number == 40:
            stamp -= 30 * STEP_NS
        if number == 70:
            stamp += 60 * STEP_NS
            received += 60 * STEP_NS
        data = road(number)
        # Those of one are of a window that has then been told about before.
        if number in (17, 18, 33, 34, 60, 66):
            data = data[:len(data) // 2]
        messages.append((COMPRESSED_TOPIC, COMPRESSED_IMAGE, received, compressed(stamp, data)))
    return write(path, messages, storage)


def two_cameras(path: Path, count: int = 40, silent: range = range(16, 26)) -> Path:
    """Write a drive of two cameras, of which one is silent for a while."""
    messages = []
    for number in range(count):
        stamp = START_NS + number * STEP_NS
        messages.append((COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp,
                         compressed(stamp, road(number))))
        if number not in silent:
            messages.append((LEFT, COMPRESSED_IMAGE, stamp + 30_000_000, compressed(
                stamp + 20_000_000, road(number + 7), 'camera_left')))
    return write(path, messages)


def told(pairs: list[Pair]) -> list[SceneReport]:
    """Return the reports without what differs from run to run."""
    return [replace(report, latency_ms={}, time_to_risk_ms=None) for _, report in pairs]


def cut(pipeline: Pipeline, bag: Path, settings: WindowSettings, stretch_sec: float,
        ) -> tuple[Plan, list[SceneReport]]:
    """Return the plan of a recording, and its answers stretch by stretch, in no good order."""
    plan = make_plan(bag, settings, stretch_sec)
    assert plan is not None
    plan = Plan.from_json(plan.to_json())
    found = {number: told(list(describe_stretch(pipeline, bag, settings, plan, number,
                                                Counter())))
             for number in reversed(range(len(plan.cuts)))}
    return plan, [report for number in sorted(found) for report in found[number]]


@pytest.mark.parametrize(('every', 'storage'), [
    (1, StoragePlugin.MCAP), (2, StoragePlugin.SQLITE3)])
def test_the_seams_do_not_show(pipeline: Pipeline, tmp_path: Path, every: int,
                               storage: StoragePlugin) -> None:
    bag = messy_drive(tmp_path / 'bag', storage)
    settings = WindowSettings(every=every)
    counters: Counter[str] = Counter()
    whole = told(list(describe_whole(pipeline, bag, settings, counters)))
    assert len(whole) > 20 // every
    assert {'back', 'gap', 'broken', 'thinned'} <= counters.keys()
    plan, stretches = cut(pipeline, bag, settings, 3.0)
    assert len(plan.cuts) >= 4
    assert stretches == whole
    assert Counter(plan.counters) == counters
    # A window without its newest frame, told about before, is described but not told.
    assert every == 2 or len(plan.windows) > len(whole)


def test_the_seams_of_two_cameras_do_not_show(pipeline: Pipeline, tmp_path: Path) -> None:
    bag = two_cameras(tmp_path / 'bag', 26, range(8, 17))
    settings = WindowSettings(frames=3)
    whole = told(list(describe_whole(pipeline, bag, settings, Counter())))
    assert {len(report.frames) for report in whole} >= {3, 6}
    # Every window is a stretch.
    plan, stretches = cut(pipeline, bag, settings, 0.1)
    assert stretches == whole
    assert len(plan.cuts) == len(whole)


def test_the_last_key_frame_is_found(pipeline: Pipeline, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """It has an advantage, here an insuperable one; without it, some answers are others."""
    bag, settings = messy_drive(tmp_path / 'bag'), WindowSettings()
    sticky = Pipeline(pipeline.sparsifier.variant(hysteresis=10.0), pipeline.language_model,
                      pipeline.prompts, pipeline.config)
    whole = told(list(describe_whole(sticky, bag, settings, Counter())))
    assert cut(sticky, bag, settings, 4.0)[1] == whole
    monkeypatch.setattr('vts_ros.fleet.stretches.find_last_key', lambda *_: None)
    assert cut(sticky, bag, settings, 4.0)[1] != whole


def test_a_recording_that_has_changed_is_not_described(pipeline: Pipeline, tmp_path: Path) -> None:
    settings = WindowSettings()
    plan = make_plan(messy_drive(tmp_path / 'bag'), settings, 5.0)
    assert plan is not None
    with pytest.raises(BagError, match='has changed'):
        list(describe_stretch(pipeline, two_cameras(tmp_path / 'other'), settings, plan, 1,
                              Counter()))


def test_only_long_recordings_are_cut_and_only_if_answers_stay_the_same(tmp_path: Path) -> None:
    bag = two_cameras(tmp_path / 'bag')
    assert is_worth_cutting(bag, PipelineConfig(), 5.0)
    assert not is_worth_cutting(bag, PipelineConfig(), 6.0)
    assert not is_worth_cutting(bag, PipelineConfig(mode='causal'), 5.0)
    # What stands goes on from window to window.
    assert not is_worth_cutting(bag, PipelineConfig(speak='change'), 5.0)
    # So do signals.
    assert not is_worth_cutting(bag, PipelineConfig(), 5.0, SignalUse(tell_vehicle=True))
    assert is_worth_cutting(bag, PipelineConfig(), 5.0, SignalUse(('speed /a b/B c',)))


def test_messages_that_are_not_in_the_order_of_time_are_not_cut(tmp_path: Path) -> None:
    """Files that overlap are read one after the other."""
    for number in range(2):
        messages = []
        for i in range(20):
            stamp = START_NS + (2 * i + number) * STEP_NS
            messages.append((COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp,
                             compressed(stamp, road(i))))
        made = write(tmp_path / f'part_{number}', messages)
        file, = made.glob('*.mcap')
        (tmp_path / 'bag').mkdir(exist_ok=True)
        file.rename(tmp_path / 'bag' / f'{number}.mcap')
    assert make_plan(tmp_path / 'bag', WindowSettings(), 1.0) is None
