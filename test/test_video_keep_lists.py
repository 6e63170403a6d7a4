# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keep lists of videos on their way to a server: what is sent, where survivors stand."""

from __future__ import annotations

from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import threading
from typing import Any

import cv2
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from vlm_maker import make, PROMPT

from vts_ros.paths import checkpoint
from vts_ros.pipeline.factory import load_pipeline
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import PipelineConfig
from vts_ros.pipeline.steps import steps_of
from vts_ros.vllm_plugin.keep_lists import KEEP, keep_lists, KeepList
from vts_ros.vllm_plugin.pruned_positions import (
    blocks_of_timed_steps,
    counts_of_steps,
    positions,
    PrunedBlock,
    step_times,
    timed_steps,
)
from vts_ros.vllm_plugin.step_patches import step_patches
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.loading import load_processor
from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.served_keep_lists import KeepListPrompt, KeepListServedVlm
from vts_ros.vlm.served_steps import StepsPrompt
from vts_ros.vlm.video_steps import video_steps, VideoStep

INTERVAL_SEC = 0.4
SIZE = (90, 150)
#: Of the tiny checkpoints, for pictures of that size.
GRID, CELLS = (3, 5), 15


@pytest.fixture(scope='module', params=['qwen2_5_vl', 'qwen3_vl'])
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    """Return a tiny model that reads videos."""
    folder = make(request.param, tmp_path_factory.mktemp('models') / request.param)
    return Vlm.load(folder, device='cpu', frames_as='video', interval_sec=INTERVAL_SEC)


@pytest.fixture(scope='module')
def client(tmp_path_factory: pytest.TempPathFactory) -> KeepListServedVlm:
    """Return a served model that has no server: what it does before it asks."""
    folder = make('qwen3_vl', tmp_path_factory.mktemp('models') / 'qwen3_vl')
    found = object.__new__(KeepListServedVlm)
    images = load_processor(folder).images
    found._images, found._size, found._grids = images, images.size, {}
    found._cell_px = images.patch_size * images.merge_size
    found.frames_as, found.step_frames, found._step_sec = 'video', 2, 2 * INTERVAL_SEC
    return found


def picture(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def request_of(client: KeepListServedVlm, cameras: int, count: int,
               keep: NDArray[np.int32] | None) -> dict[str, Any]:
    """Return what is sent of a window: so many frames of each camera."""
    window = [Frame(f'camera{camera}', round(index * INTERVAL_SEC * 1e9),
                    picture(10 * index + camera))
              for index in range(count) for camera in range(cameras)]
    steps = steps_of(window, client.step_frames)
    features = [client.encode(*(frame.rgb() for frame in step)) for step in steps]
    return client.prepare(features, video_steps(steps), PROMPT).request(keep)


def pictures_of(part: dict[str, Any]) -> list[NDArray[np.uint8]]:
    """Return the RGB pictures of a video that is sent, as vLLM takes them apart."""
    kind, data = part['video_url']['url'].split(',', 1)
    assert kind == 'data:video/jpeg;base64'
    found = [cv2.imdecode(np.frombuffer(b64decode(coded), np.uint8), cv2.IMREAD_COLOR)
             for coded in data.split(',')]
    return [np.asarray(decoded[..., ::-1], np.uint8) for decoded in found if decoded is not None]


def test_each_camera_is_a_video_with_a_list_of_its_own(client: KeepListServedVlm) -> None:
    """Of five frames the last is a step of its own, and sent twice."""
    keep = np.array([0, 14, 30, 45, 59, 89], np.int32)
    request = request_of(client, 2, 5, keep)
    assert request['extra_body']['mm_processor_kwargs'][KEEP] == [
        {'grid': [3, 5], 'keep': kept, 'times_sec': [0.2, 1.0, 1.6], 'step_sec': 0.8}
        for kept in ([0, 14, 30], [0, 14, 44])]
    content = request['messages'][-1]['content']
    assert [part.get('text') for part in content] == [
        'camera0', None, 'camera1', None, PROMPT.instruction]
    videos = [pictures_of(part) for part in content if part['type'] == 'video_url']
    assert [len(video) for video in videos] == [6, 6]
    for camera, video in enumerate(videos):
        for index, shown in enumerate(video):
            frame = picture(10 * min(index, 4) + camera)
            assert (shown == client.encode(frame).picture).all()
    # vLLM takes 32 frames of a video that is sent as pictures, unless it is told otherwise.
    assert request['extra_body']['media_io_kwargs'] == {'video': {'num_frames': -1}}


def test_of_one_camera_the_video_has_no_title_and_all_may_be_kept(
        client: KeepListServedVlm) -> None:
    request = request_of(client, 1, 2, None)
    sent, = request['extra_body']['mm_processor_kwargs'][KEEP]
    assert sent['keep'] == list(range(CELLS))
    kinds = [part['type'] for part in request['messages'][-1]['content']]
    assert kinds == ['video_url', 'text']


def test_instructions_before_the_pictures_end_as_in_this_process(
        client: KeepListServedVlm) -> None:
    prompt = Prompt('', '', before='What is ahead?')
    frame = client.encode(picture(0))
    steps = StepsPrompt((frame,), (), prompt, (VideoStep(0.0),), 0.8)
    for sent in (steps, KeepListPrompt((frame,), ('now',), prompt)):
        content = sent.request(None)['messages'][-1]['content']
        assert content[0] == {'type': 'text', 'text': 'What is ahead?\n'}


def test_pictures_of_different_sizes_are_no_video(client: KeepListServedVlm) -> None:
    with pytest.raises(VlmError, match='of different sizes cannot be one step of a video'):
        client.encode(picture(0), picture(1, (150, 90)))
    steps = [client.encode(picture(0, size)) for size in (SIZE, (150, 90))]
    prompt = StepsPrompt(tuple(steps), (), PROMPT, (
        VideoStep(0.0), VideoStep(0.8, begins=False)), 0.8)
    with pytest.raises(VlmError, match='pictures of different sizes cannot be one video'):
        prompt.request(None)


@pytest.mark.parametrize('count', [1, 2])
def test_the_vision_encoder_gets_the_same_steps_to_the_last_bit(vlm: Vlm, count: int) -> None:
    """Frames as pictures, put together by the plugin, are the steps of this process."""
    client = object.__new__(KeepListServedVlm)
    images: Any = vlm.images
    client._images, client._size = images, images.size
    client._cell_px = images.patch_size * images.merge_size
    frames = [picture(seed) for seed in range(count)]
    sent = client.encode(*frames)
    pair = [sent.picture, sent.picture if sent.second is None else sent.second]
    pixels = images(images=pair, input_data_format='channels_last', return_tensors='pt')
    patches = step_patches(pixels['pixel_values'], pixels['image_grid_thw'], 2)
    expected = vlm.encode(*frames)
    model: Any = vlm.model
    with torch.inference_mode():
        found = model.model.get_video_features(
            patches, pixels['image_grid_thw'][:1], return_dict=True).pooler_output[0]
    assert sent.grid == expected.grid == GRID
    assert torch.equal(found, expected.tokens)
    assert count == 1 or not torch.equal(patches, step_patches(
        pixels['pixel_values'].flip(0), pixels['image_grid_thw'], 2))


def test_steps_of_several_videos_are_put_together_one_by_one() -> None:
    grids = torch.tensor([[1, 2, 2]] * 4 + [[1, 2, 4]] * 2)
    counts = grids.prod(1).tolist()
    # The number of its picture in each value.
    patches = torch.cat([torch.full((count, 3 * 2 * 4), float(index))
                         for index, count in enumerate(counts)])
    steps = step_patches(patches, grids, 2).unflatten(1, (3, 2, 4))
    expected = [(0.0, 1.0)] * 4 + [(2.0, 3.0)] * 4 + [(4.0, 5.0)] * 8
    assert [(float(step[0, 0, 0]), float(step[2, 1, 3])) for step in steps] == expected


@given(st.data())
def test_survivors_of_videos_stand_where_they_stand_in_the_whole_prompt(
        vlm: Vlm, data: st.DataObject) -> None:
    """Positions, marks and times are those that transformers give the whole prompt."""
    interval_sec = data.draw(st.floats(0.0, 4.0, width=32))
    reading = vlm.reading('video', interval_sec)
    videos = data.draw(st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=3))
    captions, grids = [], []
    for camera, (steps, rows, columns) in enumerate(videos):
        captions += [VideoStep(data.draw(st.floats(0.0, 20.0)), step == 0, f'camera{camera}')
                     for step in range(steps)]
        grids += [(rows, columns)] * steps
    layout = reading.layout(grids, captions, PROMPT)
    total = sum(rows * columns for rows, columns in grids)
    keep = np.array(sorted(data.draw(st.sets(st.integers(0, total - 1)))), np.int64)
    stays = layout.survivors(torch.from_numpy(keep))
    ids = layout.input_ids[stays].tolist()
    config: Any = vlm.model.config
    begin, end = config.vision_start_token_id, config.vision_end_token_id
    begins, ends = ([place for place, token in enumerate(ids) if token == mark]
                    for mark in (begin, end))
    is_timed = vlm.name == 'qwen3_vl'
    blocks: list[PrunedBlock] = []
    first = mark = told = 0
    for steps, rows, columns in videos:
        size = steps * rows * columns
        own = keep[(keep >= first) & (keep < first + size)] - first
        start = begins[mark]
        if is_timed:
            span = range(start, ends[mark + steps] + 1)
            blocks += blocks_of_timed_steps(ids, span, begin, (rows, columns), own)
            stamps = [vlm.tokenizer.encode(f'<{step.time_sec:.1f} seconds>',
                                           add_special_tokens=False)
                      for step in captions[told:told + steps]]
            counts = counts_of_steps(own, (rows, columns), steps)
            assert ids[start + 1:span.stop - 1] == timed_steps(
                stamps, counts, begin, config.video_token_id, end)
        else:
            blocks.append(PrunedBlock(start + 1, (rows, columns), own, step_times(
                steps, 2 * interval_sec or 1.0, config.vision_config.tokens_per_second)))
        mark += 1 + steps if is_timed else 1
        first, told = first + size, told + steps
    assert (positions(len(ids), blocks) == layout.position_ids[:, stays].numpy()).all()


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'keep': [30]}, 'not ascending within 0..29'),
    ({'keep': [4, 3]}, 'not ascending within 0..29'),
    ({'times_sec': []}, '"times_sec" of vts_keep is a list of seconds'),
    ({'times_sec': 0.2}, '"times_sec" of vts_keep is a list of seconds'),
    ({'times_sec': [0.2, float('inf')]}, '"times_sec" of vts_keep is a list of seconds'),
    ({'times_sec': [0.2, -1.0]}, '"times_sec" of vts_keep is a list of seconds'),
    ({'step_sec': True}, '"step_sec" is one'),
    ({'fps': 1.0}, 'for a video is an object with "grid", "keep", "times_sec" and "step_sec"'),
])
def test_lists_of_videos_that_are_wrong_are_refused(changes: dict[str, Any], reason: str) -> None:
    right = {'grid': [3, 5], 'keep': [0, 29], 'times_sec': [0.2, 1], 'step_sec': 0.8}
    assert keep_lists({KEEP: [right]}, 1, is_video=True) == [
        KeepList((3, 5), (0, 29), (0.2, 1.0), 0.8)]
    with pytest.raises(ValueError, match=reason):
        keep_lists({KEEP: [{**right, **changes}]}, 1, is_video=True)


def test_lists_of_pictures_are_none_of_videos() -> None:
    with pytest.raises(ValueError, match='for a video is an object with'):
        keep_lists({KEEP: [{'grid': [3, 5], 'keep': []}]}, 1, is_video=True)
    with pytest.raises(ValueError, match='an entry for each of the 2 videos'):
        keep_lists({KEEP: []}, 2, is_video=True)


@pytest.mark.parametrize(('changes', 'said'), [
    ({}, 'a server that drops no tokens is sent pictures: set vlm.frames_as to images, or '
         'vlm.server_pruning to exact'),
    ({'server_pruning': 'exact', 'mode': 'causal'},
     'a server reads a video that has grown from its beginning: set vlm.frames_as to images, or '
     'sparsify.mode to window'),
])
def test_what_a_server_cannot_read_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(VlmError, match=said):
        load_pipeline(PipelineConfig(vlm_backend='openai', frames_as='video', **changes))


class ListsModels(BaseHTTPRequestHandler):
    """A server that says which model it has and answers nothing."""

    def do_GET(self) -> None:
        body = json.dumps({'object': 'list', 'data': [{
            'id': 'embedded', 'object': 'model', 'created': 0, 'owned_by': 'test',
            'root': str(checkpoint('embedded'))}]}).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_model_that_makes_no_step_of_two_frames_is_refused() -> None:
    with ThreadingHTTPServer(('127.0.0.1', 0), ListsModels) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(VlmError, match='embedded does not make one step of two frames '
                                               'of a video'):
                load_pipeline(PipelineConfig(
                    vlm_backend='openai', server_pruning='exact', frames_as='video',
                    url=f'http://127.0.0.1:{server.server_port}/v1'))
        finally:
            server.shutdown()
