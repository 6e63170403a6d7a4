# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers written with a draft are those written without, whatever the draft is."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from vlm_maker import make, names, PROMPT

from vts_ros.paths import checkpoint
from vts_ros.pipeline.confidence import TokenLogProbabilities
from vts_ros.vlm import Prepared, Vlm
from vts_ros.vlm.answers import schema
from vts_ros.vlm.drafts import ALIKE, ANSWERS, Drafts, PassCost

pytestmark = pytest.mark.slow

#: Random models repeat themselves; answers of different tokens prove more when compared.
LIVELY: dict[str, Any] = {'no_repeat_ngram_size': 1}
LENGTH = 40


@pytest.fixture(scope='module', params=names('qwen2_5_vl', 'qwen3_vl', 'internvl', 'molmo2'))
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    return Vlm.load(make(request.param, tmp_path_factory.mktemp('models') / request.param),
                    device='cpu')


@pytest.fixture(scope='module')
def prepared(vlm: Vlm) -> Prepared:
    return three_pictures(vlm)


def three_pictures(vlm: Vlm) -> Prepared:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (90, 150, 3), np.uint8) for _ in range(3)]
    features = [vlm.encode(picture) for picture in pictures]
    return vlm.prepare(features, ['0.0s', '0.4s', '0.8s'], PROMPT)


@pytest.fixture
def passes(vlm: Vlm) -> Iterator[list[int]]:
    """Tokens of every forward pass of the model."""
    yield from forward_tokens(vlm)


def forward_tokens(vlm: Vlm) -> Iterator[list[int]]:
    counted: list[int] = []
    hook = vlm.model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: counted.append(args[0].shape[1]))
    yield counted
    hook.remove()


@pytest.mark.parametrize('options', [{}, LIVELY])
def test_any_draft_gives_the_same_answer(vlm: Vlm, prepared: Prepared, options: Any) -> None:
    keep = np.arange(0, len(prepared.layout.visual_slots), 2, dtype=np.int32)
    expected = vlm.generate(prepared, keep, LENGTH, **options)
    right = list(expected.token_ids)
    changed = [*right[:9], right[9] + 1, *right[10:]]
    random = np.random.default_rng(1).integers(8, 200, LENGTH).tolist()
    drafts = {'right': right, 'too long': right * 2, 'too short': right[:5], 'changed': changed,
              'one more': [*right[:7], 9, *right[7:]], 'one less': [*right[:7], *right[8:]],
              'random': random, 'end at once': [vlm._end_ids[0], *right]}
    prefix = vlm.prefix(prepared, keep)
    for name, draft in drafts.items():
        for begun in (None, prefix):
            found = vlm.generate(prepared, keep, LENGTH, drafts=Drafts([draft]), prefix=begun,
                                 **options)
            assert found.token_ids == expected.token_ids, name
            assert 0 <= found.accepted <= min(found.drafted, len(found.token_ids)), name


def test_a_right_draft_saves_passes_and_a_wrong_one_costs_none(
        vlm: Vlm, prepared: Prepared, passes: list[int]) -> None:
    expected = vlm.generate(prepared, None, LENGTH, **LIVELY)
    length = len(expected.token_ids)
    plain = len(passes)
    assert plain == length > 20
    passes.clear()
    drafts = Drafts([expected.token_ids])
    found = vlm.generate(prepared, None, LENGTH, drafts=drafts, **LIVELY)
    # What is right so far is believed to go on.
    assert len(passes) < length / 2
    assert found.accepted >= length - len(passes)
    passes.clear()
    wrong = [int(token) + 1 for token in expected.token_ids]
    found = vlm.generate(prepared, None, LENGTH, drafts=Drafts([wrong]), **LIVELY)
    assert len(passes) <= plain
    assert found.token_ids == expected.token_ids


def replay(drafts: Drafts, answers: list[list[int]]) -> list[int]:
    """Return how many passes each answer takes that the model writes."""
    counts = []
    for answer in answers:
        written, passes = list[int](), 0
        while len(written) < len(answer):
            guess = drafts.guess(written, len(answer) - len(written) - 1)
            rest = answer[len(written):]
            right = next((index for index, (guessed, other) in enumerate(zip(guess.tokens, rest))
                          if guessed != other), len(guess.tokens))
            drafts.note(guess, right)
            written += rest[:right + 1]
            passes += 1
        drafts.add(answer)
        counts.append(passes)
    return counts


def test_a_draft_goes_on_after_what_was_changed_put_in_or_left_out() -> None:
    earlier = list(range(100, 140))
    for new in ([*earlier[:10], 7, *earlier[11:]], [*earlier[:10], 7, 8, *earlier[10:]],
                [*earlier[:10], *earlier[14:]]):
        (passes,) = replay(Drafts([earlier]), [new])
        assert passes < 15  # of about 40 tokens


def test_a_turn_of_phrase_is_known_from_any_of_the_last_answers() -> None:
    first, second = list(range(100, 130)), list(range(200, 230))
    mixed = [*first[:10], *second[10:20], *first[20:]]
    drafts = Drafts([first, second])
    assert replay(drafts, [first, second, mixed])[-1] < 12
    assert replay(Drafts([second]), [mixed])[-1] > 20


def test_a_guess_has_the_longest_likeness_and_the_last_answer_at_the_same_length() -> None:
    drafts = Drafts([[1, 2, 3, 4], [9, 2, 3, 5], [8, 3, 6]])
    assert drafts.guess([9, 2, 3], 1) == ([5], 4)
    assert drafts.guess([7, 2, 3], 1) == ([5], 2)
    assert drafts.guess([7, 7, 3], 1) == ([6], 1)
    assert drafts.guess([7], 9) == ([], 0)
    assert drafts.guess([], 1) == ([8], 1)
    assert drafts.guess([1], 0).tokens == []


def test_an_answer_is_forgotten_after_so_many_others() -> None:
    drafts = Drafts([[1, 1, 1, 2], *([5, index, 6] for index in range(100, 100 + ANSWERS - 1))])
    assert drafts.guess([1, 1, 1], 1).tokens == [2]
    drafts.add([7])
    assert drafts.guess([1, 1, 1], 1).tokens == []
    assert drafts.guess([5], 1).tokens == [100 + ANSWERS - 2]
    drafts.clear()
    assert drafts.guess([5], 1).tokens == []
    drafts.add([5, 6])
    assert drafts.guess([5], 1).tokens == [6]
    for number in range(1000):
        drafts.add([number] * 9)
    assert len(drafts._places) <= ANSWERS * 10 * ALIKE


def test_what_is_never_right_or_dear_is_not_guessed() -> None:
    drafts = Drafts([[1, 2, 3]])
    assert drafts.guess([], 20).tokens
    replay(drafts, [[number, number + 1] for number in range(100, 300, 3)])
    assert drafts.guess([], 20) == ([], 1)
    cheap, dear = (Drafts([range(100)]) for _ in range(2))
    for tokens in (1, 9, 1, 17, 1):
        cheap.note_pass(tokens, 1.0 + 0.001 * tokens)
        dear.note_pass(tokens, 1.0 * tokens)
    for drafts in (cheap, dear):
        assert drafts.guess(range(50), 64).alike == ALIKE
    assert len(cheap.guess(range(50), 64).tokens) > 15
    assert dear.guess(range(50), 64).tokens == []


def test_the_cost_of_a_token_is_that_of_the_line_through_the_passes() -> None:
    cost = PassCost()
    assert 0.0 < cost.token < 0.1
    for tokens in (1, 3, 9, 20, 5):
        cost.note(tokens, 0.2 + 0.05 * (tokens - 1))
    assert cost.token == pytest.approx(0.25)
    for _ in range(400):
        cost.note(4, 0.5)
    # All alike, so nothing can be said of the slope.
    assert cost.token < 0.1


class _Pieces:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.has_ended = False

    def put(self, value: torch.Tensor) -> None:
        self.ids += value.flatten().tolist()

    def end(self) -> None:
        self.has_ended = True


def test_tokens_come_one_after_the_other_and_stop_is_heard(
        vlm: Vlm, prepared: Prepared) -> None:
    expected = vlm.generate(prepared, None, LENGTH, **LIVELY)
    pieces: Any = _Pieces()
    drafts = Drafts([expected.token_ids])
    vlm.generate(prepared, None, LENGTH, drafts=drafts, streamer=pieces, **LIVELY)
    assert pieces.ids[expected.prompt_tokens:] == list(expected.token_ids)
    assert pieces.has_ended
    stopped = vlm.generate(prepared, None, LENGTH, stop=lambda: True,
                           drafts=Drafts([expected.token_ids]), **LIVELY)
    assert stopped.token_ids == expected.token_ids[:len(stopped.token_ids)]
    assert len(stopped.token_ids) < len(expected.token_ids)


def test_answers_held_to_their_form_and_certainties_are_those_without_a_draft() -> None:
    """Processors with a state see every token of the answer once, in order."""
    vlm = Vlm.load(checkpoint('embedded'), device='cpu', schema=schema())
    prepared = three_pictures(vlm)
    without = TokenLogProbabilities()
    (expected,) = vlm.generate_batch([prepared], [None], 120, in_form=True,
                                     logits_processor=[without])
    right = list(expected.token_ids)
    for draft in ([*right[:12], right[5], *right[12:]], right[20:], [3] * 50):
        with_draft = TokenLogProbabilities()
        (found,) = vlm.generate_batch([prepared], [None], 120, in_form=True,
                                      drafts=Drafts([draft]),
                                      logits_processor=[with_draft])
        assert found.token_ids == expected.token_ids
        np.testing.assert_allclose(with_draft.rows(), without.rows(), atol=1e-4)


def test_a_batch_is_written_without_a_draft(vlm: Vlm, prepared: Prepared) -> None:
    alone = vlm.generate(prepared, None, 8, **LIVELY)
    drafts = Drafts([alone.token_ids])
    both = vlm.generate_batch([prepared, prepared], [None, None], 8, drafts=drafts, **LIVELY)
    assert [generation.token_ids for generation in both] == [alone.token_ids] * 2
    assert [generation.drafted for generation in both] == [0, 0]
