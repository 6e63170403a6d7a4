# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras of different sizes in a window; what is held of frames, and told of windows."""

from __future__ import annotations

from base64 import b64decode
import logging
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import SceneReport
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.selection import share_of
from vts_ros.tools.pictures import kept_cells
from vts_ros.vlm.prompts import describe_prompt
from vts_ros.vlm.served_prompt import ServedFrame, ServedPrompt

pytestmark = pytest.mark.slow

STEP_NS = 400_000_000
#: Height and width of the pictures: on 4 x 7 and on 4 x 6 tokens of the embedded model.
WIDE, TALL = (270, 480), (360, 480)


def picture(size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def drive(moments: int) -> list[Frame]:
    """Return frames of a wide and a tall camera, of which now this, now that one comes last."""
    found = []
    for index in range(moments):
        late = (-1) ** index * 1_000_000
        found += [Frame('a', index * STEP_NS, picture(WIDE, index)),
                  Frame('b', index * STEP_NS + late, picture(TALL, 100 + index))]
    return sorted(found, key=lambda frame: frame.stamp_ns)


@pytest.fixture(scope='module', params=['window', 'causal'])
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    return Pipeline.load(PipelineConfig(threads=1, max_new_tokens=2, mode=request.param))


@pytest.fixture
def encoded(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the sizes of the pictures that went through the vision encoder."""
    sizes: list[tuple[int, int]] = []
    encode = pipeline.vlm.encode

    def noting(rgb: NDArray[np.uint8]) -> Any:
        sizes.append((rgb.shape[0], rgb.shape[1]))
        return encode(rgb)

    monkeypatch.setattr(pipeline.vlm, 'encode', noting)
    pipeline.clear()
    return sizes


def test_each_camera_keeps_its_grid_and_every_frame_is_encoded_once(
        pipeline: Pipeline, encoded: list[tuple[int, int]]) -> None:
    frames = drive(5)
    for end in range(4, 11, 2):
        window = frames[max(0, end - 6):end]
        pipeline.ingest(window)
        report = pipeline.describe(window)
        grids = {frame.camera: grid for frame, grid in zip(report.frames, report.frame_grids)}
        assert grids == {'a': (4, 7), 'b': (4, 6)}
        assert report.tokens_total == sum(
            {'a': 28, 'b': 24}[frame.camera] for frame in report.frames)
        assert list(report.keep) == sorted(set(report.keep))
        assert report.keep[-1] < report.tokens_total
    assert sorted(encoded) == sorted([WIDE, TALL] * 5)
    # A camera that is lost, even the first one, changes nothing for the other.
    pipeline.describe([frame for frame in frames[-6:] if frame.camera == 'b'])
    assert len(encoded) == 10 or pipeline.config.mode == 'causal'


def test_a_report_with_several_grids_is_read_back(pipeline: Pipeline) -> None:
    pipeline.clear()
    report = pipeline.describe(drive(2))
    again = SceneReport.from_dict(report.to_dict())
    assert (again.grids, again.tokens_total) == (report.grids, report.tokens_total)
    assert again.to_dict() == report.to_dict()
    assert report.to_dict()['tokens']['grids'] == [list(grid) for grid in report.frame_grids]
    masks = kept_cells(report)
    assert [mask.shape for mask in masks] == list(report.frame_grids)
    assert np.array_equal(np.concatenate([mask.ravel() for mask in masks]).nonzero()[0],
                          report.keep)
    pipeline.clear()
    alike = pipeline.describe([frame for frame in drive(2) if frame.camera == 'a'])
    assert 'grids' not in alike.to_dict()['tokens']


def test_exactly_the_budget_is_kept_of_a_window_with_two_grids() -> None:
    sparsifier = Sparsifier()
    frames = drive(3)
    proposals = [sparsifier.propose(frame.rgb()) for frame in frames]
    grids = [(4, 7) if frame.camera == 'a' else (5, 5) for frame in frames]
    tokens = [rows * columns for rows, columns in grids]
    for ratio in (0.02, 0.37, 0.6, 1.0):
        found = sparsifier.select_each(proposals, grids, ratio)
        assert found.keep.dtype == np.int32
        assert len(set(found.keep.tolist())) == len(found.keep) == share_of(sum(tokens), ratio)
        assert (np.diff(found.keep) > 0).all()
        assert found.keep[-1] < sum(tokens) == len(found.score)
    assert found.key in range(6)


def test_novelty_is_against_the_same_camera_and_all_are_ranked_together() -> None:
    sparsifier = Sparsifier()
    seen = [sparsifier.propose(picture(WIDE, seed)) for seed in (1, 1, 2, 2, 3, 3)]
    cameras = ['left', 'right'] * 3
    grids = [(4, 7)] * 6
    found = sparsifier.select_each(seen, grids, 0.4, cameras=cameras)
    assert len(found.keep) == share_of(6 * 28, 0.4)
    scores = found.score.reshape(6, 28)
    for camera in ('left', 'right'):
        members = [index for index, name in enumerate(cameras) if name == camera]
        alone = sparsifier.select([seen[index] for index in members], (4, 7), 0.4)
        assert np.array_equal(scores[members], alone.score)
    # The best of all, whichever camera they are of: nothing is reserved.
    assert scores.ravel()[found.keep].min() >= np.delete(scores.ravel(), found.keep).max()
    with pytest.raises(ValueError, match='keep_ratio'):
        sparsifier.select_each(seen, grids, 0.0, cameras=cameras)
    # Of one camera all is as without its name.
    selected = sparsifier.select_each(seen, grids, 0.4, cameras=['left'] * 6)
    assert np.array_equal(selected.keep, sparsifier.select(seen, (4, 7), 0.4).keep)


def test_one_grid_is_chosen_as_ever() -> None:
    sparsifier = Sparsifier()
    proposals = [sparsifier.propose(picture(WIDE, seed)) for seed in range(3)]
    for previous in (None, 1):
        alike = sparsifier.select(proposals, (4, 7), 0.6, previous)
        each = sparsifier.select_each(proposals, [(4, 7)] * 3, 0.6, previous)
        assert alike.key == each.key
        assert np.array_equal(alike.keep, each.keep)
        assert np.array_equal(alike.score, each.score)


def test_a_server_is_sent_what_is_kept_of_each_size() -> None:
    frames = (ServedFrame(picture((90, 160), 0), (2, 3)),
              ServedFrame(picture((90, 90), 1), (2, 2)))
    prompt = ServedPrompt(frames, ('first', 'second'), describe_prompt())
    # All of the second frame, one cell of the first.
    content = prompt.messages(np.array([4, 6, 7, 8, 9], np.int32))[1]['content']
    assert [part['text'] for part in content if part['type'] == 'text'][:2] == [
        'first', 'second']
    small, whole = (cv2.imdecode(np.frombuffer(b64decode(
        part['image_url']['url'].split(',')[1]), np.uint8), cv2.IMREAD_COLOR)
        for part in content if part['type'] == 'image_url')
    assert small is not None
    assert whole is not None
    # A sixth of the pixels.
    assert small.shape == (37, 65, 3)
    assert whole.shape == (90, 90, 3)


def test_frames_are_held_for_a_window_and_one_set_more() -> None:
    pipeline = Pipeline.load(PipelineConfig(threads=1, max_new_tokens=1))
    frames = drive(12)
    for end in range(6, len(frames) + 1):
        pipeline.ingest(frames[end - 6:end])
        assert len(pipeline.cache) <= 6 + 2
    for end in (6, 12, 24):
        pipeline.describe(frames[end - 6:end])
        assert len(pipeline.cache) <= 6 + 2


def test_what_windows_cost_and_pruning_in_vain_are_told_once(
        caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, 'vts_ros')
    pipeline = Pipeline.load(PipelineConfig(threads=1, max_new_tokens=1))
    assert int(pipeline.info()['kv_bytes_per_token']) == 2 * 6 * 6 * 32 * 4
    assert pipeline.info()['weights_mb'] == '35'
    caplog.clear()
    frames = [Frame('front', index * STEP_NS, picture(WIDE, index)) for index in range(5)]
    for _ in range(2):
        pipeline.describe(frames[:3])
    assert [record.getMessage() for record in caplog.records] == [
        'pictures of 480x270 px are 28 visual tokens (4x7); of 84 in 3 frames 50 are kept, 461 kB '
        'of keys and values']
    caplog.clear()
    pipeline.set_keep_ratio(0.999)
    for _ in range(2):
        pipeline.describe(frames[:3])
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ('WARNING', 'nothing is pruned: a keep ratio of 0.999 keeps all 84 visual tokens')]
    caplog.clear()
    pipeline.set_keep_ratio(0.6)
    for frame in frames[:2]:
        pipeline.describe([frame])
    assert not caplog.records
    for frame in frames:
        pipeline.describe([frame])
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert 'windows have one frame' in caplog.text
    # All that is asked for is nothing to tell about.
    caplog.clear()
    pipeline.set_keep_ratio(1.0)
    pipeline.describe(frames[:3])
    assert not caplog.records
