# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The way from a window of frames to a scene report.

One class, used by the node, ``vts annotate``, the evaluation and the benchmark. It knows neither
ROS nor which engine or which language model it drives.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
import json
from pathlib import Path
import time
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
import torch

from vts_ros.engines import EngineOptions, Precision
from vts_ros.errors import FrameError, PromptError
from vts_ros.paths import checkpoint, model_path
from vts_ros.pipeline.causal_context import Seen, Stream
from vts_ros.pipeline.confidence import Calibration, Certainty, Tokenizer
from vts_ros.pipeline.deadline import Deadline, Plan, Spent
from vts_ros.pipeline.frames import Frame, Window
from vts_ros.pipeline.guard import Guard, holds, load_guard, NOTHING_KNOWN, UNLIKE_TRAINING
from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport
from vts_ros.sparsify import Selection, Sparsifier
from vts_ros.sparsify.compiled_steps import make_engines
from vts_ros.sparsify.frame_groups import CLEARLY, Groups
from vts_ros.vlm import Generation, LanguageModel, OnText, Vlm, VlmError
from vts_ros.vlm.answers import Answer, has_facts, parse, schema, THOUGHT
from vts_ros.vlm.prefix_reader import Reader, why_not_streamed
from vts_ros.vlm.prompt_layout import Prefix
from vts_ros.vlm.prompts import Prompt, Prompts, Vehicle
from vts_ros.vlm.structured_output import check_structured
from vts_ros.vlm.taught_questions import TaughtQuestions

#: Where the language model runs: in this process, or behind a server with the OpenAI protocol.
VLM_BACKENDS = ('transformers', 'openai')
#: When tokens are chosen: anew for every window, or once for every frame when it comes.
MODES = ('window', 'causal')
#: The default model; a server has none of this name, and is then asked for its first.
EMBEDDED = 'embedded'

Stop = Callable[[], bool]
Result = TypeVar('Result')


class BrokenFrame(FrameError):
    """A frame of the window cannot be used: drop it and try again with the others."""

    def __init__(self, frame: Frame, reason: str) -> None:
        super().__init__(f'{frame.camera} at {frame.stamp_ns * 1e-9:.3f} s: {reason}')
        self.frame = frame


OnBroken = Callable[[BrokenFrame], None]


@dataclass(frozen=True)
class PipelineConfig:
    """
    Settings of the pipeline.

    Attributes
    ----------
    model
        Checkpoint: a shipped name, a directory, or a hub id that is in the local cache. With the
        backend ``openai`` the name on the server; ``embedded`` takes the first it has.
    keep_ratio
        Share of the visual tokens that the language model gets; 1 keeps all.
    alpha
        Weight of dissimilarity to the key frame against saliency, 0 to 1.
    search_radius
        Cells around a token in which the key frame is searched for the like.
    hysteresis
        How much more salient a frame must be to take over from the last key frame.
    deadline_ms
        Time for a description. Keep ratio and length of the answer are lowered as far as that
        takes; 0 leaves them as they are.
    min_keep_ratio
        With a deadline: never keeps less.
    language
        Language of prompt and answer.
    prompts
        Prompt file of one's own; empty takes the one of the package.
    structured
        Whether descriptions are held to their form while they are written.
    dtype, attn_implementation, local_files_only
        See ``Vlm.load``.
    quantization
        Quantisation of the weights at loading, as JSON of a ``quantization_config``; empty takes
        the checkpoint as it is.
    vlm_backend
        One of VLM_BACKENDS.
    url, timeout_sec, retries
        Of the server, see ``ServedVlm``.
    engine_backend, engine_precision
        What runs the proposal network and the window step, see :func:`make_engines`.
    threads
        Threads of the proposal engine and of PyTorch on the CPU; 0 leaves both alone.
    cache_frames
        Frames whose features are kept.
    mode
        One of MODES: ``window`` chooses among all frames of a window and has the language model
        read it whole; ``causal`` prunes and reads a frame once, when it comes.
    group_frames
        Causal mode: frames per camera that are compared with one key frame, at most; an answer is
        about as many at least where the scene has not changed, and about twice as many at most.
    kv_tokens
        Causal mode: most tokens whose keys and values are kept; question and answer come on top.
    draft
        Whether the last description is the draft of the next one: the same answers, sooner.

    """

    model: str = EMBEDDED
    keep_ratio: float = 0.6
    alpha: float = 0.5
    search_radius: int = 1
    hysteresis: float = 0.05
    deadline_ms: float = 0.0
    min_keep_ratio: float = 0.2
    language: str = 'en'
    prompts: str = ''
    max_new_tokens: int = 160
    structured: bool = False
    device: str = 'auto'
    dtype: str = 'auto'
    attn_implementation: str = 'auto'
    quantization: str = ''
    local_files_only: bool = True
    vlm_backend: str = 'transformers'
    url: str = 'http://localhost:8000/v1'
    timeout_sec: float = 10.0
    retries: int = 2
    engine_backend: str = 'auto'
    engine_precision: Precision = 'fp32'
    threads: int = 0
    cache_frames: int = 64
    mode: str = 'window'
    group_frames: int = 5
    kv_tokens: int = 8192
    draft: bool = False


class Pruned(NamedTuple):
    """Frames that are ready for the language model, and which of their tokens that gets."""

    frames: Window
    seen: Sequence[Seen]
    selection: Selection
    prepared: Any
    grid: tuple[int, int]
    plan: Plan
    prefix: Prefix | None = None


@dataclass
class Stopwatch:
    """Milliseconds per stage of one report."""

    clock: Callable[[], float] = time.perf_counter
    ms: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start."""
        self.started = self.clock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage."""
        begin = self.clock()
        try:
            yield
        finally:
            self.ms[name] = self.ms.get(name, 0.0) + 1e3 * (self.clock() - begin)

    def total(self) -> dict[str, float]:
        """Return the stages and the time since the start as ``total``."""
        return {**self.ms, 'total': 1e3 * (self.clock() - self.started)}


class Pipeline:
    """
    Window in, scene report out.

    Frames are looked at once: proposal maps and vision features are cached by camera and stamp
    and used again while the window slides. One caller at a time.

    In causal mode an answer is about what the language model has read, see
    ``pipeline/causal_context.py``: the newest frames of the window, and some before them. Its
    report names them all.

    Raises
    ------
    VlmError
        If mode or draft are not possible with the language model.

    """

    def __init__(self, sparsifier: Sparsifier, language_model: LanguageModel, prompts: Prompts,
                 config: PipelineConfig, calibration: Calibration | None = None,
                 guard: Guard | None = None, taught: TaughtQuestions | None = None) -> None:
        self.sparsifier = sparsifier
        self.language_model = language_model
        self.prompts = prompts
        self.config = config
        #: Why the engine is the one it is.
        self.engine_choice = ''
        #: Length of the last answer in tokens.
        self.answer_tokens = 0
        #: Seconds; replaced where time is simulated.
        self.clock = time.perf_counter
        self._deadline = Deadline(config.min_keep_ratio)
        #: Frames that the last answer was about.
        self.answer_frames: Window = ()
        self._seen: OrderedDict[tuple[str, int], Seen] = OrderedDict()
        self._key: tuple[str, int] | None = None
        self._reader = Reader(language_model) if isinstance(language_model, Vlm) else None
        self._stream = self._make_stream()
        self._draft: tuple[int, ...] = ()
        self._counters: Counter[str] = Counter()
        #: Says how sure an answer is; without, reports have no confidence.
        self.calibration = calibration
        self.taught = taught
        self.guard = guard

    @property
    def guard(self) -> Guard | None:
        """Return what judges the pictures; without, the model speaks about any."""
        return self._guard

    @guard.setter
    def guard(self, guard: Guard | None) -> None:
        """Change it, and forget all frames: it may need more of them than was computed."""
        self._guard = guard
        self.clear()

    def _make_stream(self) -> Stream | None:
        """Return what takes frames in as they come, in causal mode."""
        config = self.config
        if self._reader is None or config.mode == 'window':
            return None
        why_not = why_not_streamed(self.vlm, self.prompts.description)
        if why_not is not None:
            raise VlmError(f'{self.vlm.name} cannot be used in causal mode: {why_not}')
        compares = self.sparsifier.variant(hysteresis=CLEARLY * config.hysteresis)
        return Stream(self.vlm, self._reader, Groups(compares, config.group_frames),
                      config.kv_tokens)

    @classmethod
    def load(cls, config: PipelineConfig | None = None) -> Pipeline:
        """
        Load the prompts, the proposal network and the language model.

        Raises
        ------
        CalibrationError, EngineError, GuardError, PromptError, VlmError
            With one line that says what is missing or does not fit.

        """
        config = config or PipelineConfig()
        _check_mode(config)
        if config.threads:
            torch.set_num_threads(config.threads)
        prompts = Prompts.load(config.language, config.prompts)
        engines = make_engines(config.engine_backend,
                               EngineOptions(config.threads, config.engine_precision))
        sparsifier = Sparsifier(engines.frame, engines.window, alpha=config.alpha,
                                hysteresis=config.hysteresis, search_radius=config.search_radius)
        language_model = _language_model(config, prompts)
        calibration = guard = taught = None
        if isinstance(language_model, Vlm):
            folder = Path(checkpoint(config.model))
            calibration = Calibration.load(folder, model_path('proposal/frame.onnx'))
            guard = load_guard(folder, is_needed=config.model == EMBEDDED)
            taught = TaughtQuestions.load(folder)
            _check_language(config.language, taught, language_model.name)
        pipeline = cls(sparsifier, language_model, prompts, config, calibration, guard, taught)
        pipeline.engine_choice = engines.why
        return pipeline

    @property
    def vlm(self) -> Vlm:
        """
        Return the language model of this process, for tools that look inside.

        Raises
        ------
        VlmError
            If it is behind a server.

        """
        if not isinstance(self.language_model, Vlm):
            raise VlmError('this needs a language model in this process, not on a server')
        return self.language_model

    def arrive(self, *frames: Frame) -> dict[str, float]:
        """
        Look at frames that have just come, so that an answer need not wait for that.

        In causal mode the language model reads them, too.

        Parameters
        ----------
        frames
            In the order of time. Those that came before are passed over.

        Returns
        -------
        Milliseconds per stage.

        Raises
        ------
        BrokenFrame
            If a frame cannot be decoded; those before it were taken in.

        """
        watch = Stopwatch()
        if self._stream is None:
            for frame in frames:
                self._look(frame, None, watch)
        else:
            self._take_in(self._stream, self._stream.new(frames), watch)
        self._shrink(len(frames))
        return watch.total()

    def arrive_good(self, window: Window, on_broken: OnBroken) -> dict[str, float] | None:
        """Take in what is new of a window, as :meth:`describe_good` describes it."""
        def take_in(good: Window) -> dict[str, float]:
            if self._stream is not None:
                self._stream.missing(good)
            return self.arrive(*good)

        return self._with_good(window, on_broken, take_in)

    def describe(self, window: Window, stop: Stop | None = None,
                 vehicle: Vehicle | None = None) -> SceneReport:
        """
        Say what the scene is and what the risk is.

        Parameters
        ----------
        window
            Frames in the order of time, oldest first.
        stop
            Ends the generation early when it returns True.
        vehicle
            What the car does, told to the model in the words of the prompt file.

        Raises
        ------
        BrokenFrame
            If a frame cannot be decoded; nothing of the others is lost.

        """
        return self.describe_batch([window], stop, [vehicle])[0]

    def describe_good(self, window: Window, on_broken: OnBroken, stop: Stop | None = None,
                      vehicle: Vehicle | None = None) -> SceneReport | None:
        """
        Describe what is left of a window without its broken frames; None if nothing is.

        Nothing of the good frames is computed twice.

        Parameters
        ----------
        on_broken
            Told about each frame that is left out.

        """
        return self._with_good(
            window, on_broken, lambda good: self.describe(good, stop, vehicle))

    def describe_batch(self, windows: Sequence[Window], stop: Stop | None = None,
                       vehicles: Sequence[Vehicle | None] | None = None) -> list[SceneReport]:
        """
        Describe several windows at once; the latencies are those of the whole batch.

        In causal mode one comes after the other. A deadline is for windows that come one by one.
        """
        if self._stream is not None and len(windows) > 1:
            return [self.describe(window, stop, vehicle) for window, vehicle in zip(
                windows, vehicles or [None] * len(windows), strict=True)]
        watch = Stopwatch(self.clock)
        is_timed = len(windows) == 1 and self.config.deadline_ms > 0.0
        prompts = [self.prompts.description.about(vehicle)
                   for vehicle in vehicles or [None] * len(windows)]
        certainty = None if self.calibration is None else Certainty()
        options: dict[str, Any] = {'in_form': self.config.structured}
        if certainty is not None:
            options['logits_processor'] = [certainty]
        if self.config.draft and len(windows) == 1:
            options['draft'] = self._draft
        pruned = [self._prune(window, prompt, watch, False, is_timed)
                  for window, prompt in zip(windows, prompts, strict=True)]
        generations = self._generate(pruned, watch, stop, **options)
        self._draft = generations[-1].token_ids
        latency_ms = watch.total()
        if is_timed and not (stop and stop()):
            self._note(pruned[0], generations[0], latency_ms)
            self._counters['deadline_windows'] += 1
            self._counters['deadline_misses'] += latency_ms['total'] > self.config.deadline_ms
        rows = [None] * len(pruned) if certainty is None else certainty.rows()
        return [self._report(one, generation, row, latency_ms)
                for one, generation, row in zip(pruned, generations, rows)]

    def _report(self, pruned: Pruned, generation: Generation,
                log_probabilities: NDArray[np.float32] | None,
                latency_ms: dict[str, float]) -> SceneReport:
        window = pruned.frames
        key = window[pruned.selection.key]
        answer = parse(generation.text, self.prompts.description.box_scale,
                       is_thought=self._begins_in_thought())
        is_known = self._knows(pruned)
        if is_known is False:
            answer = Answer(description=NOTHING_KNOWN, explanation=UNLIKE_TRAINING)
        confidence = None
        # How sure a model is of an answer that is not known says nothing of the road.
        if self.calibration and log_probabilities is not None and answer.risk != 'unknown':
            confidence = self.calibration.confidence(
                generation, log_probabilities, self.vlm.tokenizer)
        return SceneReport(
            stamp=window[-1].stamp_ns,
            frames=tuple(FrameRef(frame.camera, frame.stamp_ns) for frame in window),
            key_frame=KeyFrame(key.camera, key.stamp_ns, pruned.selection.key),
            answer=answer, keep=tuple(pruned.selection.keep.tolist()), grid=pruned.grid,
            latency_ms=latency_ms, model=self.language_model.name, engine=self.sparsifier.engine,
            confidence=confidence, in_distribution=is_known,
            rejected_output=generation.text if is_known is False else None)

    def _begins_in_thought(self) -> bool:
        """Return whether answers begin in a thought: an enforced form has no room for one."""
        if self.config.structured or not isinstance(self.language_model, Vlm):
            return False
        *_, end = self.language_model.texts([''], self.prompts.description)
        return end.rstrip().endswith(THOUGHT[0])

    def ask(self, window: Window, question: str, stop: Stop | None = None,
            vehicle: Vehicle | None = None, on_text: OnText | None = None) -> str:
        """
        Answer a free question about the window; parameters and errors as in :meth:`describe`.

        The pictures are read once for all questions about a window until one is described.

        Parameters
        ----------
        on_text
            Given the answer piece by piece while it is written. Joined, the pieces are the answer.

        Returns
        -------
        The answer. Where the model was not taught the question, or does not know such pictures,
        a sentence that says so: what it would write then is no answer.

        """
        refusal = self._refusal(question)
        if refusal is None:
            watch = Stopwatch(self.clock)
            pruned = self._prune(window, self.prompts.ask(question).about(vehicle), watch,
                                 self._reader is not None, False)
            if self._knows(pruned) is False:
                refusal = NOTHING_KNOWN
        if refusal is not None:
            if on_text is not None:
                on_text(refusal)
            return refusal
        generation, = self._generate([pruned], watch, stop, on_text=on_text)
        return generation.text.strip()

    def _refusal(self, question: str) -> str | None:
        """Return why a question gets no answer of the model, None if it gets one."""
        if self.taught is None or self.taught.holds(question):
            return None
        return self.taught.refusal(question)

    def _knows(self, pruned: Pruned) -> bool | None:
        """Return whether the model knows such pictures; None where nobody can tell."""
        if self._guard is None:
            return None
        return holds(self._guard, [one.evidence for one in pruned.seen
                                   if one.evidence is not None])

    def ask_batch(self, windows: Sequence[Window], questions: Sequence[str],
                  stop: Stop | None = None) -> list[str]:
        """
        Answer a free question about each of several windows at once; see :meth:`describe_batch`.

        A window may come several times: its frames are looked at once, and read with each of its
        questions, which is faster than :meth:`ask` where the language model is small. For
        evaluation: every question is put to the model, whatever the pictures are.
        """
        if self._stream is not None:
            return [self.ask(window, question, stop)
                    for window, question in zip(windows, questions, strict=True)]
        watch = Stopwatch(self.clock)
        pruned = [self._prune(window, self.prompts.ask(question), watch, False, False)
                  for window, question in zip(windows, questions, strict=True)]
        return [one.text.strip() for one in self._generate(pruned, watch, stop)]

    def select(self, window: Window) -> Selection:
        """
        Return key frame and keep list alone, without asking the language model.

        Always those of window mode.
        """
        return self._select(self._look_at_all(window, Stopwatch()), window,
                            self.config.keep_ratio)

    def set_keep_ratio(self, keep_ratio: float) -> None:
        """Change the share of visual tokens that is kept, from the next window on."""
        self.config = replace(self.config, keep_ratio=keep_ratio)

    def set_deadline(self, deadline_ms: float) -> None:
        """Change the time for a description, from the next window on."""
        self.config = replace(self.config, deadline_ms=deadline_ms)

    def warm_up(self, size: tuple[int, int], frames: int) -> None:
        """
        Choose tokens of a blank window, so that engines are built before a camera waits for them.

        Parameters
        ----------
        size
            Height and width of its pictures.
        frames
            Frames of the window, of all cameras.

        """
        blank = np.zeros((*size, 3), np.uint8)
        # In causal mode a frame is looked at alone or beside its key frame.
        for count in (frames,) if self._stream is None else (1, 2):
            self.select([Frame('blank', number, blank) for number in range(count)])
        self.clear()

    def set_prompts(self, language: str, prompts: str) -> None:
        """Change what is asked, from the next window on; raises as :meth:`load` does."""
        if (language, prompts) != (self.config.language, self.config.prompts):
            asked = Prompts.load(language, prompts)
            _check_language(language, self.taught, self.language_model.name)
            if self.config.structured:
                self.language_model.set_schema(schema(asked.description.box_scale))
            self.prompts = asked
            self.config = replace(self.config, language=language, prompts=prompts)

    def clear(self) -> None:
        """Forget all frames, for instance after time jumped back."""
        self._seen.clear()
        self._key = None
        self._draft = ()
        self.start_anew()

    def start_anew(self) -> None:
        """Forget what the language model has read, not what was computed of frames."""
        if self._stream is not None:
            self._stream.clear()
        elif self._reader is not None:
            self._reader.forget()

    def stats(self) -> dict[str, float]:
        """
        Return what was not computed again so far, for diagnostics and benchmarks.

        Returns
        -------
        ``frames_new`` and ``frames_cached``: how often a frame was looked at, and was known
        already; ``tokens_read`` and ``tokens_reused``: how many tokens of pictures and before
        them were read, and were known already; ``drafted`` and ``accepted``: tokens that were
        guessed, and guessed right, ``draft_acceptance``: their ratio. With a deadline
        ``deadline_windows`` and ``deadline_misses``: how many windows had one, and how many were
        late. In causal mode also
        ``groups``, ``kv_frames``, ``kv_tokens`` and ``kv_bytes`` that are held, ``groups_evicted``
        and how many groups began for which reason (``groups_first``, ``groups_full``,
        ``groups_key``, ``groups_scene``).

        """
        count = self._counters
        found: dict[str, float] = {
            name: count[name] for name in ('frames_new', 'frames_cached', 'drafted', 'accepted')}
        found['draft_acceptance'] = count['accepted'] / max(count['drafted'], 1)
        if self.config.deadline_ms:
            found.update({name: count[name] for name in ('deadline_windows', 'deadline_misses')})
        if self._reader is not None:
            found.update({f'tokens_{name}': self._reader.counters[name]
                          for name in ('read', 'reused')})
        if self._reader is not None and self._stream is not None:
            groups = self._stream.groups
            found.update(groups=groups.count, kv_frames=groups.frames,
                         kv_tokens=self._reader.tokens, kv_bytes=self._reader.kv_bytes)
            found.update({f'groups_{name}': groups.counters[name]
                          for name in ('first', 'full', 'key', 'scene', 'evicted')})
        return found

    def info(self) -> dict[str, str]:
        """Return what runs where, for logs and diagnostics."""
        vlm = {name: str(value) for name, value in self.language_model.info.items()}
        return {'engine': self.sparsifier.engine, 'engine_choice': self.engine_choice,
                **self.sparsifier.info, **vlm,
                'guard': self._guard.known if self._guard else 'none: any picture is answered'}

    def close(self) -> None:
        """Free the memory of the models; the pipeline cannot be used afterwards."""
        self.clear()
        self.language_model.close()
        self._reader = self._stream = None
        del self.language_model, self.sparsifier

    def _with_good(self, window: Window, on_broken: OnBroken,
                   run: Callable[[list[Frame]], Result]) -> Result | None:
        good = list(window)
        while good:
            try:
                return run(good)
            except BrokenFrame as broken:
                on_broken(broken)
                good.remove(broken.frame)
        return None

    def _generate(self, pruned: Sequence[Pruned], watch: Stopwatch, stop: Stop | None,
                  **options: Any) -> list[Generation]:
        if pruned[0].prefix is not None:
            options['prefix'] = pruned[0].prefix
        generations = self.language_model.generate_batch(
            [one.prepared for one in pruned], [one.selection.keep for one in pruned],
            max_new_tokens=max(one.plan.max_new_tokens for one in pruned), stop=stop, **options)
        watch.ms.update(generations[0].latency_ms)
        self.answer_tokens = len(generations[-1].token_ids)
        self.answer_frames = pruned[-1].frames
        for generation in generations:
            self._counters['drafted'] += generation.drafted
            self._counters['accepted'] += generation.accepted
        return generations

    def _prune(self, window: Window, prompt: Prompt, watch: Stopwatch, share: bool,
               is_timed: bool) -> Pruned:
        if self._stream is not None:
            return self._prune_stream(self._stream, window, prompt, watch, is_timed)
        seen = self._look_at_all(window, watch)
        plan = self._plan(window, seen, is_timed)
        with watch.stage('select'):
            selection = self._select(seen, window, plan.keep_ratio)
        with watch.stage('prepare'):
            prepared = self.language_model.prepare(
                [one.features for one in seen], prompt.captions(window), prompt)
        prefix = None
        if self._reader is not None and share:
            with watch.stage('prefill_pictures'):
                prefix = self._reader.read(prepared, selection.keep)
        elif self._reader is not None:
            self._reader.forget()
        return Pruned(window, seen, selection, prepared,
                      seen[-1].features.grid, plan, prefix)

    def _prune_stream(self, stream: Stream, window: Window, prompt: Prompt, watch: Stopwatch,
                      is_timed: bool) -> Pruned:
        self._take_in(stream, stream.missing(window), watch)
        self._shrink(len(window))
        with watch.stage('prefill_pictures'):
            prepared, prefix, selection = stream.read(prompt)
        plan = self._plan(stream.frames, stream.seen, is_timed)
        return Pruned(stream.frames, stream.seen, selection, prepared,
                      stream.seen[-1].features.grid, plan, prefix)

    def _take_in(self, stream: Stream, frames: Sequence[Frame], watch: Stopwatch) -> None:
        """Have the language model read frames that it has not read."""
        for moment in _moments(frames):
            seen: list[Seen] = []
            for frame in moment:
                # The first frame sets the size: all frames share one token grid.
                size = seen[0].size if seen else stream.size
                seen.append(self._look(frame, size, watch))
            with watch.stage('prefill_pictures'):
                stream.take(list(zip(moment, seen)), self.prompts.description,
                            self.config.keep_ratio)

    def _plan(self, window: Window, seen: Sequence[Seen], is_timed: bool) -> Plan:
        most = Plan(self.config.keep_ratio, self.config.max_new_tokens)
        if not is_timed:
            return most
        newest = {frame.camera: one for frame, one in zip(window, seen)}
        rows, columns = seen[-1].features.grid
        return self._deadline.plan(
            self.config.deadline_ms, most,
            # What was read when it came takes no time now.
            visual_tokens=0 if self._stream is not None else len(seen) * rows * columns,
            risk=max(float(one.proposal.saliency.max()) for one in newest.values()))

    def _note(self, pruned: Pruned, generation: Generation, latency_ms: dict[str, float]) -> None:
        """Have the deadline learn from an answer; without its tokens there is nothing to learn."""
        written, longest = len(generation.token_ids), pruned.plan.max_new_tokens
        if not written:
            return
        read = pruned.prefix.length if pruned.prefix is not None else 0
        self._deadline.note(Spent(
            0 if read else generation.visual_tokens, generation.prompt_tokens - read, written,
            facts=_facts_length(generation, getattr(self.language_model, 'tokenizer', None)),
            whole=written < longest or longest == self.config.max_new_tokens,
            prefill_ms=latency_ms['prefill'], decode_ms=latency_ms['decode'],
            total_ms=latency_ms['total']))

    def _select(self, seen: Sequence[Seen], window: Window, keep_ratio: float) -> Selection:
        keys = [frame.key for frame in window]
        previous = keys.index(self._key) if self._key in keys else None
        selection = self.sparsifier.select(
            [one.proposal for one in seen], seen[-1].features.grid, keep_ratio,
            previous_key=previous)
        self._key = keys[selection.key]
        return selection

    def _look_at_all(self, window: Window, watch: Stopwatch) -> list[Seen]:
        if not window:
            raise ValueError('a window needs at least one frame')
        # The newest frame sets the size: all frames of a window share one token grid.
        newest = self._look(window[-1], None, watch)
        seen = [*(self._look(frame, newest.size, watch) for frame in window[:-1]), newest]
        self._shrink(len(window))
        return seen

    def _shrink(self, needed: int) -> None:
        """Keep the cache of frames within its bound, or so many of them."""
        while len(self._seen) > max(self.config.cache_frames, needed):
            self._seen.popitem(last=False)

    def _look(self, frame: Frame, size: tuple[int, int] | None, watch: Stopwatch) -> Seen:
        cached = self._seen.get(frame.key)
        if cached is not None and size in (None, cached.size):
            self._seen.move_to_end(frame.key)
            self._counters['frames_cached'] += 1
            return cached
        with watch.stage('read'):
            rgb = _read(frame, size)
        found = None
        if self._guard:
            with watch.stage('guard'):
                found = self._guard.evidence(rgb)
                rgb = self._guard.clean(rgb, found)
        with watch.stage('propose'):
            proposal = self.sparsifier.propose(rgb)
        with watch.stage('encode'):
            features = self.language_model.encode(rgb)
        seen = Seen((rgb.shape[0], rgb.shape[1]), proposal, features, found)
        self._seen[frame.key] = seen
        self._counters['frames_new'] += 1
        return seen


def _facts_length(generation: Generation, tokenizer: Tokenizer | None) -> int:
    """Return after how many tokens an answer has its facts, all of them where nobody can tell."""
    ids = generation.token_ids
    if tokenizer is None:
        return len(ids)
    if not has_facts(generation.text):
        # Cut too early, or not in the form: so much was too little.
        return 2 * len(ids)
    return bisect_left(range(1, len(ids)), True,
                       key=lambda length: has_facts(str(tokenizer.decode(ids[:length])))) + 1


def _moments(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Yield the frames in stretches that hold no camera twice."""
    moment: list[Frame] = []
    for frame in frames:
        if any(one.camera == frame.camera for one in moment):
            yield moment
            moment = []
        moment.append(frame)
    if moment:
        yield moment


def _check_mode(config: PipelineConfig) -> None:
    """See that mode and draft are possible, before anything large is loaded."""
    if config.mode not in MODES:
        raise VlmError(f'no mode {config.mode!r}, there are: {", ".join(MODES)}')
    if config.vlm_backend == 'openai' and (config.draft or config.mode == 'causal'):
        raise VlmError('causal mode and drafts need the language model in this process: set '
                       'vlm.backend to transformers, or sparsify.mode to window and vlm.draft '
                       'to false')


def _check_language(language: str, taught: TaughtQuestions | None, model: str) -> None:
    """See that a model that was taught certain questions is asked in their language."""
    if taught is not None and language != 'en':
        raise PromptError(f'{model} was taught in English alone: set vlm.language to en, or '
                          'vlm.model to a checkpoint that knows other languages')


def _language_model(config: PipelineConfig, prompts: Prompts) -> LanguageModel:
    form = schema(prompts.description.box_scale) if config.structured else None
    if config.vlm_backend == 'openai':
        if find_spec('openai') is None:
            raise VlmError('the backend openai needs its client: pip install openai')
        from vts_ros.vlm.served import ServedVlm

        return ServedVlm(config.url, '' if config.model == EMBEDDED else config.model,
                         timeout_sec=config.timeout_sec, retries=config.retries, schema=form)
    if config.vlm_backend not in VLM_BACKENDS:
        raise VlmError(f'no backend {config.vlm_backend!r}, there are: {", ".join(VLM_BACKENDS)}')
    if form:
        check_structured()
    return Vlm.load(checkpoint(config.model), device=config.device, dtype=config.dtype,
                    attn_implementation=config.attn_implementation,
                    quantization=_quantization(config.quantization),
                    local_files_only=config.local_files_only, schema=form)


def _quantization(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return None
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise VlmError(f'quantization is no JSON: {error}') from error
    if not isinstance(settings, dict) or 'quant_method' not in settings:
        raise VlmError('quantization is no JSON object with a quant_method, such as '
                       '{"quant_method": "bitsandbytes", "load_in_4bit": true}')
    return settings


def _read(frame: Frame, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    try:
        rgb = frame.rgb()
    except FrameError as error:
        raise BrokenFrame(frame, str(error)) from error
    if size is not None and rgb.shape[:2] != size:
        resized = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(resized, np.uint8)
    return rgb

