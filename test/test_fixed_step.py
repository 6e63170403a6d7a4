# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Answers that are read in fixed shapes are those of the usual way, token by token.

There is no GPU here, so passes are recorded by `recorded`: as a CUDA graph does, its replay runs
the operations that were seen, with the same tensors and numbers, and nothing of Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from vlm_maker import make, names, OTHER, PROMPT, SHORTENED

from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.paths import checkpoint
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.kv_sizes import graph_bytes
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import fixed_step, Prepared, Vlm
from vts_ros.vlm.answers import Answer, schema
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.fixed_step import FixedStep, LENGTHS
from vts_ros.vlm.prefix_reader import Picture, PrefixReader

pytestmark = pytest.mark.slow

#: Random models repeat themselves; answers of different tokens prove more when compared.
LIVELY: dict[str, Any] = {'no_repeat_ngram_size': 1}
LENGTH = 40
CAPTIONS = ['0.0s', '0.4s', '0.8s']
#: What waits for a device, makes a shape of its numbers, or brings numbers to it. The last of
#: them is all that is seen of ``tolist``.
NOT_IN_A_GRAPH = {'aten::_local_scalar_dense', 'aten::nonzero', 'aten::masked_select',
                  'aten::lift_fresh', 'aten::equal', 'aten::_unique2', 'aten::resolve_conj'}


class _Operations(TorchDispatchMode):
    """All operations while it is on, with what they were given and what came out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.seen: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None
                           ) -> Any:
        self.names.add(func.name().split('.')[0])
        if func.name().startswith('aten::index') and any(
                isinstance(leaf, Tensor) and leaf.dtype == torch.bool
                for leaf in tree_leaves(args)):
            # Within it, unseen.
            self.names.add('aten::nonzero')
        # Without gradients an operation of several arrives here as one.
        with self:
            out = func.decompose(*args, **(kwargs or {}))
        if out is not NotImplemented:
            return out
        out = func(*args, **(kwargs or {}))
        self.seen.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.seen:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def recorded(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record a pass as ``cuda_graph`` does."""
    operations = _Operations()
    with operations:
        logits = run()
    assert 'aten::index_copy_' in operations.names
    assert not operations.names & NOT_IN_A_GRAPH, 'not in a graph'
    return operations.replay, logits


def in_fixed_shapes(vlm: Vlm, recorder: Any = recorded) -> FixedStep:
    """Have a model read so."""
    step = vlm._generator._fixed_step = FixedStep(vlm.model, recorder)
    return step


@pytest.fixture(autouse=True)
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_step, 'LEAST', 64)


CAN = [name for name in names() if name.values[0] not in SHORTENED]


@pytest.fixture(scope='module', params=CAN)
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    return Vlm.load(make(request.param, tmp_path_factory.mktemp('models') / request.param),
                    device='cpu')


@pytest.fixture(scope='module')
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    return Vlm.load(make('qwen2_5_vl', tmp_path_factory.mktemp('models') / 'qwen'), device='cpu')


@pytest.fixture(autouse=True)
def usual_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave models as they were."""
    yield
    for name in ('vlm', 'qwen'):
        if name in request.fixturenames:
            request.getfixturevalue(name).fix_shapes(False)


@pytest.mark.parametrize('wait', [
    lambda numbers: numbers.sum().item(), lambda numbers: numbers.tolist(),
    lambda numbers: bool(numbers[0] > 0), lambda numbers: numbers[numbers > 0],
    lambda numbers: numbers + torch.tensor([1.0]), lambda numbers: numbers.unique()])
@torch.inference_mode()
def test_a_recording_refuses_what_a_graph_could_not_have(wait: Callable[[Tensor], Any]) -> None:
    numbers = torch.ones(3)

    def run() -> Tensor:
        wait(numbers)
        return numbers.index_copy_(0, torch.arange(3), numbers.clone())

    with pytest.raises(AssertionError, match='not in a graph'):
        recorded(run)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (90, 150, 3), np.uint8) for _ in range(count)]


def window(vlm: Vlm, count: int = 3) -> tuple[Prepared, NDArray[np.int32]]:
    """Return a prompt and a keep list."""
    prepared = vlm.prepare([vlm.encode(picture) for picture in pictures(count)],
                           CAPTIONS[:count], PROMPT)
    return prepared, np.arange(0, len(prepared.layout.visual_slots), 2, dtype=np.int32)


def test_every_family_says_the_same(vlm: Vlm) -> None:
    prepared, keep = window(vlm)
    vlm.fix_shapes(False)
    expected = vlm.generate(prepared, keep, LENGTH, **LIVELY).token_ids
    assert len(expected) > 15
    step = in_fixed_shapes(vlm)
    prefix = vlm.prefix(prepared, keep)
    right = list(expected)
    for drafts in (None, Drafts(), Drafts([right]), Drafts([[*right[:9], 9, *right[10:]]]),
                   Drafts([right[3:]] * 2)):
        for begun in (None, prefix):
            found = vlm.generate(prepared, keep, LENGTH, prefix=begun, drafts=drafts, **LIVELY)
            assert found.token_ids == expected
    assert list(step._recorded) == list(LENGTHS)


@pytest.mark.parametrize('family', SHORTENED)
def test_what_cannot_be_masked_is_left_to_transformers(family: str, tmp_path: Any) -> None:
    vlm = Vlm.load(make(family, tmp_path / family), device='cpu')
    assert not FixedStep.is_possible(vlm.model)
    assert graph_bytes(vlm, PipelineConfig(), 100, 'cuda') == 0
    assert vlm.fix_shapes(True) is None


def test_nor_what_takes_no_mask_nor_what_is_on_no_gpu(tmp_path: Any) -> None:
    eager = Vlm.load(make('qwen2_5_vl', tmp_path / 'm'), device='cpu', attn_implementation='eager')
    assert eager.fix_shapes(True) is None
    sdpa = Vlm.load(tmp_path / 'm', device='cpu')
    assert sdpa._generator._fixed_step is None
    assert FixedStep.of(sdpa.model) is None
    assert sdpa.fix_shapes(True) is sdpa._generator._fixed_step is not None
    assert sdpa.fix_shapes(False) is None


def test_a_cache_that_lives_on_is_as_it_was_after_every_answer(qwen: Vlm) -> None:
    """As in causal mode: pictures follow each other, and questions come between."""
    features = [qwen.encode(picture) for picture in pictures(3)]
    held = [Picture(seen, np.arange(0, len(seen.tokens), 2, dtype=np.int32)) for seen in features]
    answers = {}
    for way in ('usual', 'fixed'):
        step = in_fixed_shapes(qwen) if way == 'fixed' else None
        reader = PrefixReader(qwen)
        for count in (1, 2, 3):
            prefix = reader.read_on(reader.part(
                qwen.texts(CAPTIONS[:count], PROMPT)[:-1], held[:count]))
            layers: list[Any] = list(prefix.cache.layers)
            before = [layer.keys.clone() for layer in layers]
            keep = np.concatenate([
                picture.keep + index * len(features[0].tokens)
                for index, picture in enumerate(held[:count])])
            for prompt in (PROMPT, OTHER):
                prepared = qwen.prepare(features[:count], CAPTIONS[:count], prompt)
                answers[way, count, prompt] = qwen.generate(
                    prepared, keep, LENGTH, prefix=prefix, drafts=Drafts(), **LIVELY).token_ids
                assert prefix.is_whole
                assert all(torch.equal(layer.keys, keys)
                           for layer, keys in zip(layers, before, strict=True))
            assert step is None or step._cache is not prefix.cache
    for (way, *asked), tokens in answers.items():
        assert tokens == answers['usual', asked[0], asked[1]], (way, asked)


def test_memory_grows_to_the_next_capacity_and_is_used_again(qwen: Vlm) -> None:
    short, long = (*window(qwen, 1), 8), (*window(qwen, 3), 4 * LENGTH)
    expected = {id(prompt): qwen.generate(*prompt, **LIVELY).token_ids for prompt in (short, long)}
    count = []

    def counted(run: Callable[[], Tensor]) -> Any:
        count.append(1)
        return recorded(run)

    step, sizes = in_fixed_shapes(qwen, counted), []
    for prompt in (short, short, long, short, long):
        found = qwen.generate(*prompt, **LIVELY)
        assert found.token_ids == expected[id(prompt)]
        assert step._cache is not None
        sizes.append((step._cache.capacity, len(count)))
    once = len(LENGTHS)
    first, last = sizes[0][0], sizes[-1][0]
    assert first < last
    assert sizes == [(first, once)] * 2 + [(last, 2 * once)] * 3
    # The longest draft has room at the very end of an answer.
    tokens = found.prompt_tokens + 4 * LENGTH + LENGTHS[-1]
    assert last >= tokens > last // 2


@pytest.mark.parametrize('length', [8, 4 * LENGTH])
def test_what_graphs_hold_is_told_before(vlm: Vlm, length: int) -> None:
    step = in_fixed_shapes(vlm)
    found = vlm.generate(*window(vlm), length, **LIVELY)
    assert step._cache is not None
    rooms: list[Any] = [room for layer in step._cache._fixed for room in layer._room]
    held = sum(held.nbytes for held in (
        *rooms, *(recorded.logits for recorded in step._recorded.values())))
    config = PipelineConfig(max_new_tokens=length)
    assert graph_bytes(vlm, config, found.prompt_tokens, 'cuda:1') == held
    assert graph_bytes(vlm, config, found.prompt_tokens, 'cpu') == 0
    assert graph_bytes(vlm, replace(config, attn_implementation='eager'), 9, 'cuda') == 0


@torch.inference_mode()
def test_logits_stay_when_the_next_pass_is_replayed(qwen: Vlm) -> None:
    prefix, step = qwen.prefix(*window(qwen)), FixedStep(qwen.model, recorded)
    places = prefix.read.position_ids[:, None, -1:]
    cache = step.begin(prefix.cache, places, prefix.length + 9)
    first = step(torch.tensor([[20]]), places + 1, cache, 1)
    kept = first.clone()
    second = step(torch.tensor([[30, 40]]), torch.cat([places + 2, places + 3], -1), cache, 1)
    assert torch.equal(first, kept)
    assert first.shape == second.shape
    assert not torch.equal(first, second)
    assert cache.get_seq_length() == cache.layers[0].keys.shape[-2] == prefix.length + 3


def test_passes_longer_than_what_is_recorded_are_read_as_they_are(
        qwen: Vlm, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, keep = window(qwen)
    expected = qwen.generate(prepared, keep, LENGTH, **LIVELY).token_ids
    monkeypatch.setattr(fixed_step, 'LENGTHS', (1, 2))
    in_fixed_shapes(qwen)
    lengths = list[int]()
    hook = qwen.model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: lengths.append(args[0].shape[1]))
    found = qwen.generate(prepared, keep, LENGTH, drafts=Drafts([expected]), **LIVELY)
    hook.remove()
    assert found.token_ids == expected
    # The prompt, the passes while these two are recorded, and drafts.
    assert lengths[1:5] == [1, 1, 2, 2]
    assert min(lengths[5:]) > 2


def test_an_answer_that_was_stopped_or_broken_leaves_nothing_behind(qwen: Vlm) -> None:
    prepared, keep = window(qwen)
    expected = qwen.generate(prepared, keep, LENGTH, **LIVELY).token_ids
    prefix = qwen.prefix(prepared, keep)
    in_fixed_shapes(qwen)
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 5

    def broken() -> bool:
        asked.append(1)
        if len(asked) == 9:
            raise OSError('gone')
        return False

    for _ in range(2):
        asked.clear()
        cut = qwen.generate(prepared, keep, LENGTH, stop, prefix=prefix, **LIVELY)
        assert cut.token_ids == expected[:5]
        asked.clear()
        with pytest.raises(OSError, match='gone'):
            qwen.generate(prepared, keep, LENGTH, broken, prefix=prefix, **LIVELY)
        assert prefix.is_whole
        found = qwen.generate(prepared, keep, LENGTH, prefix=prefix, **LIVELY)
        assert found.token_ids == expected


def _no_graph(run: Callable[[], Tensor]) -> Any:
    run()
    raise RuntimeError('operation not permitted\nwhen stream is capturing')


def _stale(run: Callable[[], Tensor]) -> Any:
    _, logits = recorded(run)
    return lambda: None, logits


def _out_of_memory(run: Callable[[], Tensor]) -> Any:
    raise torch.OutOfMemoryError('CUDA out of memory')


@pytest.mark.parametrize(('recorder', 'reason'), [
    (_no_graph, 'operation not permitted when stream is capturing'),
    (_stale, 'says something else than before'), (_out_of_memory, 'out of memory')])
def test_where_nothing_can_be_recorded_the_usual_way_goes_on(
        qwen: Vlm, recorder: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    prepared, keep = window(qwen)
    expected = qwen.generate(prepared, keep, LENGTH, **LIVELY).token_ids
    step = in_fixed_shapes(qwen, recorder)
    with caplog.at_level(logging.WARNING):
        for drafts in (None, Drafts([expected])):
            found = qwen.generate(prepared, keep, LENGTH, drafts=drafts, **LIVELY)
            assert found.token_ids == expected
    (record,) = caplog.records
    assert record.getMessage().startswith('CUDA graphs are not used')
    assert reason in record.getMessage()
    # Nothing is held for what is not used.
    assert step._cache is None
    assert not step.is_recorded


def test_sampling_and_batches_are_left_to_generate(qwen: Vlm) -> None:
    prepared, keep = window(qwen)
    expected = qwen.generate(prepared, keep, 8, **LIVELY).token_ids
    step = in_fixed_shapes(qwen)
    qwen.generate(prepared, keep, 8, do_sample=True, top_k=5)
    both = qwen.generate_batch([prepared] * 2, [keep] * 2, 8, **LIVELY)
    assert [answer.token_ids for answer in both] == [expected] * 2
    assert step._cache is None


def test_answers_in_form_are_the_same() -> None:
    vlm = Vlm.load(checkpoint('embedded'), device='cpu', schema=schema())
    prepared, _ = window(vlm)
    (expected,) = vlm.generate_batch([prepared], [None], 120, in_form=True)
    right = list(expected.token_ids)
    in_fixed_shapes(vlm)
    for draft in (right, [*right[:12], right[5], *right[12:]], [3] * 50):
        (found,) = vlm.generate_batch([prepared], [None], 120, in_form=True,
                                      drafts=Drafts([draft]))
        assert found.token_ids == expected.token_ids


@pytest.mark.parametrize('mode', ['window', 'causal'])
@pytest.mark.parametrize('draft', [False, True])
def test_the_pipeline_reports_the_same_in_every_mode(mode: str, draft: bool) -> None:
    frames = [Frame('front', round(4e8) * index, picture)
              for index, picture in enumerate(
                  picture for scene in balanced_scenes('val', 2)
                  for picture in render(scene).frames)]
    pipeline = Pipeline.load(PipelineConfig(mode=mode, draft=draft, device='cpu'))
    answers: list[list[Answer]] = []
    for is_fixed in (False, True):
        if is_fixed:
            step = in_fixed_shapes(pipeline.vlm)
        pipeline.clear()
        answers.append([pipeline.describe(frames[end - 5:end]).answer
                        for end in range(5, 9)])
    assert step.is_recorded
    assert answers[0] == answers[1]
    assert len({answer.description for answer in answers[0]}) > 2
