# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The written-out pass of the text model says what that of transformers says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vlm_maker import make, names

from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.paths import model_path
from vts_ros.vlm import Prepared, Vlm
from vts_ros.vlm.decode_step import DecodeStep
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.kv_cache import growing_cache
from vts_ros.vlm.prompts import Prompts

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module', params=['embedded', *names('qwen3_vl')])
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    name = request.param
    return Vlm.load(model_path(name) if name == 'embedded' else make(
        name, tmp_path_factory.mktemp('models') / name), device='cpu')


@pytest.fixture(scope='module')
def windows(vlm: Vlm) -> list[Prepared]:
    captions = ['-1.6s', '-1.2s', '-0.8s', '-0.4s', '0.0s']
    prompt = Prompts.load('en', '', vlm.convention).description
    return [vlm.prepare([vlm.encode(picture) for picture in render(scene).frames], captions,
                        prompt) for scene in balanced_scenes('val', 3)]


@torch.inference_mode()
@pytest.mark.parametrize('rows', [3, 4])
def test_logits_and_keys_are_those_of_the_model(vlm: Vlm, rows: int) -> None:
    step = DecodeStep.of(vlm.model)
    assert step is not None
    drawn = torch.Generator().manual_seed(0)
    caches = [growing_cache(vlm.model.config.get_text_config()) for _ in range(2)]
    read = 0
    for count in (40, 1, 3, 1, 12):
        ids = torch.randint(10, 200, (1, count), generator=drawn)
        # Time, row and column of their own.
        places = torch.arange(read, read + count) + torch.randint(
            0, 9, (rows, 1, count), generator=drawn)
        read += count
        places[0] = torch.arange(read - count, read)
        expected = vlm.model(
            input_ids=ids, position_ids=places, attention_mask=torch.ones(1, read).long(),
            past_key_values=caches[0], use_cache=True, logits_to_keep=min(count, 2)).logits
        found = step(ids, places, caches[1], min(count, 2))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    for layer, other in zip(*(cache.layers for cache in caches)):
        torch.testing.assert_close(layer.keys, other.keys, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(layer.values, other.values, atol=1e-4, rtol=1e-4)


def test_answers_are_token_for_token_those_of_generate(
        vlm: Vlm, windows: list[Prepared], monkeypatch: pytest.MonkeyPatch) -> None:
    keep = np.arange(0, len(windows[0].layout.visual_slots), 2, dtype=np.int32)
    #: Random models repeat themselves otherwise.
    options: dict[str, Any] = {} if vlm.name == 'embedded' else {'no_repeat_ngram_size': 1}
    drafts, forwards = Drafts(), list[int]()
    hook = vlm.model.register_forward_hook(lambda *_: forwards.append(1))
    found = [[vlm.generate(window, keep, 60, **options),
              vlm.generate(window, keep, 60, drafts=drafts, **options),
              vlm.generate(window, keep, 60, prefix=vlm.prefix(window, keep), **options)]
             for window in windows]
    for answers in found:
        drafts.add(answers[0].token_ids)
    # The model itself only reads pictures: with the prompt, or before it.
    assert len(forwards) == 3 * len(windows)
    monkeypatch.setattr(vlm._generator, '_takes_back', False)
    for window, answers in zip(windows, found):
        expected = vlm.generate(window, keep, 60, **options).token_ids
        assert len(expected) > 15
        assert [answer.token_ids for answer in answers] == [expected] * 3
    hook.remove()


def test_it_is_left_to_transformers_where_it_is_not_known(tmp_path: Path) -> None:
    others = {name: Vlm.load(make(name, tmp_path / name), device='cpu').model
              for name in ('qwen2_5_vl', 'internvl')}
    small = tmp_path / 'small'
    make('qwen3_vl', small)
    others['half'] = Vlm.load(small, device='cpu', dtype='bfloat16').model
    others['eager'] = Vlm.load(small, device='cpu', attn_implementation='eager').model
    assert {name: DecodeStep.of(model) for name, model in others.items()} == dict.fromkeys(others)


def test_int8_weights_are_read_by_it() -> None:
    vlm = Vlm.load(model_path('embedded'), device='cpu', quantization={'quant_method': 'int8'})
    step, ids = DecodeStep.of(vlm.model), torch.arange(20, 30)[None]
    assert step is not None
    places = torch.arange(10).expand(3, 1, -1)
    with torch.inference_mode():
        expected = vlm.model(input_ids=ids, position_ids=places, use_cache=False).logits
        found = step(ids, places, growing_cache(vlm.model.config.get_text_config()), 10)
    # Rounded inputs may fall to the other side.
    assert float((found - expected).abs().mean()) < 0.02 * float(expected.std())
