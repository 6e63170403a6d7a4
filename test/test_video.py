# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Frames as a video: pruned pairs against the whole video as transformers run it.

Video processors of transformers need torchvision, which is not installed. So their code is run in
pieces: patches by the function of the installed file, placeholders by the processors.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from all_commands import app
import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from typer.testing import CliRunner
from vlm_maker import make, names, PROMPT

from vts_ros.pipeline.context import CausalReader
from vts_ros.pipeline.cost import explain
from vts_ros.pipeline.factory import load_pipeline
from vts_ros.pipeline.features import BrokenFrame, FrameCache, Stopwatch
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig, without_broken
from vts_ros.pipeline.report import SceneReport
from vts_ros.pipeline.steps import StepMaker, steps_of
from vts_ros.sparsify import Proposal, Sparsifier
from vts_ros.sparsify.selection import joined
from vts_ros.tools.pictures import kept_cells
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.families import VIDEO_FAMILIES
from vts_ros.vlm.prefix_reader import Picture, PrefixReader
from vts_ros.vlm.prompt_layout import Prepared, Question
from vts_ros.vlm.prompts import Prompts
from vts_ros.vlm.video_steps import video_steps

pytestmark = pytest.mark.slow

INTERVAL_SEC = 0.4
#: Of the largest logit: what floats of 32 bits lose on the way.
EXACT = 1e-4
LIVELY: dict[str, Any] = {'no_repeat_ngram_size': 1}
QWEN = ('qwen2_vl', 'qwen2_5_vl', 'qwen3_vl', 'qwen3_5')
FAMILIES = names(*QWEN)
#: That have the processors of Qwen3-VL, and each step between marks of its own.
TIMED = ('qwen3_vl', 'qwen3_5')
#: Cameras and frames of each.
WINDOWS = [(1, 4), (1, 5), (2, 4), (2, 5)]


@pytest.fixture(scope='module', params=FAMILIES)
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    folder = make(request.param, tmp_path_factory.mktemp('models') / request.param)
    return Vlm.load(folder, device='cpu', frames_as='video', interval_sec=INTERVAL_SEC)


@pytest.fixture(scope='module')
def sparsifier() -> Sparsifier:
    return Sparsifier()


def picture(seed: int, size: tuple[int, int] = (90, 150)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def frames_of(cameras: int, count: int) -> list[Frame]:
    """Return a window: so many frames of each camera, at the same moments."""
    return [Frame(f'camera{camera}', round(index * INTERVAL_SEC * 1e9),
                  picture(10 * index + camera))
            for index in range(count) for camera in range(cameras)]


# The same video on the way of transformers


class Video(NamedTuple):
    """A video: the text before it, its frames, and which of a stream of pictures they are."""

    title: str
    frames: Sequence[Frame]

    @property
    def numbers(self) -> list[int]:
        return [round(frame.stamp_ns * 1e-9 / INTERVAL_SEC) for frame in self.frames]


def patchify(family: str) -> Any:
    """Return how the video processor of a family makes patches, from the installed file."""
    module = 'qwen3_vl' if family in TIMED else 'qwen2_vl'
    found = find_spec('transformers')
    assert found
    assert found.origin
    path = Path(found.origin).parent / f'models/{module}/video_processing_{module}.py'
    tree = ast.parse(path.read_text(encoding='utf-8'))
    functions: list[ast.stmt] = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == 'patchify']
    assert len(functions) == 1
    space: dict[str, Any] = {'torch': torch}
    exec(compile(ast.Module(functions, []), str(path), 'exec'), space)
    return space['patchify']


def pixels_of(vlm: Vlm, frame: Frame) -> Tensor:
    """Return a picture [C, H, W] as the vision encoder gets it, before it is cut in patches."""
    images: Any = vlm.images
    made = vlm.preprocess([frame.rgb()])
    _, high, wide = made['image_grid_thw'][0].tolist()
    merge, patch = images.merge_size, images.patch_size
    cells = made['pixel_values'].view(
        high // merge, wide // merge, merge, merge, 3, 2, patch, patch)
    assert torch.equal(cells[:, :, :, :, :, 0], cells[:, :, :, :, :, 1])
    return cells[:, :, :, :, :, 0].permute(4, 0, 2, 5, 1, 3, 6).reshape(
        3, high * patch, wide * patch)


def placeholder(vlm: Vlm, grid: Tensor, numbers: list[int]) -> str:
    """Return what the processor of the family writes for a video."""
    processors: dict[str, Any] = {'qwen2_vl': Qwen2VLProcessor, 'qwen3_vl': Qwen3VLProcessor,
                                  'qwen2_5_vl': Qwen2_5_VLProcessor, 'qwen3_5': Qwen3VLProcessor}
    made = processors[vlm.name]
    named = SimpleNamespace(
        video_token='<|video_pad|>', vision_start_token='<|vision_start|>',
        vision_end_token='<|vision_end|>',
        video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2),
        _calculate_timestamps=lambda *args: made._calculate_timestamps(None, *args))
    return str(made.replace_video_token(named, {
        'video_grid_thw': grid[None], 'video_metadata': [SimpleNamespace(
            fps=1 / INTERVAL_SEC, frames_indices=list(numbers))]}, 0))


class StockTransformers:
    """The model with whole videos, as transformers run it."""

    def __init__(self, vlm: Vlm, videos: Sequence[Video]) -> None:
        self._model: Any = vlm.model
        self._vlm = vlm
        cut = patchify(vlm.name)
        patches, grids = [], []
        content: list[Any] = []
        for video in videos:
            pictures = torch.stack([pixels_of(vlm, frame) for frame in video.frames])
            made, *grid = cut(None, pictures[None], 14, 2, 2)
            patches.append(made[0])
            grids.append(grid)
            content += [{'type': 'text', 'text': video.title}, {'type': 'video'}]
        content.append({'type': 'text', 'text': PROMPT.instruction})
        system = {'role': 'system', 'content': [{'type': 'text', 'text': PROMPT.system}]}
        text = str(vlm.tokenizer.apply_chat_template(
            [system, {'role': 'user', 'content': content}], tokenize=False,  # type: ignore
            add_generation_prompt=True))
        first, *others = text.split('<|video_pad|>')
        self.grids = torch.tensor(grids)
        for grid_thw, video, other in zip(self.grids, videos, others, strict=True):
            first += placeholder(vlm, grid_thw, video.numbers) + other
        encoded = vlm.tokenizer(first, add_special_tokens=False, return_tensors='pt')
        self.ids = encoded['input_ids']
        self.is_video = self.ids == self._model.config.video_token_id
        self.inputs: dict[str, Any] = {
            'input_ids': self.ids, 'attention_mask': encoded['attention_mask'],
            'mm_token_type_ids': 2 * self.is_video.int(),
            'pixel_values_videos': torch.cat(patches), 'video_grid_thw': self.grids}
        if vlm.name == 'qwen2_5_vl':
            # As its processor: frames of a step over frames per second.
            self.inputs['second_per_grid_ts'] = torch.tensor([2 * INTERVAL_SEC] * len(videos))

    @property
    def positions(self) -> Tensor:
        """Return the positions [3, S] of all tokens."""
        found, _ = self._model.model.get_rope_index(
            self.ids, mm_token_type_ids=self.inputs['mm_token_type_ids'],
            video_grid_thw=self.grids,
            **{name: value for name, value in self.inputs.items() if name.startswith('second')})
        return found[:, 0]

    @torch.inference_mode()
    def generate(self, tokens: int) -> list[int]:
        """Return the tokens that it writes."""
        output = self._model.generate(
            **self.inputs, max_new_tokens=tokens, do_sample=False, **LIVELY)
        return output[0, self.ids.shape[1]:].tolist()

    @torch.inference_mode()
    def logits(self, dropped: Tensor, answer: Sequence[int] = ()) -> Tensor:
        """
        Return all logits [S, V] without the dropped prompt tokens.

        Masked as keys; or, where that is not what is claimed, left out of the sequence.
        """
        if self._vlm.pruning == 'shortened':
            found = torch.zeros(len(dropped) + len(answer), self._vlm.model.config.get_text_config(
                ).vocab_size)
            found[torch.cat([~dropped, torch.ones(len(answer)).bool()])] = self._shortened(
                dropped, answer)
            return found
        inputs = dict(self.inputs)
        written = torch.tensor([list(answer)], dtype=torch.int64)
        ids = inputs['input_ids'] = torch.cat([self.ids, written], 1)
        inputs['mm_token_type_ids'] = torch.cat(
            [inputs['mm_token_type_ids'], torch.zeros_like(written).int()], 1)
        ahead = torch.arange(1, len(answer) + 1)
        inputs['position_ids'] = torch.cat(
            [self.positions, self.positions[:, -1:] + ahead], 1)[:, None]
        length = ids.shape[1]
        seen = torch.ones(length, length).tril().bool()
        seen[:, :len(dropped)][:, dropped] = False
        mask = torch.zeros(length, length).masked_fill(~seen, torch.finfo(torch.float32).min)
        inputs['attention_mask'] = mask[None, None]
        return self._model(**inputs, use_cache=False).logits[0]

    def _shortened(self, dropped: Tensor, answer: Sequence[int]) -> Tensor:
        """Return the logits [S', V] of the model that is fed what is left of the embeddings."""
        embed = self._model.get_input_embeddings()
        embedded = embed(self.ids.masked_fill(self.is_video, 0))
        embedded[self.is_video] = torch.cat(list(self._model.model.get_video_features(
            self.inputs['pixel_values_videos'], self.grids, return_dict=True).pooler_output))
        written = embed(torch.tensor([list(answer)], dtype=torch.int64))
        embeds = torch.cat([embedded[:, ~dropped], written], 1)
        positions = self.positions[:, ~dropped]
        ahead = torch.arange(1, len(answer) + 1)
        return self._model(
            inputs_embeds=embeds, use_cache=False,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.int64),
            position_ids=torch.cat([positions, positions[:, -1:] + ahead], 1)[:, None]).logits[0]


def videos_of(window: Sequence[Frame]) -> list[Video]:
    """Return the videos of a window: one of each camera, named where there are several."""
    cameras = sorted({frame.camera for frame in window})
    return [Video(camera if len(cameras) > 1 else '',
                  [frame for frame in window if frame.camera == camera]) for camera in cameras]


def difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def dropped_of(prepared: Any, keep: NDArray[np.int32]) -> Tensor:
    """Return which prompt tokens a keep list drops [S]."""
    layout = prepared.layout
    dropped = torch.zeros(len(layout.input_ids), dtype=torch.bool)
    dropped[layout.visual_slots] = True
    dropped[layout.visual_slots[torch.from_numpy(keep).long()]] = False
    return dropped


def prepare(vlm: Vlm, window: Sequence[Frame]) -> Prepared:
    steps = steps_of(window, 2)
    features = [vlm.encode(*(frame.rgb() for frame in step)) for step in steps]
    return vlm.prepare(features, video_steps(steps), PROMPT)


def random_keep(total: int, seed: int) -> NDArray[np.int32]:
    random = np.random.default_rng(seed)
    return np.sort(random.permutation(total)[:total // 2]).astype(np.int32)


# Windows


@pytest.mark.parametrize(('cameras', 'count'), WINDOWS)
def test_a_window_is_the_video_of_transformers(vlm: Vlm, cameras: int, count: int) -> None:
    window = frames_of(cameras, count)
    stock, prepared = StockTransformers(vlm, videos_of(window)), prepare(vlm, window)
    assert torch.equal(prepared.layout.input_ids, stock.ids[0])
    assert torch.equal(prepared.layout.position_ids, stock.positions)
    assert len(prepared.layout.visual_slots) == cameras * 3 * 15 if count == 5 else True
    found = vlm.generate(prepared, max_new_tokens=8, **LIVELY)
    assert list(found.token_ids) == stock.generate(8)
    assert len(set(found.token_ids)) == 8
    for keep in (random_keep(len(prepared.layout.visual_slots), 1), np.array([], np.int32)):
        dropped = dropped_of(prepared, keep)
        expected = stock.logits(dropped)[~dropped]
        assert difference(vlm.logits(prepared, keep), expected) < EXACT
        answer = vlm.generate(prepared, keep, 4).token_ids
        rows = stock.logits(dropped, answer[:-1])[len(dropped) - 1:]
        assert rows.argmax(-1).tolist() == list(answer)


def test_the_proof_notices_swapped_frames_and_other_times(vlm: Vlm) -> None:
    window = frames_of(1, 4)
    stock, steps = StockTransformers(vlm, videos_of(window)), steps_of(window, 2)
    keep = random_keep(30, 2)
    prepared = prepare(vlm, window)
    dropped = dropped_of(prepared, keep)
    expected = stock.logits(dropped)[~dropped]
    swapped = vlm.prepare([vlm.encode(*(frame.rgb() for frame in step[::-1])) for step in steps],
                          video_steps(steps), PROMPT)
    assert difference(vlm.logits(swapped, keep), expected) > 100 * EXACT
    late = replace(prepared, layout=replace(prepared.layout, position_ids=torch.where(
        stock.is_video, prepared.layout.position_ids + torch.tensor([[1], [0], [0]]),
        prepared.layout.position_ids)))
    assert difference(vlm.logits(late, keep), expected) > 10 * EXACT


def test_a_step_costs_what_a_picture_does(vlm: Vlm) -> None:
    grids = {vlm.encode(*(picture(seed) for seed in range(count))).grid for count in (1, 2)}
    assert grids == {vlm.token_grid(90, 150)} == {(3, 5)}
    with pytest.raises(VlmError, match='of different sizes cannot be one step of a video'):
        vlm.encode(picture(0), picture(1, (150, 90)))


# Causal mode


def causal(vlm: Vlm, sparsifier: Sparsifier, **changes: Any) -> Pipeline:
    settings = {'mode': 'causal', 'keep_ratio': 0.5, 'group_frames': 4, 'frames_as': 'video',
                'max_new_tokens': 8, **changes}
    return Pipeline(sparsifier, vlm, Prompts(PROMPT, PROMPT), PipelineConfig(**settings))


def videos_read(frames: Sequence[Frame], waiting: Sequence[Frame]) -> list[Video]:
    """Return the videos of what was read: all as one, or of several cameras every pair as one."""
    cameras = {frame.camera for frame in (*frames, *waiting)}
    if len(cameras) == 1:
        return [Video('', [*frames, *waiting])]
    shown: set[str] = set()
    videos = []
    pairs = [*(frames[at:at + 2] for at in range(0, len(frames), 2)),
             *([frame] for frame in waiting)]
    for pair in pairs:
        camera = pair[0].camera
        videos.append(Video(camera, pair))
        shown.add(camera)
    return videos


@pytest.mark.parametrize(('cameras', 'count'), WINDOWS)
def test_what_is_read_pair_by_pair_is_the_video_of_transformers(
        vlm: Vlm, sparsifier: Sparsifier, cameras: int, count: int) -> None:
    pipeline = causal(vlm, sparsifier)
    stream = frames_of(cameras, count)
    for frame in stream:
        pipeline.ingest([frame])
    assert isinstance(pipeline.reader, CausalReader)
    context, watch = pipeline.reader.context, Stopwatch()
    waiting = [pipeline.cache.get(step, watch) for step in context.waiting]
    assert len(waiting) == (cameras if count % 2 else 0)
    question, prefix, selection = context.read(PROMPT, waiting, 0.5)
    assert prefix is not None
    lone = [entry.frame for entry in waiting]
    videos = videos_read(context.frames, lone)
    seen: set[str] = set()
    for index, video in enumerate(videos):
        if video.title in seen and vlm.name not in TIMED:
            # Told where nothing else tells it: the mean of its frames.
            ago = float(np.mean([frame.stamp_ns for frame in video.frames])) * 1e-9
            videos[index] = video._replace(title=f'{video.title} {ago:.1f}s')
        seen.add(video.title)
    stock = StockTransformers(vlm, videos)
    whole = question.whole() if hasattr(question, 'whole') else question
    assert torch.equal(whole.layout.input_ids, stock.ids[0])
    assert torch.equal(whole.layout.position_ids, stock.positions)
    dropped = dropped_of(question, selection.keep)
    pruned, rest = question.prune(selection.keep), question.after(prefix, selection.keep)
    assert torch.equal(rest.input_ids, pruned.input_ids)
    assert torch.equal(rest.position_ids, pruned.position_ids)
    assert torch.equal(torch.cat([*prefix.read.tokens, rest.tokens]), pruned.tokens)
    for drafts in (None, Drafts([[30, 31, 32]])):
        notes = Notes()
        found = vlm.generate(question, selection.keep, 4, prefix=prefix, drafts=drafts,
                             logits_processor=LogitsProcessorList([notes]))
        expected = stock.logits(dropped, found.token_ids[:-1])[len(dropped) - 1:]
        assert difference(torch.stack(notes.logits)[:4], expected) < EXACT
        assert expected.argmax(-1).tolist() == list(found.token_ids)
    # The question left nothing behind.
    again, same, selection = context.read(PROMPT, waiting, 0.5)
    assert same is not None
    assert same.length == prefix.length == same.cache.get_seq_length()
    assert vlm.generate(again, selection.keep, 4, prefix=same).token_ids == found.token_ids


class Notes(LogitsProcessor):
    """Notes the logits of every token that is written."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.logits.append(scores[0].clone())
        return scores


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    folder = make('qwen3_vl', tmp_path_factory.mktemp('models') / 'qwen3_vl')
    return Vlm.load(folder, device='cpu', frames_as='video', interval_sec=INTERVAL_SEC)


@pytest.mark.parametrize('vlm', ['qwen2_5_vl'], indirect=True)
def test_a_pair_of_which_nothing_is_kept_is_passed_over(vlm: Vlm) -> None:
    window = frames_of(1, 6)
    steps = video_steps(steps_of(window, 2))
    features = [vlm.encode(*(frame.rgb() for frame in step)) for step in steps_of(window, 2)]
    every, none = np.arange(15, dtype=np.int32), np.array([], np.int32)
    held = [Picture(frame, keep) for frame, keep in zip(features, (every, none, every))]
    reader, texts = PrefixReader(vlm), vlm.texts(steps, PROMPT)
    for count in (1, 2, 3):
        prefix = reader.read_on(reader.part(texts[:count], held[:count]))
    keep = np.concatenate([every, every + 30]).astype(np.int32)
    question = Question(prefix, keep, reader.end(texts[-1:]), lambda: prepare(vlm, window))
    found = vlm.generate(question, keep, 4, prefix=prefix).token_ids
    stock = StockTransformers(vlm, videos_of(window))
    dropped = dropped_of(question, keep)
    expected = stock.logits(dropped, found[:-1])[len(dropped) - 1:]
    assert expected.argmax(-1).tolist() == list(found)
    assert torch.equal(question.after(prefix, keep).position_ids, stock.positions[:, ~dropped])


def test_a_group_is_evicted_and_the_rest_read_as_a_video_of_its_own(
        tiny: Vlm, sparsifier: Sparsifier) -> None:
    pipeline = causal(tiny, sparsifier, group_frames=2)
    stream = frames_of(1, 9)
    for frame in stream:
        pipeline.ingest([frame])
    report = pipeline.describe(stream[-5:])
    assert pipeline.stats()['groups_evicted'] > 0
    assert [ref.stamp for ref in report.frames][-1] == report.stamp == stream[-1].stamp_ns
    assert report.steps[-1] == (len(report.frames) - 1,)
    assert all(len(step) == 2 for step in report.steps[:-1])
    reader: Any = pipeline.reader
    context = reader.context
    question, prefix, selection = context.read(PROMPT)
    at_once = tiny.prefix(question, selection.keep)
    assert torch.equal(at_once.read.input_ids, prefix.read.input_ids)
    assert torch.equal(at_once.read.position_ids, prefix.read.position_ids)
    layers: Any = zip(prefix.cache.layers, at_once.cache.layers, strict=True)
    for layer, other in layers:
        torch.testing.assert_close(layer.keys, other.keys, atol=1e-3, rtol=0.0)
    # Time goes on from where the drive is; a pair is read once, with either frame of it.
    assert pipeline.describe(stream[-5:]).steps == report.steps


# Steps and reports


def test_steps_are_pairs_of_one_camera() -> None:
    window = frames_of(2, 3)
    named = [[(frame.camera, frame.stamp_ns // 400_000_000) for frame in step]
             for step in steps_of(window, 2)]
    assert named == [[('camera0', 0), ('camera0', 1)], [('camera0', 2)],
                     [('camera1', 0), ('camera1', 1)], [('camera1', 2)]]
    assert steps_of(window, 1) == [(frame,) for frame in window]
    maker = StepMaker(2)
    made = [maker.take(frame, (90, 150)) for frame in window]
    assert made == [[], [], [(window[0], window[2])], [(window[1], window[3])], [], []]
    assert list(maker.waiting.values()) == [(window[4],), (window[5],)]
    # What can have no partner any more is a step of its own.
    assert maker.take(window[0], (90, 151)) == [(window[4],)]
    assert maker.waiting['camera0'] == (window[0],)


@pytest.mark.parametrize('kind', [np.array, torch.tensor])
def test_what_one_frame_of_a_step_shows_counts_for_both(kind: Any) -> None:
    first = Proposal(kind([[0.1, 0.9]]), kind([[[1.0, 0.0]], [[0.0, 1.0]]]))
    second = Proposal(kind([[0.4, 0.2]]), kind([[[0.0, 0.0]], [[1.0, 1.0]]]))
    found = joined([first, second])
    np.testing.assert_allclose(found.saliency, [[0.4, 0.9]], rtol=1e-6)
    np.testing.assert_allclose(
        found.embedding, [[[0.5 ** 0.5, 0.0]], [[0.5 ** 0.5, 1.0]]], rtol=1e-6)
    assert joined([first]) is first


def test_a_pair_is_computed_once_as_the_window_slides(sparsifier: Sparsifier) -> None:
    encoded: list[int] = []

    def encode(*pictures: NDArray[np.uint8]) -> Any:
        encoded.append(len(pictures))
        return SimpleNamespace(grid=(3, 5))

    stream, cache, watch = frames_of(1, 8), FrameCache(sparsifier, encode, 2), Stopwatch()
    counts = []
    for end in range(4, 9):
        encoded.clear()
        cache.get_all(stream[end - 4:end], watch)
        counts.append(list(encoded))
    # Of even windows the newest pair alone, whichever way they are paired.
    assert counts == [[2, 2], [2, 2], [2], [2], [2]]
    assert cache.counters['frames_new'] == 8
    assert cache.find(stream[4].key) is stream[4]
    assert cache.find(stream[0].key) is None
    encoded.clear()
    cache.get_all(stream[1:6], watch)
    assert encoded[-1] == 1


def test_the_report_says_which_frames_share_tokens(tiny: Vlm, sparsifier: Sparsifier) -> None:
    pipeline = causal(tiny, sparsifier, mode='window')
    window = frames_of(2, 5)
    report = pipeline.describe(window)
    assert len(report.frames) == 10
    assert report.steps == ((0, 2), (4, 6), (8,), (1, 3), (5, 7), (9,))
    assert (report.tokens_total, report.grid) == (6 * 15, (3, 5))
    assert len(report.keep) == 45
    assert report.frames[report.key_frame.index].stamp == report.key_frame.stamp
    again = SceneReport.from_dict(report.to_dict())
    assert again == replace(report, latency_ms=again.latency_ms,
                            time_to_risk_ms=again.time_to_risk_ms)
    cells = kept_cells(report)
    kept = np.isin(np.arange(90), report.keep).reshape(6, 3, 5)
    for place, frames in enumerate(report.steps):
        for frame in frames:
            np.testing.assert_array_equal(cells[frame], kept[place])
    assert pipeline.frames_of(report) == window
    assert len(pipeline.select(window).keep) == 45


def test_a_frame_of_another_size_is_left_out(tiny: Vlm, sparsifier: Sparsifier) -> None:
    pipeline = causal(tiny, sparsifier, mode='window')
    window = frames_of(1, 5)
    for place, left in ((0, window[1:]), (2, window[3:])):
        pipeline.clear()
        odd = [*window]
        for index in range(place + 1):
            odd[index] = replace(window[index], data=picture(index, (120, 90)))
        told: list[BrokenFrame] = []
        report = without_broken(odd, told.append, pipeline.describe)
        assert report is not None
        assert [ref.stamp for ref in report.frames] == [frame.stamp_ns for frame in left]
        assert 'has another size than the frame' in str(told[0])


def test_a_camera_of_another_size_begins_anew_in_causal_mode(
        tiny: Vlm, sparsifier: Sparsifier) -> None:
    pipeline = causal(tiny, sparsifier)
    for changes in (3, 4):
        pipeline.clear()
        stream = [replace(frame, data=picture(index, (150, 90))) if index >= changes else frame
                  for index, frame in enumerate(frames_of(1, 7))]
        for frame in stream[:changes + 1]:
            pipeline.ingest([frame])
        report = pipeline.describe(stream[:changes + 1][-4:])
        assert [ref.stamp for ref in report.frames] == [stream[changes].stamp_ns]
        for frame in stream[changes + 1:]:
            pipeline.ingest([frame])
        report = pipeline.describe(stream[-3:])
        assert [ref.stamp for ref in report.frames] == [
            frame.stamp_ns for frame in stream[changes:]]


@pytest.mark.parametrize('name', [
    name for name in names() if name.values[0] not in VIDEO_FAMILIES])
def test_families_whose_videos_are_not_known_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(VlmError, match=rf'^{name} is a {name} model, to which frames cannot be '
                       f'shown as a video here; to {", ".join(VIDEO_FAMILIES)} they can: '):
        Vlm.load(make(name, tmp_path / name), device='cpu', frames_as='video')


def test_what_cannot_read_a_video_is_refused(tmp_path: Path) -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, 'the model does not make one step of two frames of a video'),
        ({'vlm_backend': 'openai'}, 'a server that drops no tokens is sent pictures'),
        ({'frames_as': 'film'}, "frames cannot be 'film', there are: images, "))
    for changes, said in refused:
        settings: dict[str, Any] = {'frames_as': 'video', 'device': 'cpu', **changes}
        with pytest.raises(VlmError, match=said):
            load_pipeline(PipelineConfig(**settings))
    folder = make('qwen2_vl', tmp_path / 'qwen2_vl')
    template = folder / 'chat_template.jinja'
    template.write_text(template.read_text(encoding='utf-8').replace("'video'", "'film'"),
                        encoding='utf-8')
    with pytest.raises(VlmError, match='the chat template of qwen2_vl places 0 videos'):
        load_pipeline(PipelineConfig(model=str(folder), frames_as='video', device='cpu'))


def test_the_cost_is_told_before_anything_is_loaded(
        vlm: Vlm, tmp_path: Path) -> None:
    folder = make(vlm.name, tmp_path / vlm.name)
    settings = PipelineConfig(frames_as='video', device='cpu', tokens_per_frame=0)
    for count in (4, 5):
        cost = explain(str(folder), [(150, 90)] * 2, settings, count)
        assert (cost.frames, cost.steps) == (count, (count + 1) // 2)
        assert cost.visual_tokens == 2 * cost.steps * 15
        prompt = Prompts.load(convention=vlm.convention).description
        steps = steps_of(frames_of(2, count), 2)
        layout = vlm.layout([(3, 5)] * len(steps), [
            step._replace(camera=f'camera_{index * 2 // len(steps)}')
            for index, step in enumerate(video_steps(steps))], prompt)
        assert cost.text_tokens == len(layout.input_ids) - cost.visual_tokens


def test_quality_is_compared_at_equal_tokens(tmp_path: Path) -> None:
    folder = make('qwen2_5_vl', tmp_path / 'qwen2_5_vl')
    done = CliRunner().invoke(app, [
        'eval', 'frames', '--model', str(folder), '--n', '2', '--shares', '0.8,0.4',
        '--max-new-tokens', '4', '--device', 'cpu', '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    tokens = {name: row['tokens'] for name, row in result['rows'].items()}
    whole = tokens['stock images']
    # A video has too few tokens for four fifths of those of the pictures.
    assert tokens == {
        'stock images': whole, 'stock video': 3 * whole / 5, 'pruned images 0.8': 4 * whole / 5,
        'pruned images 0.4': 2 * whole / 5, 'pruned video 0.4': 2 * whole / 5}
    # Of two windows.
    assert {row['risk_accuracy'] for row in result['rows'].values()} <= {0.0, 0.5, 1.0}
