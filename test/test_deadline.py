# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers in time: the plan alone, and the pipeline around a language model that is slow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import pytest

from vts_ros.pipeline.deadline import AnswerTiming, Deadline, Plan
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import Sparsifier, token_budget
from vts_ros.vlm import Generation, OnText
from vts_ros.vlm.answers import has_facts
from vts_ros.vlm.conventions import PLAIN
from vts_ros.vlm.prompts import Prompt, Prompts
from vts_ros.vlm.pruning import Pruning

pytestmark = pytest.mark.slow

MOST = Plan(0.6, 100)
TEXT, VISUAL = 50, 1000


def spent(ratio: float = 0.6, written: int = 80, whole: bool = True) -> AnswerTiming:
    """Return an answer of a model that reads a token in 1 ms and writes one in 10 ms."""
    prompt = TEXT + round(ratio * VISUAL)
    prefill_ms, decode_ms = 10.0 + prompt, 10.0 * (written - 1)
    return AnswerTiming(prompt - TEXT, prompt, written, 20, whole, prefill_ms, decode_ms,
                 40.0 + prefill_ms + decode_ms)


@pytest.fixture
def deadline() -> Deadline:
    found = Deadline(min_keep_ratio=0.2)
    for _ in range(5):
        found.note(spent())
    return found


def duration_ms(plan: Plan, length: int = 80) -> float:
    return spent(plan.keep_ratio, min(length, plan.max_new_tokens)).total_ms


def test_nothing_changes_without_a_deadline_or_a_measurement(deadline: Deadline) -> None:
    assert deadline.plan(0.0, MOST, VISUAL, 0.5) == MOST
    assert Deadline().plan(1.0, MOST, VISUAL, 0.5) == MOST


def test_what_fits_is_left_alone(deadline: Deadline) -> None:
    plan = deadline.plan(duration_ms(MOST) + 1.0, MOST, VISUAL, risk=0.0)
    assert plan.keep_ratio == MOST.keep_ratio
    assert 80 <= plan.max_new_tokens < MOST.max_new_tokens


@pytest.mark.parametrize('deadline_ms', [500, 600, 800, 1000, 1200, 1400])
@pytest.mark.parametrize('risk', [0.0, 0.4, 1.0])
def test_a_plan_is_as_long_as_there_is_time(
        deadline: Deadline, deadline_ms: float, risk: float) -> None:
    plan = deadline.plan(deadline_ms, MOST, VISUAL, risk)
    assert duration_ms(plan, 1000) <= deadline_ms + 1.0
    # Time is used, and not left.
    assert duration_ms(plan, 1000) > deadline_ms - 11.0
    assert 0.2 <= plan.keep_ratio <= 0.6
    assert plan.max_new_tokens >= 20


def test_risk_keeps_tokens_and_cuts_the_answer(deadline: Deadline) -> None:
    plans = [deadline.plan(900.0, MOST, VISUAL, risk) for risk in (0.0, 0.5, 1.0)]
    ratios = [plan.keep_ratio for plan in plans]
    lengths = [plan.max_new_tokens for plan in plans]
    assert ratios == sorted(set(ratios))
    assert ratios[-1] == MOST.keep_ratio
    assert lengths == sorted(set(lengths), reverse=True)


@pytest.mark.parametrize('risk', [0.0, 1.0])
def test_floors_hold_although_that_is_late(deadline: Deadline, risk: float) -> None:
    assert deadline.plan(1.0, MOST, VISUAL, risk) == Plan(0.2, 20)
    # What is asked for is never exceeded, not even by a floor.
    assert deadline.plan(1.0, Plan(0.1, 8), VISUAL, risk) == Plan(0.1, 8)


def test_tokens_stay_where_dropping_them_saves_nothing(deadline: Deadline) -> None:
    plan = deadline.plan(900.0, MOST, visual_tokens=0, risk=0.0)
    assert plan.keep_ratio == MOST.keep_ratio
    assert plan.max_new_tokens in (80, 81)


def test_the_first_answer_counts_until_the_second_only() -> None:
    found = Deadline()
    slow = spent()
    found.note(AnswerTiming(slow.visual_tokens, slow.prompt_tokens, 80, 20, True, slow.prefill_ms,
                     slow.decode_ms, 60_000.0))
    assert found.plan(1500.0, MOST, VISUAL, 0.0).keep_ratio == found.min_keep_ratio
    found.note(spent())
    assert found.plan(1500.0, MOST, VISUAL, 0.0).keep_ratio == MOST.keep_ratio


def test_answers_that_were_cut_do_not_make_the_wanted_ones_shorter(deadline: Deadline) -> None:
    for _ in range(40):
        deadline.note(spent(written=30, whole=False))
    plan = deadline.plan(duration_ms(MOST) + 1.0, MOST, VISUAL, 0.0)
    assert plan.max_new_tokens >= 80


# --- the pipeline, in simulated time -------------------------------------------------------

ANSWER = ('{"risk": "high", "object": {"label": "child", "box": [0.41, 0.20, 0.55, 1.00]}, '
          '"explanation": "A child runs out between parked cars on the right.", "action": "brake '
          'hard", "description": "A city street in daylight."}')
PIECE = 4


class Clock:
    """Time that goes by only where somebody says so."""

    def __init__(self) -> None:
        self.sec = 0.0

    def __call__(self) -> float:
        return self.sec


class Look(NamedTuple):
    """What the simulated model keeps of a frame."""

    grid: tuple[int, int]


class SlowModel:
    """A language model whose time goes with the tokens that it reads and writes."""

    name, convention = 'slow', PLAIN
    pruning: Pruning = 'exact'
    token_ms, step_ms, encode_ms = 1.0, 10.0, 20.0
    frames_as = 'images'
    step_frames = 1

    def __init__(self, clock: Clock, slowness: Callable[[], float]) -> None:
        self._clock, self._slowness = clock, slowness
        self.info = {'name': self.name}
        self.tokenizer = self

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        return ''.join(ANSWER[PIECE * index:PIECE * (index + 1)] for index in token_ids)

    def encode(self, *pictures: NDArray[np.uint8]) -> Look:
        self._pass(self.encode_ms)
        return Look((8, 14))

    def seen_size(self, features: Look, kept: float = 1.0) -> tuple[float, float]:
        return 224.0, 128.0

    def prepare(self, features: Sequence[Any], captions: Sequence[str], prompt: Prompt) -> Any:
        return len(features)

    def generate_batch(self, prepared: Sequence[Any], keeps: Sequence[NDArray[np.int32] | None],
                       max_new_tokens: int = 160, stop: Callable[[], bool] | None = None, *,
                       in_form: bool = False, on_text: OnText | None = None,
                       **options: Any) -> list[Generation]:
        (keep,) = keeps
        assert keep is not None
        prompt_tokens = TEXT + len(keep)
        prefill_ms = self._pass(self.step_ms + self.token_ms * prompt_tokens)
        ids = range(min(-(-len(ANSWER) // PIECE), max_new_tokens))
        decode_ms = sum(self._pass(self.step_ms) for _ in ids[1:])
        return [Generation(self.decode(ids), tuple(ids), prompt_tokens, len(keep),
                           {'prefill': prefill_ms, 'decode': decode_ms})]

    def set_schema(self, schema: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass

    def _pass(self, ms: float) -> float:
        taken_ms = ms * self._slowness()
        self._clock.sec += 1e-3 * taken_ms
        return taken_ms


def drive(deadline_ms: float, slowness: Callable[[], float], windows: int = 120
          ) -> tuple[NDArray[np.float64], list[Any]]:
    """Return how long the answers took, and the reports."""
    clock = Clock()
    pipeline = Pipeline(Sparsifier(), SlowModel(clock, slowness), Prompts.load(),
                        PipelineConfig(deadline_ms=deadline_ms), None)
    pipeline.clock = clock
    pictures = np.random.default_rng(0).integers(0, 256, (8, 64, 112, 3), np.uint8)
    frames = [Frame('front', 400_000_000 * index, pictures[index % 8])
              for index in range(windows + 4)]
    reports = [pipeline.describe(frames[index:index + 5]) for index in range(windows)]
    return np.array([report.latency_ms['total'] for report in reports]), reports


def noisy(seed: int = 1) -> Callable[[], float]:
    rng = np.random.default_rng(seed)
    return lambda: float(rng.lognormal(0.0, 0.1))


@pytest.mark.parametrize('share', [0.9, 0.7, 0.5])
def test_a_load_that_makes_the_fixed_setting_late(share: float) -> None:
    fixed_ms, _ = drive(0.0, noisy())
    deadline_ms = share * float(np.median(fixed_ms))
    planned_ms, reports = drive(deadline_ms, noisy())
    warm = slice(5, None)
    assert np.mean(fixed_ms[warm] > deadline_ms) > 0.5
    assert np.mean(planned_ms[warm] > deadline_ms) <= 0.05
    # Shorter, but true: nothing was taken for no risk, and no object is half a word.
    assert {(report.answer.risk, report.answer.label) for report in reports} == {('high', 'child')}
    assert all(len(report.keep) >= token_budget(1, (1, report.tokens_total), 0.2)
               for report in reports)


def test_a_machine_that_slows_down_is_caught_up_with() -> None:
    count = 0

    def slowness() -> float:
        return 1.0 if count < 60 else 1.6

    rates = noisy()

    def rated() -> float:
        return slowness() * rates()

    clock = Clock()
    pipeline = Pipeline(Sparsifier(), SlowModel(clock, rated), Prompts.load(),
                        PipelineConfig(deadline_ms=1200.0), None)
    pipeline.clock = clock
    picture = np.zeros((64, 112, 3), np.uint8)
    frames = [Frame('front', 400_000_000 * index, picture) for index in range(124)]
    late = []
    for count in range(120):
        report = pipeline.describe(frames[count:count + 5])
        late.append(report.latency_ms['total'] > 1200.0)
    # The slower times must be seen first.
    assert sum(late[60:66]) <= 4
    assert np.mean(late[66:]) <= 0.05


def test_the_answer_is_not_cut_before_its_facts() -> None:
    _, reports = drive(1.0, lambda: 1.0, windows=4)
    facts = next(end for end in range(0, len(ANSWER), PIECE) if has_facts(ANSWER[:end]))
    assert facts < len(ANSWER) // 2
    assert [report.answer.risk for report in reports] == ['high'] * 4
    assert reports[-1].answer.explanation in ('', 'A')
    assert len(reports[-1].keep) == token_budget(1, (1, reports[-1].tokens_total), 0.2)


def test_what_was_stopped_teaches_nothing() -> None:
    clock = Clock()
    pipeline = Pipeline(Sparsifier(), SlowModel(clock, lambda: 1.0), Prompts.load(),
                        PipelineConfig(deadline_ms=1.0), None)
    pipeline.clock = clock
    frames = [Frame('front', index, np.zeros((64, 112, 3), np.uint8)) for index in range(5)]
    pipeline.describe(frames, stop=lambda: True)
    assert len(pipeline.describe(frames).keep) == 336
