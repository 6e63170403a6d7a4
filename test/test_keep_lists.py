# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keep lists on their way to a server: what is sent and refused, where survivors stand."""

from __future__ import annotations

from typing import Any

import cv2
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from numpy.typing import NDArray
import pytest

from vts_ros.lab.bench.vllm_server import KEEP_LISTS
from vts_ros.paths import checkpoint
from vts_ros.pipeline.features import Stopwatch
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import Sparsifier
from vts_ros.vllm_plugin.keep_lists import KEEP, keep_lists, KeepList
from vts_ros.vllm_plugin.pruned_positions import positions, PrunedBlock
from vts_ros.vllm_plugin.registration import register
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.loading import load_processor
from vts_ros.vlm.prompts import Prompt, Prompts
from vts_ros.vlm.served_keep_lists import KeepListPrompt, KeepListServedVlm
from vts_ros.vlm.served_prompt import KEEP as SENT
from vts_ros.vlm.served_prompt import ServedFrame

GRID = (4, 7)
PICTURE = np.random.default_rng(5).integers(0, 256, (360, 640, 3), np.uint8)


@pytest.fixture(scope='module')
def vlm() -> Vlm:
    """Return the embedded model."""
    return Vlm.load(checkpoint('embedded'), device='cpu')


@pytest.fixture
def client() -> KeepListServedVlm:
    """Return a served model that has no server: what it does before it asks."""
    found = object.__new__(KeepListServedVlm)
    images, found.convention, *_ = load_processor(checkpoint('embedded'))
    found._images, found._size = images, images.size
    found._grids = {}
    found._cell_px = images.patch_size * images.merge_size
    return found


def test_both_sides_call_it_the_same() -> None:
    assert SENT == KEEP
    module, _, function = KEEP_LISTS.partition(':')
    assert (register.__module__, register.__name__) == (module, function)


def test_pictures_are_sent_as_the_model_in_this_process_sees_them(
        vlm: Vlm, client: KeepListServedVlm) -> None:
    """Also where its image processor has nothing left to scale, as that of the server."""
    sent = client.encode(PICTURE)
    ours, theirs = (vlm.images(images=[picture], input_data_format='channels_last',
                               return_tensors='pt') for picture in (PICTURE, sent.picture))
    assert sent.grid == GRID
    assert (ours['pixel_values'] == theirs['pixel_values']).all()
    assert client.seen_size(sent) == vlm.seen_size(vlm.encode(PICTURE))


def test_pictures_are_decoded_at_the_size_of_the_model_in_this_process(
        vlm: Vlm, client: KeepListServedVlm) -> None:
    """A JPEG that is decoded smaller is another picture, of which other tokens may be kept."""
    sizes = [(360, 640), (540, 960), (720, 1280), (2160, 3840), (128, 224), (90, 1000)]
    for least in ((0, 0), (256, 448)):
        found = [client.reduction(*size, least) for size in sizes]
        assert found == [vlm.reduction(*size, least) for size in sizes]
    assert client.reduction(720, 1280) == 4
    jpeg = cv2.imencode('.jpg', cv2.resize(PICTURE, (1920, 1080)))[1].tobytes()
    window = [Frame('front', 0, jpeg)]
    sparsifier, prompts = Sparsifier(), Prompts.load()
    kept, pixels = [], []
    for model in (vlm, client):
        pipeline = Pipeline(sparsifier, model, prompts, PipelineConfig())
        kept.append(pipeline.select(window).keep.tolist())
        entry, = pipeline.cache.get_all(window, Stopwatch(pipeline.clock))
        pixels.append(entry.proposal.saliency)
    assert kept[0] == kept[1]
    assert (pixels[0] == pixels[1]).all()


def test_a_request_has_the_list_of_each_picture_and_all_pictures() -> None:
    frame = ServedFrame(np.zeros((128, 224, 3), np.uint8), GRID)
    prompt = KeepListPrompt((frame, frame, frame), ('a', 'b', 'c'), Prompt('', 'What?'))
    request = prompt.request(np.array([0, 27, 56, 83], np.int32))
    assert request['extra_body']['mm_processor_kwargs'][KEEP] == [
        {'grid': [4, 7], 'keep': [0, 27]}, {'grid': [4, 7], 'keep': []},
        {'grid': [4, 7], 'keep': [0, 27]}]
    kinds = [part['type'] for part in request['messages'][-1]['content']]
    assert kinds == ['text', 'image_url'] * 3 + ['text']
    assert 'extra_body' not in prompt.request(None)


@given(st.data())
def test_survivors_stand_where_they_stand_in_the_whole_prompt(vlm: Vlm, data: st.DataObject
                                                              ) -> None:
    """The positions of the plugin are those that transformers give the whole prompt."""
    grids = data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1,
                               max_size=4))
    layout = vlm.layout(grids, ['now'] * len(grids), Prompt('You drive.', 'What is there?'))
    total = sum(rows * columns for rows, columns in grids)
    keep = np.array(sorted(data.draw(st.sets(st.integers(0, total - 1)))), np.int32)
    stays = layout.survivors(_tensor(keep))
    begin, found, pictures = 0, list(stays.tolist()), []
    for rows, columns in grids:
        count = rows * columns
        own = keep[(keep >= begin) & (keep < begin + count)] - begin
        first = int(layout.visual_slots[begin])
        pictures.append(PrunedBlock(sum(place < first for place in found), (rows, columns),
                                      own.astype(np.int64)))
        begin += count
    assert (positions(len(stays), pictures) == layout.position_ids[:, stays].numpy()).all()


def _tensor(keep: NDArray[np.int32]) -> Any:
    import torch

    return torch.from_numpy(keep.astype(np.int64))


@pytest.mark.parametrize(('given', 'reason'), [
    ('all', 'an entry for each of the 1 pictures'),
    ([], 'an entry for each of the 1 pictures'),
    ([[0, 1]], 'an object with "grid" and "keep"'),
    ([{'grid': [4, 7]}], 'an object with "grid" and "keep"'),
    ([{'grid': [4], 'keep': []}], 'lists of whole numbers'),
    ([{'grid': [4, 7], 'keep': [True]}], 'lists of whole numbers'),
    ([{'grid': [4, 7], 'keep': [3, 3]}], 'not ascending within 0..27'),
    ([{'grid': [4, 7], 'keep': [-1]}], 'not ascending within 0..27'),
    ([{'grid': [4, 7], 'keep': [28]}], 'not ascending within 0..27'),
])
def test_lists_that_are_wrong_are_refused(given: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        keep_lists({KEEP: given}, 1)


def test_a_list_is_for_one_grid() -> None:
    kept, = keep_lists({KEEP: [{'grid': [4, 7], 'keep': [0, 5]}]}, 1) or []
    assert kept == KeepList(GRID, (0, 5))
    kept.check(GRID)
    with pytest.raises(ValueError, match='grid of 4 x 7 visual tokens, but the picture has 7 x 4'):
        kept.check((7, 4))
    assert keep_lists({}, 1) is None


def test_what_a_server_is_sent_is_one_of_two() -> None:
    with pytest.raises(VlmError, match="cannot be 'crops', there are: scaled, exact"):
        Pipeline.load(PipelineConfig(server_pruning='crops'))
