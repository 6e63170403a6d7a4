# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The same stream of windows through stock transformers and through every way that this package has.

The cases take turns at every window, so that whatever else the machine does meets all of them
alike, and ratios are those of one window of one run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
import copy
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import lru_cache
import gc
import time
from typing import Any, Protocol

import numpy as np
import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from vts_ros.lab.bench.generation_probe import GenerationProbe, synchronize, tensor_peak
from vts_ros.lab.bench.model_shapes import make, SHAPES, TOKEN_PX
from vts_ros.lab.evaluation.generated_page import machine
from vts_ros.lab.scenes.drive import make_drive
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import EMBEDDED, Pipeline, PipelineConfig
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.answers import render
from vts_ros.vlm.int8_weights import INT8, to_int8
from vts_ros.vlm.packed_weights import pack, packed_size, pays, unpack
from vts_ros.vlm.prompts import Prompt, Prompts

Progress = Callable[[float, str], None]

INTERVAL_SEC = 0.4
#: More than any window here has.
KV_TOKENS = 1 << 17
#: Windows before those that count, and the fewest of these.
WARM_UP, LEAST = 2, 2
#: Pictures that the embedded model was trained on at a time.
TOLD_FRAMES = 5
#: The embedded model sees pictures of 4 x 7 visual tokens, the others 8 x 14.
EMBEDDED_SIZE, SHAPE_SIZE = (224, 128), (14 * TOKEN_PX, 8 * TOKEN_PX)
QUICK_SIZE = (8 * TOKEN_PX, 5 * TOKEN_PX)
DENSE = 'dense'
#: Two frames as one step, as stock transformers read a video: fewer tokens before any pruning.
DENSE_VIDEO = 'dense_video'
#: Prompt and answer without a picture.
ROOFLINE = 'roofline'


@dataclass(frozen=True)
class Variant:
    """
    One way through the pipeline.

    Attributes
    ----------
    keep_ratio
        Share of visual tokens that is kept.
    is_cached
        Whether what was computed for earlier windows may be used.
    mode, draft, frames_as, instructions, quantization
        See ``PipelineConfig``.

    """

    keep_ratio: float
    is_cached: bool = True
    mode: str = 'window'
    draft: bool = False
    frames_as: str = 'images'
    instructions: str = 'after'
    quantization: str = ''


_ALL_AT_ONCE = Variant(0.4, mode='causal', draft=True, instructions='first')
VARIANTS = {
    'window_0.6': Variant(0.6, is_cached=False),
    'window_0.4': Variant(0.4, is_cached=False),
    'cached_0.4': Variant(0.4),
    'causal_0.4': Variant(0.4, mode='causal'),
    'drafted_0.4': Variant(0.4, mode='causal', draft=True),
    'window_video_0.6': Variant(0.6, is_cached=False, frames_as='video'),
    'window_video_0.4': Variant(0.4, is_cached=False, frames_as='video'),
    'drafted_video_0.4': Variant(0.4, mode='causal', draft=True, frames_as='video'),
    'all_0.4': _ALL_AT_ONCE,
    'all_int8_0.4': replace(_ALL_AT_ONCE, quantization=INT8),
}
CASES = (DENSE, DENSE_VIDEO, *VARIANTS)


def cases_of(vlm: Vlm, is_told: bool, quantization: str = '') -> tuple[str, ...]:
    """
    Return the cases of a model, with plain weights and those that are quantised so.

    Those with a video are of Qwen2-VL and Qwen2.5-VL, and those that ask in another order or round
    the weights of models that are told what to say: otherwise they would say something else.
    """
    is_of_video = vlm.model.config.model_type in ('qwen2_vl', 'qwen2_5_vl')
    return tuple(
        name for name in CASES
        if (is_of_video or not name.startswith(DENSE_VIDEO)) and (name not in VARIANTS or (
            (is_of_video or VARIANTS[name].frames_as == 'images')
            and (is_told or VARIANTS[name].instructions == 'after')
            and VARIANTS[name].quantization in ('', quantization))))


@dataclass(frozen=True)
class Workload:
    """
    What is measured.

    Attributes
    ----------
    model
        ``embedded``, a key of SHAPES, or a checkpoint of the class Qwen-VL.
    frames, cameras
        Instants of a window, and pictures of each.
    longest
        The windows end where those of so many instants would, if that is more: windows of any
        length are then answered alike, and their drafts are as good.
    windows
        How many windows are measured; fewer when the time is over, but at least two.
    budget_sec
        Time for the measurement of times; what comes before and after it is not in it.
    is_told
        Whether the model is held, word for word, to what the embedded model answers about the
        last five pictures. Random weights always are.
    answer_tokens
        Where such answers are cut.
    size
        Width and height of the pictures; (0, 0) takes the usual size of the model.
    seed
        Of the drive and of random weights.

    """

    model: str = EMBEDDED
    frames: int = 5
    cameras: int = 1
    longest: int = 0
    windows: int = 12
    budget_sec: float = 120.0
    is_told: bool = False
    answer_tokens: int = 24
    size: tuple[int, int] = (0, 0)
    seed: int = 7
    device: str = 'auto'
    threads: int = 0

    @property
    def picture_size(self) -> tuple[int, int]:
        """Return width and height of the pictures."""
        if self.size != (0, 0):
            return self.size
        return SHAPE_SIZE if self.model in SHAPES else EMBEDDED_SIZE


@dataclass
class Sample:
    """
    One answer.

    Attributes
    ----------
    total_ms, ttft_ms
        From the arrival of the newest frame to the answer, and to its first token.
    stages_ms
        Where the time went.
    kv_bytes, passes, written
        Keys and values at the end, runs of the language model, tokens of the answer.
    risk_ms
        From the arrival to the level of the risk, said before the answer ends; None where it is
        not.

    """

    total_ms: float
    ttft_ms: float
    stages_ms: dict[str, float]
    kv_bytes: int = 0
    passes: int = 0
    written: int = 0
    risk_ms: float | None = None


@dataclass
class Measured:
    """The answers of a case, and the most memory that it took."""

    samples: list[Sample] = field(default_factory=list)
    peak_bytes: int = 0


class Case(Protocol):
    """A way from a window to an answer."""

    def answer(self, window: Sequence[Frame]) -> Sample:
        """Answer a window."""


def drive_frames(count: int, size: tuple[int, int], seed: int, cameras: int = 1
                 ) -> list[list[Frame]]:
    """
    Return pictures of a rendered drive up to and through its first hazard, by instant.

    Further cameras see what the first one does, mirrored or shifted: it is about their cost.
    """
    scene = _drive(seed)
    begin = round(scene.families[1][0] / INTERVAL_SEC) - count // 2
    begin = min(max(begin, 0), max(len(scene.times) - count, 0))
    renderer = Renderer(scene, *size)
    instants = []
    for index in range(begin, begin + count):
        picture = renderer.frame(index % len(scene.times))
        stamp = round(index * INTERVAL_SEC * 1e9)
        seen = [picture[:, ::-1] if camera % 2 else picture for camera in range(cameras)]
        instants.append([
            Frame(f'camera{camera}', stamp, np.roll(picture, camera // 2 * 40, axis=1).copy())
            for camera, picture in enumerate(seen)])
    return instants


@lru_cache(maxsize=1)
def _drive(seed: int) -> Scene:
    """Return a drive of all that is measured in a process; to make it takes seconds."""
    return make_drive(seed, interval_sec=INTERVAL_SEC)


def windows_of(instants: Sequence[Sequence[Frame]], frames: int) -> list[list[Frame]]:
    """Return the windows of so many instants, each one instant further than the one before."""
    return [[frame for instant in instants[end - frames:end] for frame in instant]
            for end in range(frames, len(instants) + 1)]


class StockTransformers:
    """
    Stock transformers: image processor, chat template, ``generate``, nothing of earlier windows.

    Parameters
    ----------
    vlm
        Its parts are used as they were loaded, none of the code around them.
    prompt
        What is asked.
    tape
        Around the model.
    max_new_tokens
        Longest answer.
    with_pictures
        Without, only prompt and answer are left: no way can be faster but by drafts.

    """

    def __init__(self, vlm: Vlm, prompt: Prompt, tape: GenerationProbe, max_new_tokens: int,
                 with_pictures: bool = True) -> None:
        self._vlm, self._prompt, self._tape = vlm, prompt, tape
        self._max_new_tokens, self._with_pictures = max_new_tokens, with_pictures

    #: Content of a message, token of the processor, arguments of the model and their type.
    _content = ('image', 'image_token_id', 'pixel_values', 'image_grid_thw', 1)

    def pixels(self, window: Sequence[Frame]) -> dict[str, torch.Tensor]:
        """Return the pictures as the model takes them."""
        return dict(self._vlm.images(
            images=[frame.rgb() for frame in window], input_data_format='channels_last',
            return_tensors='pt'))

    def captions(self, window: Sequence[Frame]) -> list[str]:
        """Return what stands before each picture or video."""
        return self._prompt.captions(window)

    def inputs(self, window: Sequence[Frame]) -> dict[str, torch.Tensor]:
        """Return what ``generate`` takes, as the processor of the model makes it."""
        tokenizer, model = self._vlm.tokenizer, self._vlm.model
        kind, token, _, grids, token_type = self._content
        image_id = getattr(model.config, token)
        image = str(tokenizer.convert_ids_to_tokens(image_id))
        content: list[dict[str, str]] = []
        for caption in self.captions(window):
            content.append({'type': 'text', 'text': caption})
            content.extend([{'type': kind}] if self._with_pictures else [])
        content.append({'type': 'text', 'text': self._prompt.instruction})
        messages: list[dict[str, Any]] = [
            {'role': 'system', 'content': [{'type': 'text', 'text': self._prompt.system}]},
            {'role': 'user', 'content': content}]
        text = str(tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True))
        pixels: dict[str, torch.Tensor] = {}
        if self._with_pictures:
            pixels = self.pixels(window)
            merged = self._vlm.images.merge_size ** 2  # type: ignore[attr-defined]
            counts = (pixels[grids].prod(1) // merged).tolist()
            *parts, end = text.split(image)
            text = ''.join(part + image * count for part, count in zip(parts, counts)) + end
        ids = tokenizer(text, return_tensors='pt', add_special_tokens=False)['input_ids']
        inputs = {'input_ids': ids, 'attention_mask': torch.ones_like(ids),
                  'mm_token_type_ids': token_type * (ids == image_id).int(), **pixels}
        return {name: value.to(model.device) for name, value in inputs.items()}

    def answer(self, window: Sequence[Frame]) -> Sample:
        """Answer a window from nothing."""
        self._tape.reset()
        start_sec, first = time.perf_counter(), _FirstToken()
        inputs = self.inputs(window)
        prepared_sec = time.perf_counter()
        output = self._vlm.model.generate(
            **inputs, max_new_tokens=self._max_new_tokens, do_sample=False, temperature=None,
            top_p=None, top_k=None, stopping_criteria=StoppingCriteriaList([first]))
        written = output[0, inputs['input_ids'].shape[1]:].tolist()
        self.text = str(self._vlm.tokenizer.decode(written, skip_special_tokens=True))
        end_sec = time.perf_counter()
        prepare_ms, encode_ms = 1e3 * (prepared_sec - start_sec), self._tape.encode_ms
        ttft_ms, total_ms = 1e3 * (first.sec - start_sec), 1e3 * (end_sec - start_sec)
        return Sample(total_ms, ttft_ms, {
            'prepare': prepare_ms, 'encode': encode_ms,
            'prefill': ttft_ms - prepare_ms - encode_ms, 'decode': total_ms - ttft_ms,
        }, self._tape.kv_bytes, self._tape.passes, len(written))


class StockVideo(StockTransformers):
    """The same with the frames of each camera as one video, for models of two frames a step."""

    _content = ('video', 'video_token_id', 'pixel_values_videos', 'video_grid_thw', 2)

    def pixels(self, window: Sequence[Frame]) -> dict[str, torch.Tensor]:
        """
        Return the videos as the model takes them.

        The video processor of transformers needs torchvision; this is what it makes of frames
        that were scaled as pictures.
        """
        made: dict[str, list[torch.Tensor]] = {'pixel_values_videos': [], 'video_grid_thw': []}
        for camera in sorted({frame.camera for frame in window}):
            seen = [frame for frame in window if frame.camera == camera]
            seen += seen[-1:] * (len(seen) % 2)
            pictures = super().pixels(seen)
            moments = pictures['pixel_values'].unflatten(0, (len(seen) // 2, 2, -1)).unflatten(
                3, (3, 2, -1))
            made['pixel_values_videos'].append(torch.stack(
                [moments[:, 0, ..., 0, :], moments[:, 1, ..., 1, :]], dim=3).flatten(2).flatten(
                0, 1))
            grid = pictures['image_grid_thw'][:1].clone()
            grid[0, 0] = len(seen) // 2
            made['video_grid_thw'].append(grid)
        pixels = {name: torch.cat(parts) for name, parts in made.items()}
        if self._vlm.model.config.model_type == 'qwen2_5_vl':
            pixels['second_per_grid_ts'] = torch.full(
                (len(pixels['video_grid_thw']),), 2 * INTERVAL_SEC)
        return pixels

    def captions(self, window: Sequence[Frame]) -> list[str]:
        """Return the names of the cameras, nothing of a single one."""
        cameras = sorted({frame.camera for frame in window})
        return cameras if len(cameras) > 1 else ['']


class _FirstToken(StoppingCriteria):
    """Notes when the first token is there."""

    def __init__(self) -> None:
        self.sec = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if not self.sec:
            input_ids[0, -1].item()
            self.sec = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class PipelineCase:
    """The pipeline of this package, in one of its ways."""

    def __init__(self, pipeline: Pipeline, way: Variant, tape: GenerationProbe) -> None:
        self._pipeline, self._way, self._tape = pipeline, way, tape

    def answer(self, window: Sequence[Frame]) -> Sample:
        """Answer a window; what is not to be remembered is forgotten before."""
        if not self._way.is_cached:
            self._pipeline.clear()
        self._tape.reset()
        start_sec = time.perf_counter()
        report = self._pipeline.describe(window)
        total_ms = 1e3 * (time.perf_counter() - start_sec)
        stages = {name: ms for name, ms in report.latency_ms.items() if name != 'total'}
        whole_ms, risk_ms = report.latency_ms['total'], report.time_to_risk_ms
        return Sample(total_ms, whole_ms - stages['decode'], stages,
                      self._tape.kv_bytes, self._tape.passes, report.answer_tokens,
                      risk_ms if risk_ms is not None and risk_ms < whole_ms else None)


class Bench:
    """
    The models and cases of a workload.

    Parameters
    ----------
    workload
        What is measured.
    has_int8
        Whether the case with weights in eight bits is among the cases. It takes half as much
        memory again, and is one of processors and of models that are told what to say.

    Raises
    ------
    VlmError
        If the model is not of the class that stock transformers are run with here.

    """

    def __init__(self, workload: Workload, has_int8: bool = False) -> None:
        self.workload = workload
        config = PipelineConfig(model=workload.model, device=workload.device,
                                threads=workload.threads,
                                engine_threads=workload.threads)
        is_random = workload.model in SHAPES
        self._writer = Pipeline.load(replace(config, model=EMBEDDED) if is_random else config)
        vlm = self._writer.vlm
        if is_random:
            vlm = make(workload.model, vlm.tokenizer, str(vlm.model.device), workload.seed)
        if not hasattr(vlm.model.model, 'visual'):
            raise VlmError(f'{workload.model} is not of the class Qwen-VL, which is what this '
                           'benchmark knows to run without the pipeline')
        self._is_told = is_random or workload.is_told
        has_int8 &= self._is_told and vlm.model.device.type == 'cpu'
        self.names = cases_of(vlm, self._is_told, INT8 if has_int8 else '')
        # Stock transformers have plain weights, the pipeline those that it loads.
        self.vlm, self._ours = _plain(vlm), {'': _packed(vlm)}
        if has_int8:
            self._ours[INT8] = _rounded(self.vlm)
        self.tape = GenerationProbe(*dict.fromkeys(
            vlm.model for vlm in (self.vlm, *self._ours.values())))

    def cases(self, names: Sequence[str]) -> dict[str, Case]:
        """Return new cases, which remember nothing."""
        found: dict[str, Case] = {}
        for name in names:
            if name in VARIANTS:
                found[name] = self.way(VARIANTS[name])
                continue
            stock = StockVideo if name == DENSE_VIDEO else StockTransformers
            found[name] = stock(self.vlm, self.prompts.description, self.tape, self._longest,
                                with_pictures=name != ROOFLINE)
        return found

    @property
    def prompts(self) -> Prompts:
        """Return what is asked."""
        return self._writer.prompts

    @property
    def _longest(self) -> int:
        """Return the longest answer in tokens."""
        return self.workload.answer_tokens if self._is_told else \
            self._writer.config.max_new_tokens

    def way(self, way: Variant) -> PipelineCase:
        """Return a way through the pipeline that remembers nothing yet."""
        settings = replace(
            self._writer.config, keep_ratio=way.keep_ratio, mode=way.mode, draft=way.draft,
            max_new_tokens=self._longest, group_frames=self.workload.frames, kv_tokens=KV_TOKENS,
            frames_as=way.frames_as, instructions=way.instructions)
        vlm = self._ours[way.quantization]
        if way.frames_as == 'video':
            vlm = vlm.reading('video', INTERVAL_SEC)
        prompts = self.prompts.with_instructions_first() \
            if way.instructions == 'first' else self.prompts
        return PipelineCase(Pipeline(self._writer.sparsifier, vlm, prompts, settings), way,
                            self.tape)

    def scripts(self, windows: Sequence[Sequence[Frame]], progress: Progress
                ) -> list[list[int]]:
        """Return what the model is held to say, nothing where it says what it likes."""
        if not self._is_told:
            return [[] for _ in windows]
        self.tape.script = ()
        tokenizer, scripts = self.vlm.tokenizer, []
        for index, window in enumerate(windows):
            progress(index / len(windows), 'answers of the embedded model')
            seen = [frame for frame in window if frame.camera == window[0].camera][-TOLD_FRAMES:]
            text = render(self._writer.describe(seen).answer)
            ids = tokenizer(text, add_special_tokens=False)['input_ids']
            scripts.append([*ids, tokenizer.eos_token_id][:self.workload.answer_tokens])
        return scripts

    def run(self, progress: Progress = lambda *_: None,
            names: Sequence[str] = ()) -> dict[str, Measured]:
        """Return the answers of every case, or of some, and the memory that it took."""
        names = names or (*self.names, ROOFLINE)
        work = self.workload
        before = max(work.longest - work.frames, 0)
        instants = drive_frames(before + work.frames + work.windows + WARM_UP - 1,
                                work.picture_size, work.seed, work.cameras)
        windows = windows_of(instants[before:], work.frames)
        scripts = self.scripts(windows, progress)
        cases, found = self.cases(names), {name: Measured() for name in names}
        for index, (name, case) in enumerate(cases.items()):
            progress(index / len(cases), f'memory and warm-up, {name}')
            found[name].peak_bytes = self._peak(name, case, windows, scripts)
        begin_sec, timed = time.perf_counter(), list(zip(windows, scripts))[WARM_UP:]
        for index, (window, script) in enumerate(timed):
            used = (time.perf_counter() - begin_sec) / work.budget_sec
            # Whether another round fits, by what those before took.
            if index >= LEAST and used * (index + 1) > index:
                break
            for name, case in cases.items():
                progress(max(used, index / len(timed)), f'window {index + 1}, {name}')
                self.tape.script = script
                found[name].samples.append(case.answer(window))
        return found

    def _peak(self, name: str, case: Case, windows: Sequence[Sequence[Frame]],
              scripts: Sequence[Sequence[int]]) -> int:
        """Return the most bytes above the weights in the windows of the warm-up."""
        # What keeps nothing is the same at the second window. The end of an answer adds little to
        # the peak, but is a draft for the next.
        remembers = name in VARIANTS and VARIANTS[name].is_cached
        drafts = name in VARIANTS and VARIANTS[name].draft
        synchronize(self.vlm.model.device)
        with tensor_peak(self.vlm.model.device) as peak:
            for window, script in list(zip(windows, scripts))[:WARM_UP if remembers else 1]:
                # An end token ends what the model is told to say.
                short = [*script[:8], self.vlm.tokenizer.eos_token_id] if script else ()
                self.tape.script = script if drafts else short
                case.answer(window)
        return peak()

    def close(self) -> None:
        """Leave the model as it was."""
        self.tape.close()


def _plain(vlm: Vlm) -> Vlm:
    """Return a model with weights as transformers load them: itself, if its own are so."""
    if packed_size(vlm.model) == (0, 0):
        return vlm
    network = copy.deepcopy(vlm.model)
    unpack(network)
    return vlm.with_network(network)


def _packed(vlm: Vlm) -> Vlm:
    """Return a model with weights as the pipeline loads them: itself, if its own are so."""
    if not any(pays(layer, vlm.model.device.type) for layer in vlm.model.modules()):
        return vlm
    network = copy.deepcopy(vlm.model)
    pack(network)
    return vlm.with_network(network)


def _rounded(vlm: Vlm) -> Vlm:
    """Return a model with the weights of its language model in eight bits."""
    network = copy.deepcopy(vlm.model)
    to_int8(network)
    pack(network)
    return vlm.with_network(network)


def default_models(device: str) -> list[str]:
    """Return what is measured where nothing is said: what the device can run in minutes."""
    on_gpu = device.startswith('cuda') or (device == 'auto' and torch.cuda.is_available())
    return [*(['qwen2.5-vl-3b', 'qwen2.5-vl-7b'] if on_gpu else ['qwen2.5-0.5b']), EMBEDDED]


def quick_workloads(common: Workload, models: Sequence[str]) -> list[Workload]:
    """Return workloads of windows of five small pictures, for a first look."""
    small = replace(common, frames=TOLD_FRAMES, windows=4, answer_tokens=10)
    return [replace(small, model=model, budget_sec=45.0 if model in SHAPES else 8.0,
                    size=QUICK_SIZE if model in SHAPES else (0, 0)) for model in models]


def measured_here(device: str) -> dict[str, str]:
    """Return where and when something was measured."""
    return {'date': date.today().isoformat(), 'machine': machine(device)}


def suite(workloads: Sequence[Workload], progress: Progress = lambda *_: None) -> dict[str, Any]:
    """
    Run workloads one after the other; those of one model in a row load it once.

    Returns
    -------
    The object of the first, with those of the others in ``more``.

    """
    results: list[dict[str, Any]] = []
    bench: Bench | None = None
    try:
        for index, workload in enumerate(workloads):
            def tell(share: float, what: str, index: int = index, workload: Workload = workload
                     ) -> None:
                progress((index + share) / len(workloads),
                         f'{workload.model}, {workload.frames} frames: {what}')

            tell(0.0, 'loading')
            if bench is None or bench.workload.model != workload.model:
                # The old model is gone before there is a new one.
                if bench is not None:
                    bench.close()
                    bench = None
                _collect()
                bench = Bench(workload, has_int8=True)
            bench.workload = workload
            results.append({**measured_here(str(bench.vlm.model.device)),
                            **summary(workload, bench.run(tell))})
    finally:
        if bench is not None:
            bench.close()
    return {**results[0], 'more': results[1:]}


def _collect() -> None:
    """Have the memory back of what is not used any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def summary(workload: Workload, found: dict[str, Measured]) -> dict[str, Any]:
    """Return what was measured, and the ratios to the faster of the stock cases."""
    stock = min((name for name in (DENSE, DENSE_VIDEO) if name in found), key=lambda name: sum(
        sample.total_ms for sample in found[name].samples))
    dense = found[stock]
    figures = {name: _figures(measured) for name, measured in found.items()}
    ratios = {name: _ratios(measured, dense) for name, measured in found.items()
              if name != stock}
    result: dict[str, Any] = {
        'workload': {**asdict(workload), 'size': list(workload.picture_size),
                     'n': len(dense.samples)},
        'stock': stock}
    if ROOFLINE in found:
        result['roofline'] = {**figures.pop(ROOFLINE), 'ratio_to_stock': ratios.pop(ROOFLINE)}
    return {**result, 'cases': figures, 'ratio_to_stock': ratios}


def _figures(measured: Measured) -> dict[str, Any]:
    stages: dict[str, list[float]] = defaultdict(list)
    for name in dict.fromkeys(name for sample in measured.samples for name in sample.stages_ms):
        stages[name] = [sample.stages_ms.get(name, 0.0) for sample in measured.samples]
    totals = [sample.total_ms for sample in measured.samples]
    risks = [sample.risk_ms for sample in measured.samples if sample.risk_ms is not None]
    return {
        'windows_per_s': round(1e3 / float(np.mean(totals)), 4),
        'total_ms': _percentiles(totals),
        'ttft_ms': round(float(np.median([sample.ttft_ms for sample in measured.samples])), 2),
        # Only where all answers say it, so that it is of the same windows.
        'risk_ms': round(float(np.median(risks)), 2) if len(risks) == len(totals) else None,
        'stages_ms': {name: _percentiles(values) for name, values in stages.items()},
        'kv_bytes': int(np.median([sample.kv_bytes for sample in measured.samples])),
        'peak_bytes_above_weights': measured.peak_bytes,
        'answer_tokens': float(np.median([sample.written for sample in measured.samples])),
        'tokens_per_pass': round(sum(sample.written for sample in measured.samples)
                                 / max(sum(sample.passes for sample in measured.samples), 1), 3)}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f'p{q}': round(float(np.percentile(values, q)), 2) for q in (50, 95)}


def _ratios(measured: Measured, dense: Measured) -> dict[str, Any]:
    """Return the ratios of each window to the same window, dense: median, least and most."""
    pairs = list(zip(measured.samples, dense.samples))
    return {
        'windows_per_s': _spread([whole.total_ms / part.total_ms for part, whole in pairs]),
        'ttft_ms': _spread([part.ttft_ms / whole.ttft_ms for part, whole in pairs]),
        'kv_bytes': _spread([part.kv_bytes / max(whole.kv_bytes, 1) for part, whole in pairs]),
        'peak_bytes_above_weights': round(measured.peak_bytes / max(dense.peak_bytes, 1), 4)}


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return ``{'median', 'low', 'high'}``, of which the last two are the quartiles."""
    return {name: round(float(np.percentile(values, percentile)), 3)
            for name, percentile in (('median', 50), ('low', 25), ('high', 75))}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {'median': round(float(np.median(values)), 4), 'low': round(min(values), 4),
            'high': round(max(values), 4)}
