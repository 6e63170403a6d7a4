# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Causal mode: frames are pruned and read once each; what comes of it is that of one pass."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer
from vlm_maker import make

from vts_ros.lab.evaluation.batches import ask_batch, describe_batch
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.pipeline.context import CausalReader, WindowReader
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import BrokenFrame, Pipeline, PipelineConfig, without_broken
from vts_ros.sparsify import Proposal, Sparsifier
from vts_ros.sparsify.frame_groups import FrameGroups
from vts_ros.sparsify.proposal_network import EMBEDDING_CHANNELS, MAP_SIZE
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.kv_cache import GrowingLayer
from vts_ros.vlm.prefix_reader import PrefixReader, why_not_streamed
from vts_ros.vlm.prompts import Prompts

pytestmark = pytest.mark.slow

INTERVAL_NS = 400_000_000
CELLS = 28
#: Of logits and of keys and values, in float32.
EXACT = 1e-3
CAUSAL: dict[str, Any] = {'mode': 'causal', 'keep_ratio': 0.4, 'group_frames': 4}


@pytest.fixture(scope='module')
def loaded() -> Pipeline:
    return Pipeline.load(PipelineConfig(threads=1, max_new_tokens=24))


@pytest.fixture(scope='module')
def tiny(loaded: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    model = make('qwen2_5_vl', tmp_path_factory.mktemp('models') / 'qwen2_5_vl')
    return Pipeline(loaded.sparsifier, Vlm.load(model, device='cpu'), loaded.prompts,
                    replace(loaded.config, model=str(model)))


@pytest.fixture(scope='module')
def frames() -> list[Frame]:
    clip = render(next(balanced_scenes('val', 1, first=2, frames=14)))
    return [Frame('front', index * INTERVAL_NS, picture)
            for index, picture in enumerate(clip.frames)]


def causal(loaded: Pipeline, **changes: Any) -> Pipeline:
    """Return a pipeline in causal mode that has seen nothing, with the same models."""
    prompts = loaded.prompts
    if changes.get('instructions') == 'first':
        prompts = prompts.with_instructions_first()
    return Pipeline(loaded.sparsifier, loaded.language_model, prompts,
                    replace(loaded.config, **{**CAUSAL, **changes}), loaded.calibration)


@pytest.fixture
def passes(loaded: Pipeline) -> Iterator[list[int]]:
    """Tokens of every forward pass of the embedded model."""
    counted: list[int] = []
    hook = loaded.vlm.model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: counted.append(args[0].shape[1]))
    yield counted
    hook.remove()


class Notes(LogitsProcessor):
    """Keeps the logits of every step."""

    def __init__(self) -> None:
        self.logits: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.logits.append(scores.clone())
        return scores


def stream(pipeline: Pipeline) -> Any:
    assert isinstance(pipeline.reader, CausalReader)
    return pipeline.reader.context


# What was read is what one pass over the same tokens gives


@pytest.mark.parametrize('order', ['after', 'first'])
@pytest.mark.parametrize('model', ['embedded', 'tiny'])
def test_what_was_read_piece_by_piece_is_what_is_read_at_once(
        model: str, order: str, loaded: Pipeline, frames: list[Frame],
        request: pytest.FixtureRequest) -> None:
    pipeline = causal(loaded if model == 'embedded' else request.getfixturevalue('tiny'),
                      instructions=order)
    vlm = pipeline.vlm
    for index, frame in enumerate(frames):
        pipeline.ingest([frame])
        if index % 4 == 3:
            # Answers in between must leave nothing behind.
            pipeline.ask(frames[max(0, index - 4):index + 1], 'What is ahead?')
        if index < 4 or index % 3:
            continue
        prepared, prefix, selection = stream(pipeline).read(pipeline.prompts.description)
        at_once = vlm.prefix(prepared, selection.keep)
        assert at_once.cache is not prefix.cache
        assert at_once.read.input_ids.tolist() == prefix.read.input_ids.tolist()
        layers: Any = zip(prefix.cache.layers, at_once.cache.layers, strict=True)
        for layer, other in layers:
            assert layer.keys.shape == other.keys.shape
            torch.testing.assert_close(layer.keys, other.keys, atol=EXACT, rtol=0.0)
            torch.testing.assert_close(layer.values, other.values, atol=EXACT, rtol=0.0)
        notes = Notes()
        after = vlm.generate(prepared, selection.keep, 6, prefix=prefix,
                             logits_processor=LogitsProcessorList([notes]))
        torch.testing.assert_close(
            notes.logits[0][0], vlm.logits(prepared, selection.keep)[-1], atol=EXACT, rtol=0.0)
        assert after.token_ids == vlm.generate(prepared, selection.keep, 6).token_ids
    assert pipeline.stats()['groups_evicted'] > 0


def test_what_is_kept_of_a_frame_never_changes(loaded: Pipeline, frames: list[Frame]) -> None:
    pipeline = causal(loaded)
    known: dict[tuple[str, int], list[int]] = {}
    for frame in frames:
        pipeline.ingest([frame])
        keep = stream(pipeline).selection().keep
        for index, held in enumerate(stream(pipeline).frames):
            here = keep[(keep >= CELLS * index) & (keep < CELLS * (index + 1))] - CELLS * index
            assert known.setdefault(held.key, here.tolist()) == here.tolist()
    assert len(known) == len(frames)


def test_a_report_is_about_what_was_read(loaded: Pipeline, frames: list[Frame]) -> None:
    pipeline = causal(loaded)
    for frame in frames[:7]:
        pipeline.ingest([frame])
    report = pipeline.describe(frames[2:7])
    assert [ref.stamp for ref in report.frames] == [frame.stamp_ns for frame in frames[:7]]
    assert report.stamp == frames[6].stamp_ns
    assert report.frames[report.key_frame.index].stamp == report.key_frame.stamp
    assert 0.3 < len(report.keep) / report.tokens_total < 0.7
    assert list(report.keep) == sorted(set(report.keep))
    assert pipeline.frames_of(report) == frames[:7]


def test_arriving_before_or_with_the_window_is_the_same(
        loaded: Pipeline, frames: list[Frame]) -> None:
    early, late = causal(loaded), causal(loaded)
    for end in (5, 6, 9):
        for frame in frames[:end]:
            early.ingest([frame])
        expected, found = early.describe(frames[end - 5:end]), late.describe(frames[end - 5:end])
        assert (found.answer, found.keep, found.frames) == (
            expected.answer, expected.keep, expected.frames)


# What it costs, in tokens that go through the language model


def test_a_frame_is_read_once_and_an_answer_reads_its_question(
        loaded: Pipeline, frames: list[Frame], passes: list[int]) -> None:
    pipeline = causal(loaded, group_frames=8)
    for frame in frames[:5]:
        held = pipeline.stats().get('kv_tokens', 0)
        passes.clear()
        pipeline.ingest([frame])
        assert passes == [pipeline.stats()['kv_tokens'] - held]
    passes.clear()
    pipeline.ingest(frames[:5])
    assert passes == []
    report = pipeline.describe(frames[:5])
    prepared, _, selection = stream(pipeline).read(pipeline.prompts.description)
    length = len(prepared.prune(selection.keep).input_ids)
    assert passes == [length - pipeline.stats()['kv_tokens']] + [1] * (len(passes) - 1)
    assert 'prefill_pictures' in report.latency_ms
    assert pipeline.stats()['kv_tokens'] > 2 * passes[0] / 3


class Copies(TorchDispatchMode):
    """Counts the bytes that PyTorch copies from one tensor to another."""

    OPERATORS = frozenset({torch.ops.aten.cat, torch.ops.aten.clone, torch.ops.aten.copy_,
                           torch.ops.aten.index, torch.ops.aten.index_select})

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in self.OPERATORS:
            self.bytes += result.numel() * result.element_size()
        return result


def test_a_frame_and_an_answer_cost_the_same_however_much_was_read(
        loaded: Pipeline, frames: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is laid out, and next to nothing copied, of what was there before."""
    # Answers of one token: how many passes longer ones take is another matter.
    pipeline = causal(loaded, group_frames=64, draft=True, max_new_tokens=1)
    laid_out, lay_out = [0], Vlm.lay_out

    def count(*args: Any) -> Any:
        layout = lay_out(*args)
        laid_out[0] += len(layout.input_ids)
        return layout

    monkeypatch.setattr(Vlm, 'lay_out', count)
    there_and_back = [*frames, *frames[::-1]] * 2
    drive = [Frame('front', index * INTERVAL_NS, frame.data)
             for index, frame in enumerate(there_and_back)]
    cost: dict[str, list[tuple[int, int]]] = {'frame': [], 'answer': []}
    held = []
    for end in (8, 32):
        pipeline.ingest(drive[:end - 3])
        # The memory of a cache grows now and then, so the least of three counts.
        tries: dict[str, list[tuple[int, int]]] = {'frame': [], 'answer': []}
        for index in range(end - 3, end):
            window = drive[index - 4:index + 1]
            for what, run in (('frame', pipeline.ingest), ('answer', pipeline.describe)):
                laid_out[0] = 0
                with Copies() as copies:
                    run(window)
                tries[what].append((laid_out[0], copies.bytes))
        for what, found in tries.items():
            cost[what].append((min(ours for ours, _ in found),
                               min(theirs for _, theirs in found)))
        stats = pipeline.stats()
        assert stats['kv_frames'] == end
        held.append(stats['kv_bytes'])
    for (laid_early, copied_early), (laid_late, copied_late) in cost.values():
        # The time in a caption has a digit more.
        assert 0 < laid_late <= laid_early + 2
        assert copied_late - copied_early < 0.1 * (held[1] - held[0])


@pytest.mark.parametrize('mode', ['window', 'causal'])
def test_questions_share_the_pictures(loaded: Pipeline, frames: list[Frame], passes: list[int],
                                      mode: str) -> None:
    questions = ['What is the main hazard?', 'Does anybody cross?', 'What is to be done?']
    pipeline = causal(loaded, mode=mode)
    fresh = [causal(loaded, mode=mode).ask(frames[:5], question) for question in questions]
    passes.clear()
    assert [pipeline.ask(frames[:5], question) for question in questions] == fresh
    read = int(pipeline.stats()['tokens_read'])
    # The passes of more than one token are those of the pictures and of three questions.
    long = [count for count in passes if count > 1]
    assert sum(long[:-3]) == read
    assert all(count < 40 for count in long[-3:])


def first_tokens(pipeline: Pipeline) -> int:
    """Return how many tokens have what is asked of every window."""
    text = pipeline.prompts.description.before
    return len(pipeline.vlm.tokenizer(text, add_special_tokens=False)['input_ids'])


@pytest.mark.parametrize('mode', ['window', 'causal'])
def test_instructions_before_the_pictures_are_read_once(
        loaded: Pipeline, frames: list[Frame], passes: list[int], mode: str) -> None:
    pipelines = {order: causal(loaded, mode=mode, instructions=order, draft=False)
                 for order in ('after', 'first')}
    asked = first_tokens(pipelines['first'])
    assert asked > 50
    for end in range(5, 9):
        read = {}
        for order, pipeline in pipelines.items():
            passes.clear()
            pipeline.describe(frames[end - 5:end])
            read[order] = sum(count for count in passes if count > 1)
        # At the first window both read all there is; the system text is read once, too.
        saved = 0 if end == 5 else asked
        assert saved - 5 <= read['after'] - read['first'] <= saved + 30
    assert pipelines['first'].stats()['tokens_reused'] > 3 * asked


def test_a_window_after_the_same_instructions_is_answered_as_if_it_were_the_first(
        loaded: Pipeline, frames: list[Frame]) -> None:
    pipeline = causal(loaded, mode='window', instructions='first')
    answers = []
    for end in range(5, 8):
        window = frames[end - 5:end]
        expected = causal(loaded, mode='window', instructions='first').describe(window)
        assert pipeline.describe(window).answer == expected.answer
        answers.append(expected.answer)
        question = 'What is the main hazard?'
        assert pipeline.ask(window, question) == causal(
            loaded, mode='window', instructions='first').ask(window, question)
    batch = describe_batch(pipeline, [frames[end - 5:end] for end in range(5, 8)])
    assert [report.answer for report in batch] == answers
    # Other words before the pictures are read anew.
    pipeline.set_prompts('de', '')
    german = causal(loaded, mode='window', instructions='first')
    german.set_prompts('de', '')
    assert 'Bilder aus diesem Auto' in pipeline.prompts.description.before
    assert pipeline.describe(frames[:5]).answer == german.describe(frames[:5]).answer


def test_a_model_that_was_trained_on_the_other_order_is_refused() -> None:
    with pytest.raises(VlmError, match=r'^embedded was trained with instructions after the pict'):
        Pipeline.load(PipelineConfig(instructions='first'))
    with pytest.raises(VlmError, match=r"^instructions cannot be 'last', there are: after, first"):
        Pipeline.load(PipelineConfig(instructions='last'))


def test_instructions_that_name_cameras_are_those_of_pictures_that_arrive(
        tiny: Pipeline, frames: list[Frame]) -> None:
    pipeline = Pipeline(
        tiny.sparsifier, tiny.language_model, Prompts.load(is_first=True),
        replace(tiny.config, **CAUSAL, instructions='first'))
    both = [replace(frame, camera=camera) for frame in frames[:4] for camera in ('front', 'rear')]
    for end in (2, 4, 6, 8):
        pipeline.ingest(both[:end])
        pipeline.describe(both[:end])
        pipeline.ask(both[:end], 'What is ahead?')
    prepared, _, _ = stream(pipeline).read(pipeline.description_prompt(both))
    assert '"camera": "front / rear"' in pipeline.vlm.tokenizer.decode(prepared.layout.input_ids)
    reader = pipeline.reader
    assert isinstance(reader, CausalReader)
    assert reader._prefix_reader.counters['began'] == 1


def test_questions_at_once_are_asked_about_what_was_read(
        loaded: Pipeline, frames: list[Frame]) -> None:
    questions = ['What is the main hazard?', 'How is the light?']
    answers = ask_batch(causal(loaded, mode='causal'), [frames[:5]] * 2, questions)
    pipeline = causal(loaded, mode='causal')
    assert answers == [pipeline.ask(frames[:5], question) for question in questions]


def test_a_description_of_a_window_is_read_whole(loaded: Pipeline, frames: list[Frame],
                                                 passes: list[int]) -> None:
    """What was read for questions is freed, and changes nothing about descriptions."""
    pipeline = causal(loaded, mode='window', draft=False)
    expected = pipeline.describe(frames[:5]).answer
    pipeline.ask(frames[:5], 'What is ahead?')
    passes.clear()
    assert pipeline.describe(frames[:5]).answer == expected
    assert len([count for count in passes if count > 1]) == 1
    assert isinstance(pipeline.reader, WindowReader)
    assert pipeline.reader._prefix_reader is not None
    assert pipeline.reader._prefix_reader.tokens == 0


def test_drafts_save_passes_and_change_nothing(loaded: Pipeline, frames: list[Frame],
                                               passes: list[int]) -> None:
    plain, drafted = causal(loaded, draft=False), causal(loaded)
    for end in (5, 5, 6, 7):
        expected = plain.describe(frames[end - 5:end])
        passes.clear()
        found = drafted.describe(frames[end - 5:end])
        assert (found.answer, found.keep) == (expected.answer, expected.keep)
    stats = drafted.stats()
    assert stats['accepted'] >= 20  # the second answer is the first one
    assert stats['draft_acceptance'] == stats['accepted'] / stats['drafted']


# Memory


def test_keys_and_values_grow_in_place_as_those_of_transformers_do() -> None:
    random, moves = torch.Generator().manual_seed(0), 0
    layer: Any = GrowingLayer()
    other: Any = DynamicLayer()
    for new, gone in ((40, 0), (3, 2), (1, 0), (5, 6), (1, 0), (1, 1), (200, 0), (1, 40), (1, 0)):
        keys, values = (torch.randn(1, 2, new, 4, generator=random) for _ in range(2))
        place = None if layer.keys is None else layer.keys.data_ptr()
        for grown in (layer, other):
            found = grown.update(keys, values)
            assert found == (grown.keys, grown.values)
            grown.crop(-gone)
        held, expected = [(grown.keys, grown.values) for grown in (layer, other)]
        moves += held[0].data_ptr() != place
        assert all(map(torch.equal, held, expected))
        assert layer.get_seq_length() == other.get_seq_length()
    assert moves == 2  # at the first tokens, and where 200 came at a time
    layer.reset()
    assert layer.get_seq_length() == 0
    layer.update(keys, values)
    assert torch.equal(layer.keys, keys)


@pytest.mark.parametrize('bound', [80, 120, 200])
def test_memory_has_a_bound(loaded: Pipeline, frames: list[Frame], bound: int) -> None:
    pipeline = causal(loaded, kv_tokens=bound, group_frames=6)
    per_token = 2 * 6 * 192 * 4  # keys and values of 6 layers, in float32
    for index, frame in enumerate(frames):
        pipeline.ingest([frame])
        stats = pipeline.stats()
        assert 0 < stats['kv_tokens'] <= bound
        assert stats['kv_bytes'] == stats['kv_tokens'] * per_token
        assert stream(pipeline).frames[-1] is frame
        if index == 9:
            pipeline.describe(frames[5:10])
            assert pipeline.stats()['kv_tokens'] == stats['kv_tokens']


def test_a_bound_that_holds_no_picture_is_refused(loaded: Pipeline, frames: list[Frame]) -> None:
    pipeline = causal(loaded, kv_tokens=30)
    with pytest.raises(VlmError, match=r'tokens, more than vlm.kv_tokens \(30\) allows$'):
        pipeline.ingest([frames[0]])
    assert pipeline.stats()['kv_tokens'] == 0


def test_a_pass_that_fails_leaves_what_was_read(
        loaded: Pipeline, frames: list[Frame], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, expected = causal(loaded), causal(loaded)
    pipeline.ingest(frames[:3])
    inner = loaded.vlm.model.model.language_model.layers[3].mlp.down_proj
    with monkeypatch.context() as patch:
        def fail(*args: Any, **options: Any) -> Any:
            raise torch.OutOfMemoryError('full')

        patch.setattr(inner, 'forward', fail)
        with pytest.raises(VlmError, match='out of memory'):
            pipeline.describe(frames[:3])
        with pytest.raises(VlmError, match='out of memory'):
            pipeline.ingest([frames[3]])
    found = pipeline.describe(frames[:4])
    assert found.answer == expected.describe(frames[:4]).answer


# Which frames go together


def test_a_window_of_another_drive_starts_anew(loaded: Pipeline, frames: list[Frame]) -> None:
    pipeline = causal(loaded)
    pipeline.describe(frames[5:10])
    for window in (frames[0:5], frames[9:14], [Frame('rear', 7, frames[0].data)]):
        report = pipeline.describe(window)
        assert [ref.stamp for ref in report.frames][-len(window):] == [
            frame.stamp_ns for frame in window]
        assert report.frames[0].stamp == window[0].stamp_ns or window[0] is frames[9]


def test_a_batch_is_answered_one_by_one(loaded: Pipeline, frames: list[Frame]) -> None:
    other = [Frame('other', frame.stamp_ns, frame.data) for frame in frames[6:9]]
    together = describe_batch(causal(loaded), [frames[:3], other])
    alone = [causal(loaded).describe(window) for window in (frames[:3], other)]
    assert [(described.answer, described.keep, described.frames) for described in together] == [
        (described.answer, described.keep, described.frames) for described in alone]


def test_a_broken_frame_costs_itself_only(loaded: Pipeline, frames: list[Frame]) -> None:
    pipeline, left_out = causal(loaded), list[BrokenFrame]()
    broken = Frame('front', frames[2].stamp_ns, b'no picture')
    window = [*frames[:2], broken, *frames[3:5]]
    without_broken(window, left_out.append, pipeline.ingest)
    assert [broken.frame for broken in left_out] == [broken]
    report = without_broken(window, left_out.append, pipeline.describe)
    assert report is not None
    assert len(report.frames) == 4
    with pytest.raises(ValueError, match='at least one frame'):
        pipeline.describe([])


def test_several_cameras_have_their_own_key_frames(loaded: Pipeline, frames: list[Frame]) -> None:
    pipeline = causal(loaded, group_frames=3)
    pairs = [Frame(camera, index * INTERVAL_NS + shift, frames[index + place].data)
             for index in range(3) for camera, shift, place in (('front', 0, 0), ('rear', 9, 7))]
    report = pipeline.describe(pairs)
    assert [ref.camera for ref in report.frames] == ['front', 'rear'] * 3
    assert pipeline.stats()['groups_scene'] == 0
    kept = np.bincount(np.array(report.keep) // CELLS, minlength=6).reshape(3, 2)
    assert (kept[0] > kept[1:].max()).all()  # the key frame of each is the first


@pytest.fixture(scope='module')
def sparsifier(loaded: Pipeline) -> Sparsifier:
    return loaded.sparsifier.variant(hysteresis=0.2)


def proposal(saliency: float, scene: int = 0, seed: int = 0) -> Proposal:
    """Return what a scene of random texture looks like, a little else at every moment."""
    random = np.random.default_rng(seed)
    shape = np.random.default_rng(scene).standard_normal((EMBEDDING_CHANNELS, *MAP_SIZE))
    embedding = shape + 0.3 * random.standard_normal(shape.shape)
    return Proposal(
        np.clip(saliency * (1 + 0.1 * random.uniform(-1, 1, MAP_SIZE)), 0, 1).astype(np.float32),
        (embedding / np.linalg.norm(embedding, axis=0)).astype(np.float32))


@pytest.mark.parametrize('ratio', [0.1, 0.2, 0.4, 0.6, 1.0])
@pytest.mark.parametrize('length', [1, 4, 5, 8])
def test_full_groups_keep_the_share_that_was_asked_for(
        sparsifier: Sparsifier, ratio: float, length: int) -> None:
    groups = FrameGroups(sparsifier, length)
    kept = [len(groups.take({'a': proposal(0.3, seed=index)}, (4, 7), ratio)['a'].keep)
            for index in range(4 * length)]
    assert groups.counters == {'first': 1, 'full': 3, **(
        {'evicted': groups.counters['evicted']} if groups.counters['evicted'] else {})}
    assert abs(sum(kept) - ratio * CELLS * len(kept)) <= 1.0
    if ratio * length >= 1.9:
        assert kept[::length] == [CELLS] * 4


def test_new_key_frames_time_and_again_do_not_spend_more(sparsifier: Sparsifier) -> None:
    groups, kept = FrameGroups(sparsifier, 5), 0
    for index in range(30):
        choice = groups.take({'a': proposal(0.001 * 1.25 ** index, seed=index)},
                             (4, 7), 0.4)['a']
        kept += len(choice.keep)
        assert groups.moments <= 10
    assert groups.counters['key'] == 29
    assert 0.4 <= kept / (30 * CELLS) < 0.5


def test_a_group_ends_when_the_cnn_asks_for_it_or_the_scene_changes(
        sparsifier: Sparsifier) -> None:
    groups = FrameGroups(sparsifier, 8)

    def begins(saliency: float, scene: int = 0) -> bool:
        before = groups.counters.total()
        choice = groups.take({'a': proposal(saliency, scene, int(100 * saliency))}, (4, 7), 0.4)
        assert choice['a'].is_key == (groups.counters.total() > before)
        return choice['a'].is_key

    assert begins(0.3)
    assert not begins(0.33)  # within the hysteresis
    assert not begins(0.1)
    assert begins(0.5)
    assert groups.count == 2
    assert begins(0.5, scene=1)
    assert (groups.count, groups.moments) == (1, 1)  # what was before is of no use
    assert groups.counters == {'first': 1, 'key': 1, 'scene': 1, 'evicted': 2}


def test_answers_reach_back_one_group_at_least(sparsifier: Sparsifier) -> None:
    groups = FrameGroups(sparsifier, 4)
    held = []
    for index in range(30):
        groups.take({'a': proposal(0.3, seed=index)}, (4, 7), 0.4)
        held.append(groups.frames)
    assert held[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert min(held[8:]) == 5
    assert max(held) == 8


# Who cannot do it says so


def test_a_mode_that_there_is_not_is_refused_at_load() -> None:
    with pytest.raises(VlmError, match="no mode 'backwards', there are: window, causal"):
        Pipeline.load(PipelineConfig(mode='backwards'))


def test_a_template_that_numbers_pictures_from_behind_is_refused(loaded: Pipeline) -> None:
    vlm, prompt = loaded.vlm, loaded.prompts.description
    assert why_not_streamed(vlm, prompt) is None
    written = vlm.tokenizer.chat_template
    try:
        vlm.tokenizer.chat_template = (
            "{{ messages[1]['content'] | selectattr('type', 'equalto', 'image') | list | length "
            '}} pictures' + written)
        with pytest.raises(VlmError, match='cannot be used in causal mode: its chat template'):
            causal(loaded)
    finally:
        vlm.tokenizer.chat_template = written


def test_a_prompt_that_begins_in_another_way_is_read_anew(
        loaded: Pipeline, frames: list[Frame]) -> None:
    vlm, prompt = loaded.vlm, loaded.prompts.description
    features = [vlm.encode(frame.rgb()) for frame in frames[:3]]
    reader = PrefixReader(vlm)
    first = reader.read(vlm.prepare(features, ['0.0s', '0.4s', '0.8s'], prompt), None)
    other = vlm.prepare(features, ['0.1s', '0.4s', '0.8s'], prompt)
    again = reader.read(other, None)
    assert again.cache is not first.cache
    assert reader.counters['began'] == 2
    # What was handed on and has grown since cannot be taken for what it was.
    longer = vlm.prepare([*features, features[0]], ['0.1s', '0.4s', '0.8s', '1.2s'], prompt)
    reader.read(longer, None)
    with pytest.raises(VlmError, match='does not begin with what was read before'):
        vlm.generate(other, None, 1, prefix=again)


def test_a_camera_that_is_gone_is_not_spoken_of(loaded: Pipeline, frames: list[Frame]) -> None:
    """Whatever was read of it: the next answer is about the cameras that show the present."""
    pipeline = causal(loaded, group_frames=16)
    both = [[Frame(camera, frame.stamp_ns, frame.data) for camera in ('front', 'rear')]
            for frame in frames[:6]]
    seen = pipeline.describe([frame for pair in both[:5] for frame in pair])
    assert seen.cameras == ('front', 'rear')
    alone = pipeline.describe([pair[0] for pair in both[1:6]])
    assert alone.cameras == ('front',)
    assert alone.stamp == frames[5].stamp_ns
