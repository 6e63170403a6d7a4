# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Videos whose frames are read one by one, pruned, against the whole video as transformers run it.

Video processors of transformers need torchvision, which is not installed. So their code is run in
pieces: what stands in the prompt by the processors, pixels by the image processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.image_utils import SizeDict
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.molmo2.processing_molmo2 import Molmo2Processor
from transformers.models.molmo2.video_processing_molmo2 import Molmo2VideoProcessor
from transformers.models.smolvlm import processing_smolvlm
from vlm_maker import make, names, PROMPT

from vts_ros.pipeline.appended_reader import AppendedReader
from vts_ros.pipeline.change_gate import Moment
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.context import PreparedWindow
from vts_ros.pipeline.deadline import Plan
from vts_ros.pipeline.features import Stopwatch
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.speaking import Speaking
from vts_ros.pipeline.steps import steps_of
from vts_ros.sparsify import Sparsifier
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.conventions import CONVENTIONS
from vts_ros.vlm.families.number_words import in_words
from vts_ros.vlm.prompt_layout import Prepared
from vts_ros.vlm.prompts import Prompts
from vts_ros.vlm.video_steps import video_steps

pytestmark = pytest.mark.slow

INTERVAL_SEC = 0.4
#: Of the largest logit: what floats of 32 bits lose on the way.
EXACT = 1e-4
LIVELY: dict[str, Any] = {'no_repeat_ngram_size': 1}
FAMILIES = names('llava_onevision', 'molmo2', 'smolvlm')
#: Rows and columns of a frame.
GRIDS = {'llava_onevision': (2, 2), 'molmo2': (3, 3), 'smolvlm': (4, 4)}
#: Its tokens of pictures, which see each other.
OF_PICTURES = ['<im_patch>', '<frame_start>', '<frame_end>']


@pytest.fixture(scope='module', params=FAMILIES)
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    folder = make(request.param, tmp_path_factory.mktemp('models') / request.param)
    return Vlm.load(folder, device='cpu', frames_as='video')


@pytest.fixture(scope='module')
def sparsifier() -> Sparsifier:
    return Sparsifier()


def frames_of(cameras: int, count: int) -> list[Frame]:
    """Return a window: so many frames of each camera, at the same moments."""
    random = np.random.default_rng(cameras)
    return [Frame(f'camera{camera}', round(index * INTERVAL_SEC * 1e9),
                  random.integers(0, 256, (90, 150, 3), np.uint8))
            for index in range(count) for camera in range(cameras)]


class Video(NamedTuple):
    """A video: the text before it, and its frames."""

    title: str
    frames: Sequence[Frame]


def videos_of(window: Sequence[Frame]) -> list[Video]:
    """Return the videos of a window: one of each camera, named where there are several."""
    cameras = sorted({frame.camera for frame in window})
    return [Video(camera if len(cameras) > 1 else '',
                  [frame for frame in window if frame.camera == camera]) for camera in cameras]


class StockTransformers:
    """The model with whole videos, as transformers run it."""

    def __init__(self, vlm: Vlm, videos: Sequence[Video], monkeypatch: pytest.MonkeyPatch) -> None:
        self._model: Any = vlm.model
        # Stands for a library that is not installed.
        monkeypatch.setattr(processing_smolvlm, 'num2words', {4: 'four', 5: 'five'}.__getitem__)
        content: list[Any] = []
        for video in videos:
            content += [{'type': 'text', 'text': video.title}] * bool(video.title)
            content.append({'type': 'video'})
        content.append({'type': 'text', 'text': PROMPT.instruction})
        system = {'role': 'system', 'content': [{'type': 'text', 'text': PROMPT.system}]}
        template = processing_smolvlm.DEFAULT_CHAT_TEMPLATE if vlm.name == 'smolvlm' else None
        text = str(vlm.tokenizer.apply_chat_template(
            [system, {'role': 'user', 'content': content}], tokenize=False,  # type: ignore
            chat_template=template, add_generation_prompt=True))
        first, *others = text.split('<|video|>' if vlm.name == 'molmo2' else '<video>')
        pixels, written = getattr(self, f'_{vlm.name}')(vlm, videos)
        for placeholder, other in zip(written, others, strict=True):
            first += placeholder + other
        if vlm.name == 'molmo2':
            first = '<|im_end|>' + first
        encoded = vlm.tokenizer(first, add_special_tokens=False, return_tensors='pt')
        self.ids = encoded['input_ids']
        self.inputs = {**encoded, **pixels}
        self.sees = torch.ones(self.ids.shape[1], self.ids.shape[1]).tril().bool()
        if vlm.name == 'molmo2':
            ids: Any = vlm.tokenizer.convert_tokens_to_ids(OF_PICTURES)
            is_picture = torch.isin(self.ids, torch.tensor(ids))
            self.inputs['mm_token_type_ids'] = is_picture.long()
            self.sees |= is_picture[0][:, None] & is_picture[0]

    def _smolvlm(self, vlm: Vlm, videos: Sequence[Video]) -> tuple[Any, list[str]]:
        images: Any = vlm.images
        pixels = images(images=[[frame.rgb() for video in videos for frame in video.frames]],
                        size={'longest_edge': 96}, do_image_splitting=False, return_tensors='pt')
        named: Any = SimpleNamespace(
            image_token='<image>', fake_image_token='<fake_token_around_image>',
            global_image_token='<global-img>', image_seq_len=16)
        return pixels, [processing_smolvlm.SmolVLMProcessor.replace_video_token(
            named, {'pixel_values': torch.empty(1, len(video.frames)), 'video_metadata': [
                SimpleNamespace(fps=2.5, duration=None, timestamps=[
                    frame.stamp_ns * 1e-9 for frame in video.frames])]}, 0) for video in videos]

    def _molmo2(self, vlm: Vlm, videos: Sequence[Video]) -> tuple[Any, list[str]]:
        images: Any = vlm.images
        backend: Any = SimpleNamespace(
            resize=images.resize, rescale_and_normalize=images.rescale_and_normalize)
        backend._build_video_patches = partial(
            Molmo2VideoProcessor._build_video_patches, backend)
        pixels = Molmo2VideoProcessor._preprocess(
            backend, [torch.stack([torch.from_numpy(frame.rgb()).permute(2, 0, 1)
                                   for frame in video.frames]) for video in videos],
            SizeDict(height=56, width=56), images.resample, True, 1 / 255, True,
            images.image_mean, images.image_std, 8, [3, 3], 'pt')
        named: Any = SimpleNamespace(video_use_col_tokens=False, use_frame_special_tokens=True)
        named.get_video_string = partial(Molmo2Processor.get_video_string, named)
        return pixels, [Molmo2Processor.replace_video_token(named, {
            **pixels, 'video_metadata': [SimpleNamespace(
                fps=1 / INTERVAL_SEC, frames_indices=range(len(video.frames)))]}, index)
            for index, video in enumerate(videos)]

    def _llava_onevision(self, vlm: Vlm, videos: Sequence[Video]) -> tuple[Any, list[str]]:
        images: Any = vlm.images
        size = SizeDict(height=60, width=60)
        squares = [images.resize(frame.rgb().transpose(2, 0, 1), size, resample=images.resample)
                   for video in videos for frame in video.frames]
        views = images(images=[squares], input_data_format='channels_first',
                       return_tensors='pt')['pixel_values'][:, 0]
        pixels = views.unflatten(0, (len(videos), -1))
        named: Any = SimpleNamespace(num_image_tokens=16, video_token='<video>')
        return {'pixel_values_videos': pixels}, [LlavaOnevisionProcessor.replace_video_token(
            named, {'pixel_values_videos': pixels}, index) for index in range(len(videos))]

    @torch.inference_mode()
    def generate(self, tokens: int) -> list[int]:
        """Return the tokens that it writes."""
        output = self._model.generate(
            **self.inputs, max_new_tokens=tokens, do_sample=False, **LIVELY)
        return output[0, self.ids.shape[1]:].tolist()

    @torch.inference_mode()
    def logits(self, dropped: Tensor, answer: Sequence[int] = ()) -> Tensor:
        """Return all logits [S, V] with the dropped prompt tokens masked as keys."""
        inputs = {name: value for name, value in self.inputs.items()
                  if name != 'mm_token_type_ids'}
        inputs['input_ids'] = torch.cat([self.ids, torch.tensor([list(answer)]).long()], 1)
        length = inputs['input_ids'].shape[1]
        seen = torch.ones(length, length).tril().bool()
        seen[:len(dropped), :len(dropped)] = self.sees
        seen[:, :len(dropped)][:, dropped] = False
        inputs['attention_mask'] = torch.zeros(length, length).masked_fill(
            ~seen, torch.finfo(torch.float32).min)[None, None]
        inputs['position_ids'] = torch.arange(length)[None]
        return self._model(**inputs, use_cache=False).logits[0]


def prepare(vlm: Vlm, window: Sequence[Frame]) -> Prepared:
    steps = steps_of(window, vlm.step_frames, is_video=True)
    return vlm.prepare([vlm.encode(frame.rgb()) for frame, in steps], video_steps(steps), PROMPT)


def dropped_of(prepared: Prepared, keep: NDArray[np.int32]) -> Tensor:
    """Return which prompt tokens a keep list drops [S]."""
    layout = prepared.layout
    dropped = torch.zeros(len(layout.input_ids), dtype=torch.bool)
    dropped[layout.visual_slots] = True
    dropped[layout.visual_slots[torch.from_numpy(keep).long()]] = False
    return dropped


def difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def check_pruned(vlm: Vlm, stock: StockTransformers, prepared: Prepared,
                 keep: NDArray[np.int32]) -> None:
    """See that a pruned prompt is the whole one with what was dropped masked."""
    dropped = dropped_of(prepared, keep)
    assert difference(vlm.logits(prepared, keep), stock.logits(dropped)[~dropped]) < EXACT
    answer = vlm.generate(prepared, keep, 4).token_ids
    rows = stock.logits(dropped, answer[:-1])[len(dropped) - 1:]
    assert rows.argmax(-1).tolist() == list(answer)


@pytest.mark.parametrize(('cameras', 'count'), [(1, 5), (3, 4)])
def test_a_window_is_the_video_of_transformers(
        vlm: Vlm, cameras: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    window = frames_of(cameras, count)
    if vlm.name == 'molmo2' and cameras > 1:
        with pytest.raises(VlmError, match='molmo2 reads one video at a time, so that of one cam'):
            prepare(vlm, window)
        return
    stock, prepared = StockTransformers(vlm, videos_of(window), monkeypatch), prepare(vlm, window)
    assert torch.equal(prepared.layout.input_ids, stock.ids[0])
    rows, columns = vlm.token_grid(90, 150)
    assert (rows, columns) == GRIDS[vlm.name]
    total = len(prepared.layout.visual_slots)
    assert total == cameras * count * rows * columns
    found = vlm.generate(prepared, max_new_tokens=8, **LIVELY).token_ids
    assert list(found) == stock.generate(8)
    assert len(set(found)) == 8
    random = np.random.default_rng(0)
    keep = np.sort(random.permutation(total)[:round(0.6 * total)]).astype(np.int32)
    for kept in (keep, np.array([], np.int32)):
        check_pruned(vlm, stock, prepared, kept)
    # The proof notices frames in another order.
    steps = steps_of(window, 1, is_video=True)
    swapped = vlm.prepare([vlm.encode(frame.rgb()) for frame, in reversed(steps)],
                          video_steps(steps), PROMPT)
    dropped = dropped_of(prepared, keep)
    assert difference(vlm.logits(swapped, keep), stock.logits(dropped)[~dropped]) > 100 * EXACT


# Causal mode: pruned on arrival, read with every question


class Notes(LogitsProcessor):
    """Notes the logits of every token that is written."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.logits.append(scores[0].clone())
        return scores


class Planned:
    """Plans the same for every window."""

    most = Plan(0.6, 8)

    def __call__(self, entries: Any, visual_tokens: int) -> Plan:
        return self.most


def causal(vlm: Vlm, sparsifier: Sparsifier, **changes: Any) -> Pipeline:
    return Pipeline(sparsifier, vlm, Prompts(PROMPT, PROMPT), PipelineConfig(
        mode='causal', keep_ratio=0.6, frames_as=vlm.frames_as, **changes))


def read(pipeline: Pipeline, window: Sequence[Frame], *, share: bool = False) -> PreparedWindow:
    return pipeline.reader.read(window, PROMPT, Planned(), Stopwatch(), share=share)


@pytest.mark.parametrize('cameras', [1, 3])
def test_what_is_pruned_on_arrival_is_the_video_of_transformers(
        vlm: Vlm, sparsifier: Sparsifier, cameras: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if vlm.name == 'molmo2' and cameras > 1:
        pytest.skip('reads one video at a time')
    pipeline = causal(vlm, sparsifier)
    assert isinstance(pipeline.reader, AppendedReader)
    stream = frames_of(cameras, 4)
    kept: dict[Any, list[int]] = {}
    for end in (2, 3, 4):
        prepared = read(pipeline, stream[:end * cameras])
        # A frame keeps the tokens that it got when it came.
        cells = int(np.prod(prepared.grids[0]))
        for index, entry in enumerate(prepared.entries):
            keep = prepared.selection.keep
            own = (keep[keep // cells == index] % cells).tolist()
            assert kept.setdefault(entry.frame.key, own) == own
    assert prepared.frames == stream
    stock = StockTransformers(vlm, videos_of(stream), monkeypatch)
    assert torch.equal(prepared.inputs.layout.input_ids, stock.ids[0])
    check_pruned(vlm, stock, prepared.inputs, prepared.selection.keep)
    shared = read(pipeline, stream, share=True)
    expected = Notes()
    vlm.generate(prepared.inputs, prepared.selection.keep, 4,
                 logits_processor=LogitsProcessorList([expected]))
    for _ in range(2):
        notes = Notes()
        vlm.generate(shared.inputs, shared.selection.keep, 4, prefix=shared.prefix,
                     logits_processor=LogitsProcessorList([notes]))
        assert difference(torch.stack(notes.logits), torch.stack(expected.logits)) < EXACT
    again = read(pipeline, stream, share=True)
    assert again.prefix is shared.prefix
    report = pipeline.describe(stream)
    assert report.stamp == stream[-1].stamp_ns
    assert [report.frames[place].camera for place, in report.steps] == sorted(
        frame.camera for frame in stream)
    # An answer that is confirmed is about the same steps.
    speaking, now = Speaking(5.0, None, is_brief=False), Moment(
        report.stamp, {}, None, (), report.size)
    speaking.note(replace(report, answer=replace(report.answer, risk='none')), now, None)
    assert speaking.confirm(stream, now, {'total': 0.0}).steps == report.steps


@pytest.fixture(scope='module')
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    folder = make('molmo2', tmp_path_factory.mktemp('models') / 'molmo2')
    return Vlm.load(folder, device='cpu', tokens_per_frame=16)


def test_pictures_that_see_each_other_are_read_with_every_question(
        pictures: Vlm, sparsifier: Sparsifier) -> None:
    pipeline = causal(pictures, sparsifier)
    stream = frames_of(3, 3)
    for end in (6, 9):
        prepared = read(pipeline, stream[:end])
    assert prepared.frames == stream
    whole = pictures.prepare([pictures.encode(frame.rgb()) for frame in stream],
                             PROMPT.captions_on_arrival(stream), PROMPT)
    assert torch.equal(whole.layout.input_ids, prepared.inputs.layout.input_ids)
    assert torch.equal(whole.tokens, prepared.inputs.tokens)
    assert 0.5 < len(prepared.selection.keep) / len(whole.layout.visual_slots) < 0.7


def test_no_more_is_read_than_is_to_be_held(pictures: Vlm, sparsifier: Sparsifier) -> None:
    stream = frames_of(1, 8)
    # The oldest group goes; where there is one only, all but what came last.
    for most, held in ((250, [1, 2, 3, 4, 5, 6, 5, 6]), (120, [1, 2, 1, 2, 1, 2, 1, 2])):
        pipeline = causal(pictures, sparsifier, group_frames=4, kv_tokens=most)
        whole = causal(pictures, sparsifier, group_frames=4)
        for end, count in enumerate(held, 1):
            assert len(read(whole, stream[:end]).frames) == end
            prepared = read(pipeline, stream[:end])
            kept = len(prepared.selection.keep)
            assert prepared.inputs.layout.length_to_last_picture(kept) <= most
            assert prepared.frames == stream[end - count:end]
    with pytest.raises(VlmError, match=r'a picture and its prompt have \d+ tokens, more than '
                                       r'vlm.kv_tokens \(40\) allows'):
        read(causal(pictures, sparsifier, kv_tokens=40), stream)


# Words and forms


def test_numbers_are_said_as_the_processor_says_them() -> None:
    assert [in_words(number) for number in (0, 7, 12, 20, 42, 99, 100, 101, 115, 342, 999)] == [
        'zero', 'seven', 'twelve', 'twenty', 'forty-two', 'ninety-nine', 'one hundred',
        'one hundred and one', 'one hundred and fifteen', 'three hundred and forty-two',
        'nine hundred and ninety-nine']
    for number in (-1, 1000):
        with pytest.raises(ValueError, match=f'no words for {number}'):
            in_words(number)


@pytest.mark.parametrize('vlm', ['smolvlm'], indirect=True)
def test_times_are_those_of_the_frames(vlm: Vlm) -> None:
    frames = [replace(frame, stamp_ns=second * 10**9) for second, frame in zip(
        (100, 101, 163), frames_of(1, 3))]
    first, *others = vlm.texts(video_steps([(frame,) for frame in frames]), PROMPT)
    assert 'three frames from a 0:01:03 [H:MM:SS] video.\n\nFrame from 00:00:' in first
    assert ['Frame from' in text and text.split(':')[0][-2:] + text.split(':')[1][:2]
            for text in others[:-1]] == ['0001', '0103']


@pytest.mark.parametrize('vlm', ['smolvlm'], indirect=True)
def test_a_frame_of_a_video_has_the_size_of_videos(vlm: Vlm) -> None:
    rgb = frames_of(1, 1)[0].rgb()
    small = vlm.preprocess([rgb])['pixel_values']
    images: Any = vlm.images
    whole = images(images=[[rgb]], do_image_splitting=False, return_tensors='pt')['pixel_values']
    assert small.shape == whole.shape
    assert not torch.allclose(small, whole)


def test_frames_of_a_video_are_to_internvl_what_its_pictures_are(tmp_path: Path) -> None:
    """So it needs no way of its own."""
    vlm = Vlm.load(make('internvl', tmp_path / 'internvl'), device='cpu')
    prompt = replace(PROMPT, caption=CONVENTIONS['internvl'].caption)
    window = frames_of(1, 4)
    texts = vlm.texts(prompt.captions(window), prompt)
    named: Any = SimpleNamespace(start_image_token='<img>', end_image_token='</img>',
                            image_token='<IMG_CONTEXT>', image_seq_length=1)
    expected = InternVLProcessor.replace_video_token(
        named, {'pixel_values_videos': torch.empty(1, 4)}, 0)
    assert expected in '<IMG_CONTEXT>'.join(texts)
