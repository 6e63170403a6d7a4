# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Answers in their form, from models that have learned nothing; and answers in pieces."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from transformers import LogitsProcessor
from vlm_maker import make, names, OTHER, PROMPT

from vts_ros.paths import model_path
from vts_ros.pipeline.confidence import TokenLogProbabilities
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import Prepared, Vlm, VlmError
from vts_ros.vlm.answers import Answer, inspect, render, schema
from vts_ros.vlm.kv_cache import growing_cache, is_croppable
from vts_ros.vlm.structured_output import Grammar, HeldToForm

pytestmark = pytest.mark.slow

#: The form with texts so short that models of single bytes come to its end soon.
SHORT: dict[str, Any] = json.loads(
    re.sub(r'("maxLength"): \d+', r'\1: 3', json.dumps(schema())))
#: Greedy random models repeat one byte; drawn ones try what the form allows.
DRAWN: dict[str, Any] = {'do_sample': True, 'temperature': 3.0}


@pytest.fixture(scope='module', params=names())
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    directory = make(request.param, tmp_path_factory.mktemp('models') / request.param)
    return Vlm.load(directory, device='cpu', schema=SHORT)


@pytest.fixture(scope='module')
def windows(vlm: Vlm) -> list[Prepared]:
    random = np.random.default_rng(0)
    features = [vlm.encode(random.integers(0, 256, (90, 150, 3), np.uint8)) for _ in range(2)]
    return [vlm.prepare(features[:1], ['0.0s'], OTHER),
            vlm.prepare(features, ['-0.4s', '0.0s'], PROMPT)]


def test_whatever_the_model_the_answers_are_in_the_form(
        vlm: Vlm, windows: list[Prepared]) -> None:
    keeps: list[NDArray[np.int32] | None] = [None, np.arange(3, 9, dtype=np.int32)]
    torch.manual_seed(0)
    found = vlm.generate_batch(windows, keeps, 400, in_form=True, **DRAWN)
    assert found[0].text != found[1].text
    # Of different length, so one was padded while the other was still held to the form.
    assert len(found[0].token_ids) != len(found[1].token_ids)
    for generation in found:
        value = json.loads(generation.text)
        assert list(value) == ['risk', 'object', 'explanation', 'action', 'description']
        parsed = inspect(generation.text)
        assert set(parsed.problems) <= {'no risk', 'bad box'}
        assert (parsed.answer.risk == 'unknown') == (value['risk'] == 'unknown')
    torch.manual_seed(0)
    free = vlm.generate_batch(windows, keeps, 40, **DRAWN)
    assert {inspect(generation.text).answer.risk for generation in free} == {'unknown'}


@pytest.mark.parametrize('vlm', ['qwen3_vl'], indirect=True)
def test_an_answer_that_is_cut_off_still_has_its_level(
        vlm: Vlm, windows: list[Prepared]) -> None:
    torch.manual_seed(0)
    whole, = vlm.generate_batch(windows[:1], [None], 400, in_form=True, **DRAWN)
    end = whole.text.index('"explanation"')
    torch.manual_seed(0)
    cut, = vlm.generate_batch(windows[:1], [None], len(whole.token_ids) - 12, in_form=True,
                              **DRAWN)
    assert whole.text.startswith(cut.text)
    assert len(cut.text) > end
    assert inspect(cut.text).problems[0] == 'repaired'
    assert inspect(cut.text).answer.risk == inspect(whole.text).answer.risk


class Lively(LogitsProcessor):
    """Prefers other tokens at every place; random models repeat one byte otherwise."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(scores.shape, generator=torch.Generator().manual_seed(
            input_ids.shape[1]))
        return scores + 3.0 * scores[scores.isfinite()].std().nan_to_num(0.0) * drawn


def test_what_the_form_leaves_no_choice_about_takes_no_pass_of_its_own(
        vlm: Vlm, windows: list[Prepared], monkeypatch: pytest.MonkeyPatch) -> None:
    """Token for token what ``generate`` of transformers writes in the form."""
    keep = np.arange(3, 20, dtype=np.int32)
    counted: list[int] = []
    hook = vlm.model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: counted.append(args[0].shape[1]))
    pieces: list[str] = []
    certain = TokenLogProbabilities()
    found, = vlm.generate_batch(windows[1:], [keep], 150, in_form=True, on_text=pieces.append,
                                logits_processor=[Lively(), certain])
    passes = len(counted)
    monkeypatch.setattr(vlm._generator, '_takes_back', False)
    plain = TokenLogProbabilities()
    expected, = vlm.generate_batch(windows[1:], [keep], 150, in_form=True,
                                   logits_processor=[Lively(), plain])
    hook.remove()
    assert found.token_ids == expected.token_ids
    np.testing.assert_allclose(certain.rows(), plain.rows(), atol=1e-3)
    assert ''.join(pieces) == found.text
    assert (found.drafted, found.accepted) == (0, 0)
    assert len(counted) - passes == len(expected.token_ids)
    if is_croppable(growing_cache(vlm.model.config.get_text_config(decoder=True))):
        # Nearly half of the form is certain to a model of single bytes.
        assert passes < 0.7 * len(found.token_ids)


def certain(vlm: Vlm, answer: str) -> list[str]:
    """Return what is certain before each token of an answer; it is what comes."""
    form = Grammar(schema(), vlm.tokenizer, vlm._end_ids, len(vlm.tokenizer)).processor(1)
    ids = vlm.tokenizer(answer, add_special_tokens=False)['input_ids']
    found = []
    for end in range(len(ids)):
        tokens = form.certain(torch.tensor([[0, *ids[:end]]]))
        assert ids[end:end + len(tokens)] == tokens
        found.append(str(vlm.tokenizer.decode(tokens)))
    return found


@pytest.mark.parametrize('vlm', ['qwen3_vl'], indirect=True)
def test_certain_is_what_a_tokenizer_makes_of_the_text_whatever_follows(vlm: Vlm) -> None:
    answer = render(Answer('A road.', 'none', action='go'))
    found = certain(vlm, answer)
    assert found[0] == '{"risk": "'
    assert any(text.startswith('", "object"') for text in found)
    # Tokens of whole strings reach over what is certain, so nothing is.
    embedded = Vlm.load(model_path('embedded'), device='cpu')
    assert {*certain(embedded, answer)} == {''}


def test_a_model_that_cuts_what_is_certain_otherwise_writes_it_so(
        vlm: Vlm, windows: list[Prepared], monkeypatch: pytest.MonkeyPatch) -> None:
    expected, = vlm.generate_batch(windows[:1], [None], 60, in_form=True,
                                   logits_processor=[Lively()])
    wrong = [int(vlm.tokenizer(text, add_special_tokens=False)['input_ids'][-1])
             for text in ('x', 'y')]
    monkeypatch.setattr(HeldToForm, 'certain', lambda self, ids: wrong)
    found, = vlm.generate_batch(windows[:1], [None], 60, in_form=True,
                                logits_processor=[Lively()])
    assert found.token_ids == expected.token_ids


def test_pieces_are_the_answer(vlm: Vlm, windows: list[Prepared]) -> None:
    pieces: list[str] = []
    torch.manual_seed(1)
    found, = vlm.generate_batch(windows[:1], [None], 30, on_text=pieces.append, **DRAWN)
    assert ''.join(pieces) == found.text
    assert len(pieces) > 1


def test_without_a_form_none_is_enforced(vlm: Vlm, windows: list[Prepared]) -> None:
    free = Vlm(vlm.name, vlm.model, vlm.tokenizer, vlm.images)
    with pytest.raises(VlmError, match='was loaded without a form'):
        free.generate_batch(windows[:1], [None], in_form=True)


def refused(vlm: Vlm, text: str) -> list[str]:
    """Return the tokens of an answer that the form does not let the model write."""
    processor = Grammar(schema(), vlm.tokenizer, vlm._end_ids, len(vlm.tokenizer)).processor(1)
    ids = [*vlm.tokenizer(text, add_special_tokens=False)['input_ids'], vlm._end_ids[0]]
    written = torch.zeros(1, 1, dtype=torch.long)
    found = []
    for token in ids:
        scores = processor(written, torch.zeros(1, len(vlm.tokenizer)))
        if not scores[0, token].isfinite():
            found.append(str(vlm.tokenizer.decode([token])))
            break
        written = torch.cat([written, torch.tensor([[token]])], dim=1)
    return found


def test_the_form_leaves_the_embedded_model_all_of_its_tokens() -> None:
    """Those of whole strings, too, which reach over parts of the form that are certain."""
    vlm = Vlm.load(model_path('embedded'), device='cpu')
    for answer in (
            Answer('A city street.', 'high', 'child', (0.41, 0.2, 0.55, 1.0), 'It runs.', 'stop'),
            Answer('An empty road, "wet".', 'none', action='keep going')):
        assert refused(vlm, render(answer)) == []
    text = render(Answer('A city street.', 'none', action='keep going'))
    assert refused(vlm, text.replace('"none"', '"no risk"')) == [' risk']
    assert refused(vlm, text.removesuffix('}')) == ['<|im_end|>']


def test_a_missing_library_is_told_before_a_model_is_looked_for(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'llguidance', None)
    with pytest.raises(VlmError, match=r'^structured answers need llguidance: pip install .*$'):
        Pipeline.load(PipelineConfig(model='/nowhere/model', structured=True))


def test_a_form_that_cannot_be_enforced_is_one_line() -> None:
    vlm = Vlm.load(model_path('embedded'), device='cpu')
    with pytest.raises(VlmError, match=r'^the answer form cannot be enforced: .*$'):
        Grammar({'type': 'nonsense'}, vlm.tokenizer, vlm._end_ids, len(vlm.tokenizer))
