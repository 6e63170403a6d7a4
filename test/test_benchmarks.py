# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation on LingoQA and DRAMA: layouts, bad rows, metrics, and the whole way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import csv
import json
import math
import mmap
from pathlib import Path
import shutil

from all_commands import app
from dataset_maker import CORNERS, drama, lingoqa
import pytest
from tokenizers import models, pre_tokenizers, processors, Tokenizer
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from typer.testing import CliRunner

from vts_ros.lab.evaluation import dataset_runner as benchmark
from vts_ros.lab.evaluation import drama as drama_module
from vts_ros.lab.evaluation import lingoqa as lingoqa_module
from vts_ros.lab.evaluation import text_metrics
from vts_ros.lab.evaluation.dataset_runner import DatasetError, fingerprint
from vts_ros.lab.evaluation.lingo_judge import LingoJudge
from vts_ros.lab.evaluation.peak_memory import PeakMemory
from vts_ros.lab.evaluation.text_metrics import text_scores
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import VlmError
from vts_ros.vlm.answers import Answer

SPLITS: tuple[drama_module.Split, ...] = ('train', 'val', 'test', 'all')
#: METEOR reads 60 MB first, and the judge and the model run beside it.
needs_java = pytest.mark.skipif(shutil.which('java') is None, reason='no Java here')


@pytest.fixture(scope='module')
def pipeline(model: str) -> Pipeline:
    return Pipeline.load(PipelineConfig(model=model, max_new_tokens=16))


@pytest.fixture(scope='module')
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lingoqa(tmp_path_factory.mktemp('lingoqa'))


@pytest.fixture(scope='module')
def risks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drama(tmp_path_factory.mktemp('drama'))


# Text metrics

def value(name: str, answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    found = text_scores(answers, references, [name]).values[name]
    assert found is not None
    return found


@pytest.mark.parametrize('java', [pytest.param(True, marks=[pytest.mark.slow, needs_java]), False])
def test_bleu_by_hand(monkeypatch: pytest.MonkeyPatch, java: bool) -> None:
    if not java:
        monkeypatch.setattr(text_metrics.shutil, 'which', lambda name: None)
    # 6/7 words, 5/6 pairs, 4/5 triples and 3/4 quadruples are right; long enough.
    assert value('bleu4', ['The cat sat on the mat today.'], [['the cat sat on the mat']]) \
        == pytest.approx((3 / 7) ** 0.25, abs=1e-4)
    # All is right, but 4 words stand for 5: the nearer of the references counts.
    assert value('bleu4', ['a red car stops'], [['A red car stops now!', 'x ' * 9]]) \
        == pytest.approx(math.exp(1 - 5 / 4), abs=1e-4)
    assert value('bleu4', ['nothing of it'], [['a red car stops']]) == pytest.approx(0, abs=1e-4)


def slow_cider(answers: list[str], references: list[list[str]]) -> float:
    """Return CIDEr-D by its formula (Vedantam et al., 2015), for words with spaces."""
    def grams(text: str, n: int) -> Counter[tuple[str, ...]]:
        words = text.split()
        return Counter(tuple(words[i:i + n]) for i in range(len(words) - n + 1))

    scores = []
    for answer, texts in zip(answers, references):
        parts = []
        for text in texts:
            for n in range(1, 5):
                frequency = Counter(
                    gram for group in references
                    for gram in {gram for reference in group for gram in grams(reference, n)})

                def weigh(text: str, n: int = n,
                          frequency: Counter[tuple[str, ...]] = frequency
                          ) -> dict[tuple[str, ...], float]:
                    return {gram: count * math.log(len(references) / max(1, frequency[gram]))
                            for gram, count in grams(text, n).items()}

                said, wanted = weigh(answer), weigh(text)
                dot = sum(min(weight, wanted[gram]) * wanted[gram]
                          for gram, weight in said.items() if gram in wanted)
                norm = math.prod(math.sqrt(sum(weight ** 2 for weight in weights.values()))
                                 for weights in (said, wanted))
                apart = len(answer.split()) - len(text.split())
                # The package takes the number of pairs of words as the length: one less each.
                parts.append((dot / norm if norm else 0.0) * math.exp(-apart ** 2 / 72))
        scores.append(10 * sum(parts) / len(parts))
    return sum(scores) / len(scores)


def test_cider_by_its_formula() -> None:
    references = [['a red car brakes hard ahead', 'the car ahead brakes'],
                  ['a child runs on the road'], ['the road is free']]
    answers = ['a car brakes ahead of us', 'a child runs on the road', 'a bus']
    assert value('cider', answers, references) == pytest.approx(
        slow_cider(answers, references), abs=1e-3)
    same = ['one two three four', 'five six seven eight']
    assert value('cider', same, [[text] for text in same]) == pytest.approx(10.0)


@pytest.mark.slow
@needs_java
def test_meteor_by_hand() -> None:
    # One of two content words on each side: precision, recall and their mean are 1/2; the words
    # that match are one chunk, which is as many chunks as matches: a penalty of 0.6.
    assert value('meteor', ['dog tree'], [['dog house']]) == pytest.approx(0.5 * (1 - 0.6))


@pytest.mark.slow
@needs_java
def test_tokens_are_those_of_the_penn_treebank() -> None:
    texts = ["The car isn't\nred; it's 3.5 m away!", '', 'a | b ||| Ünder', '']
    assert text_metrics._ptb(texts) == [
        "the car is n't red it 's 3.5 m away", '', 'a b ünder', '']


def test_what_cannot_be_computed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_metrics.shutil, 'which', lambda name: None)
    found = text_scores(['a car'], [['a car']])
    assert found.tokenizer == 'plain'
    assert found.values['meteor'] is found.values['spice'] is None
    assert found.missing == dict.fromkeys(('meteor', 'spice'), 'there is no Java on this machine')
    monkeypatch.setattr(text_metrics, 'find_spec', lambda name: None)
    found = text_scores(['a car'], [['a car']])
    assert set(found.values.values()) == {None}
    assert 'vts_ros[eval]' in found.missing['bleu4']


@pytest.mark.parametrize(('answers', 'references'), [
    ([], []), (['a'], []), (['a'], [[]])])
def test_answers_need_references(answers: list[str], references: list[list[str]]) -> None:
    with pytest.raises(ValueError, match='needs at least one reference'):
        text_scores(answers, references)


# Lingo-Judge

def classifier(words: int, outputs: int) -> BertForSequenceClassification:
    config = BertConfig(vocab_size=words, hidden_size=16, num_hidden_layers=1,
                        num_attention_heads=2, intermediate_size=32, initializer_range=2.0)
    config.num_labels = outputs
    return BertForSequenceClassification(config)


@pytest.fixture(scope='module')
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a classifier of the form of Lingo-Judge that has learned nothing."""
    folder = tmp_path_factory.mktemp('judge')
    known = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', 'question', 'answer', 'student', ':', 'yes',
             'no', 'a', 'car', 'is', 'it', 'what')
    words = {word: index for index, word in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(words, '[UNK]'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token='[PAD]', unk_token='[UNK]', cls_token='[CLS]',
        sep_token='[SEP]').save_pretrained(folder)
    torch.manual_seed(1)
    classifier(len(words), 1).save_pretrained(folder)
    return folder


def test_the_judge_reads_what_the_benchmark_writes(judge_folder: Path) -> None:
    judge = LingoJudge.load(judge_folder)
    text = '[CLS]\nQuestion: What IS it\nAnswer: a car\nStudent: yes'
    inputs = judge._tokenizer(text, return_tensors='pt')
    with torch.inference_mode():
        expected = judge._model(**inputs).logits.item()
    assert judge.logits('What IS it', [' A Car '], 'YES ') == pytest.approx([expected], abs=1e-5)


def test_the_best_reference_decides(judge_folder: Path) -> None:
    judge = LingoJudge.load(judge_folder)
    texts = ['yes', 'no', 'a car', 'what is it', 'it is a car']
    logits = {text: judge.logits('What?', [text], 'yes')[0] for text in texts}
    good = max(logits, key=lambda text: logits[text])
    bad = min(logits, key=lambda text: logits[text])
    assert logits[good] > 0.0 > logits[bad]
    assert judge.is_right('What?', [bad, good], 'yes')
    assert judge.accuracy(['What?'] * 2, [[bad], [bad, good]], ['yes'] * 2) == 0.5


def test_long_texts_are_cut_as_the_benchmark_cuts_them(judge_folder: Path) -> None:
    judge = LingoJudge.load(judge_folder)
    reference = ' '.join(['car'] * 200)
    assert judge.logits('What?', [reference], 'yes') == judge.logits('What?', [reference], 'no')


def test_other_classifiers_are_no_judge(tmp_path: Path, judge_folder: Path) -> None:
    with pytest.raises(VlmError, match='cannot be loaded'):
        LingoJudge.load(tmp_path)
    shutil.copytree(judge_folder, tmp_path / 'two')
    classifier(15, 2).save_pretrained(tmp_path / 'two')
    with pytest.raises(VlmError, match='has 2 outputs'):
        LingoJudge.load(tmp_path / 'two')


# LingoQA

def test_questions_are_grouped_and_bad_rows_named(questions: Path) -> None:
    rows, bad = lingoqa_module.load(questions)
    assert [(row.question_id, row.answers) for row in rows] == [
        ('q0I', ('Yes, it is.', 'Yes.')), ('q0W', ('A red car.', 'A car is ahead.')),
        ('q1I', ('Yes, it is.', 'Yes.')), ('q1W', ('A red car.', 'A car is ahead.')),
        ('qe', ('Now.',))]
    assert rows[0].extra == {'weather': 'rain'}
    assert len(rows[0].images) == 5
    assert [tuple(row) for row in bad] == [
        ('row 8 (qa)', 'no answer'), ('row 9 (qb)', 'no question'),
        ('row 10 (qc)', 'no list of images'), ('row 11 (qd)', 'no picture images/val/bad/9.jpg')]


def test_pictures_are_a_second_apart(questions: Path) -> None:
    window = lingoqa_module.load(questions).rows[0].window()
    assert [frame.stamp_ns for frame in window] == [index * 10 ** 9 for index in range(5)]
    assert window[0].rgb().shape == (96, 160, 3)


@pytest.mark.slow
def test_lingoqa_from_the_command_line(
        questions: Path, judge_folder: Path, tmp_path: Path) -> None:
    # One that answers any question: the shipped model refuses those that it was not taught
    # before it opens a picture.
    model = tmp_path / 'model'
    create_checkpoint(model, ['a car ahead', 'brake'], vocab_size=600)
    done = CliRunner().invoke(app, [
        'eval', 'lingoqa', '--data', str(questions), '--vlm', str(model), '--budgets', '0.6,0.3',
        '--judge', str(judge_folder), '--out', str(tmp_path), '--max-new-tokens', '8', '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output.splitlines()[-1])
    assert result['n'] == 4
    assert result['bad']['count'] == 5
    assert 'question qe of segment cut' in {row['row'] for row in result['bad']['rows']}
    assert list(result['vts']) == ['0.6', '0.3']
    for metrics in (result['dense'], *result['vts'].values()):
        assert set(metrics) == {'lingo_judge', 'bleu4', 'meteor', 'cider', 'spice',
                                'answers_per_sec', 'peak_memory_mib'}
        assert metrics['answers_per_sec'] > 0.0
        assert metrics['peak_memory_mib'] > 100.0
    assert result['missing']['spice']
    written = (tmp_path / 'predictions_0.6.csv').read_text().splitlines()
    assert written[0] == 'question_id,segment_id,answer'
    judge = LingoJudge.load(judge_folder)
    known = {row.question_id: row for row in lingoqa_module.load(questions).rows}
    for budget, metrics in (('1', result['dense']), *result['vts'].items()):
        with (tmp_path / f'predictions_{budget}.csv').open(newline='') as file:
            said = {row['question_id']: row['answer'] for row in csv.DictReader(file)}
        right = [judge.is_right(known[name].question, known[name].answers, answer)
                 for name, answer in said.items()]
        assert metrics['lingo_judge'] == sum(right) / 4
    assert len(written) == 5
    first = json.loads((tmp_path / 'answers_1.jsonl').read_text().splitlines()[0])
    assert first['weather'] == 'rain'


def test_perfect_answers_score_full_marks(pipeline: Pipeline, questions: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {row.question: row.answers[0] for row in lingoqa_module.load(questions).rows}
    monkeypatch.setattr(pipeline, 'ask', lambda window, question: wanted[question])
    monkeypatch.setattr(pipeline, 'clear', lambda: None)
    result = lingoqa_module.evaluate(pipeline, questions, (0.5,), limit=4)
    assert result['dense']['cider'] > 4.0
    assert result['dense']['bleu4'] == pytest.approx(
        value('bleu4', ['Yes, it is.', 'A red car.'] * 2,
              [['Yes, it is.', 'Yes.'], ['A red car.', 'A car is ahead.']] * 2))
    assert result['dense']['lingo_judge'] is None
    assert 'Lingo-Judge' in result['missing']['lingo_judge']


def test_data_without_a_table_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'holds no evaluation/val\.parquet'):
        lingoqa_module.load(tmp_path)
    (tmp_path / 'val.parquet').write_bytes(b'PAR1 not really')
    with pytest.raises(DatasetError, match='cannot be read'):
        lingoqa_module.load(tmp_path)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    parquet.write_table(table({'question_id': ['a'], 'answer': ['b']}), tmp_path / 'val.parquet')
    with pytest.raises(DatasetError, match='lacks columns: images, question, segment_id'):
        lingoqa_module.load(tmp_path)


# DRAMA

def test_samples_of_drama(risks: Path) -> None:
    samples, bad = drama_module.load(risks)
    assert [sample.id for sample in samples] == [
        'clip_0_000017', 'clip_1_000018', 'clip_2_000019', 'clip_3_000020', 'clip_calm_000003']
    first, calm = samples[0], samples[-1]
    assert first.box == (64 / 160, 24 / 96, 128 / 160, 72 / 96)
    assert first.extra == {'Weather': 'sunny'}
    assert (first.suggestion, first.intention) == ('Slow down', 'Going straight')
    assert [sample.clip is not None for sample in samples] == [True, False, True, False, False]
    assert (calm.risk, calm.caption, calm.box) == (False, '', None)
    assert [tuple(row) for row in bad] == [
        ('row 5 (?)', 'not an object'), ('row 6 ()', 'no s3_fileUrl'),
        ('row 7 (frame_1.png)', 'no picture'),
        ('row 8 (frame_000003.png)', 'geometry is no list of corners'),
        ('row 9 (frame_000004.png)', 'geometry is a box without an area'),
        ('row 10 (frame_000017.png)', 'a second row of clip_0_000017')]


@pytest.mark.parametrize('corners', [
    CORNERS, [[128, 72], [64, 72], [64, 24]], [{'x': 64, 'y': 24}, None, {'x': 128, 'y': 72}]])
def test_corners_in_any_order_and_form(risks: Path, corners: list[object]) -> None:
    picture = drama_module.load(risks).rows[0].picture
    assert drama_module._box(corners, picture) == (0.4, 0.25, 0.8, 0.75)


def test_boxes_are_clipped_to_the_picture(risks: Path) -> None:
    picture = drama_module.load(risks).rows[0].picture
    assert drama_module._box([[-9, 48], [], [400, '96.0']], picture) == (0.0, 0.5, 1.0, 1.0)


def test_the_annotated_picture_is_the_newest(risks: Path) -> None:
    with_clip, without = drama_module.load(risks).rows[:2]
    window = with_clip.window()
    assert [frame.stamp_ns for frame in window] == [index * 500_000_000 for index in range(5)]
    assert window[-1].data == with_clip.picture.read_bytes()
    assert len({frame.rgb().tobytes() for frame in window}) == 5
    assert len(without.window()) == len(with_clip.window(clips=False)) == 1


def test_splits_are_made_of_complete_rows_in_order(risks: Path) -> None:
    samples = drama_module.load(risks).rows
    parts = [[sample.id for sample in drama_module.choose(samples, split)]
             for split in SPLITS]
    assert [len(part) for part in parts] == [3, 0, 1, 4]
    assert parts[0] + parts[1] + parts[2] == parts[3]
    wanted = ['clip_calm_000003', 'clip_0_000017']
    assert [sample.id for sample in drama_module.choose(samples, ids=wanted)] == wanted[::-1]
    with pytest.raises(DatasetError, match='1 ids are not in the data, among them no_1'):
        drama_module.choose(samples, ids=['no_1'])


def test_risks_and_boxes_are_scored(risks: Path) -> None:
    samples = drama_module.load(risks).rows
    half = (0.4, 0.25, 0.6, 0.75)
    answers = [Answer(risk='high', box=samples[0].box), Answer(risk='low', box=half),
               Answer(risk='none'), Answer(risk='unknown'), Answer(risk='none')]
    found = drama_module.risk_and_box(list(zip(samples, answers)))
    assert found == {'risk_accuracy': 0.6, 'box_miou': round((1 + 0.5) / 4, 4), 'no_box': 2.0}


@pytest.mark.slow
def test_drama_from_the_command_line(model: str, risks: Path, tmp_path: Path) -> None:
    ids = tmp_path / 'ids.txt'
    ids.write_text('clip_0_000017\nclip_1_000018\nclip_calm_000003\n')
    done = CliRunner().invoke(app, [
        'eval', 'drama', '--data', str(risks), '--vlm', model, '--budgets', '0.5',
        '--ids', str(ids), '--out', str(tmp_path), '--json'])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output.splitlines()[-1])
    assert (result['n'], result['captions'], result['boxes'], result['clips']) == (3, 2, 2, 1)
    assert result['split'] == 'ids'
    assert result['ids_sha256'] == fingerprint(ids.read_text().split())
    assert result['bad']['count'] == 6
    for metrics in (result['dense'], result['vts']['0.5']):
        assert set(metrics) == {
            'risk_accuracy', 'box_miou', 'no_box', 'bleu4', 'meteor', 'cider', 'spice',
            'answers_per_sec', 'peak_memory_mib'}
    assert json.loads((tmp_path / 'answers_0.5.jsonl').read_text().splitlines()[0])[
        'Weather'] == 'sunny'


def test_broken_annotations_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='cannot be read'):
        drama_module.load(tmp_path)
    path = tmp_path / drama_module.ANNOTATIONS
    for text, message in (('{', 'is not JSON'), ('{}', 'is not a list')):
        path.write_text(text)
        with pytest.raises(DatasetError, match=message):
            drama_module.load(tmp_path)
    path.write_text('[]')
    result = CliRunner().invoke(app, ['eval', 'drama', '--data', str(tmp_path)])
    assert isinstance(result.exception, DatasetError)


# What both have in common

def test_a_bad_picture_is_left_out_at_every_budget(pipeline: Pipeline) -> None:
    def answer(row: int) -> float:
        if row == 1:
            raise OSError('gone')
        return pipeline.config.keep_ratio

    before = pipeline.config.keep_ratio
    runs = benchmark.run_budgets(pipeline, [0, 1, 2], str, answer, (0.3, 1.0))
    assert runs.rows == (0, 2)
    assert {ratio: run.said for ratio, run in runs.by_ratio.items()} == {
        0.3: (0.3, 0.3), 1.0: (1.0, 1.0)}
    assert [tuple(row) for row in runs.bad] == [('1', 'gone')]
    assert pipeline.config.keep_ratio == before
    with pytest.raises(DatasetError, match='no row can be answered: 1: gone'):
        benchmark.run_budgets(pipeline, [1], str, answer, (0.3,))


def test_peak_memory_counts_from_the_reset() -> None:
    memory = PeakMemory(torch.device('cpu'))
    grown, gone = 0.0, 0.0
    # Meanwhile the system may take pages that nobody has used for long: then once more.
    for _ in range(5):
        memory.reset()
        before = memory.mebibytes()
        if before is None:
            pytest.skip('this system does not tell the peak memory')
        # Pages of their own: an array could come out of what earlier tests left in the heap.
        with mmap.mmap(-1, 64 << 20) as block:
            for page in range(0, len(block), mmap.PAGESIZE):
                block[page] = 1
            after = memory.mebibytes()
        memory.reset()
        again = memory.mebibytes()
        assert after is not None
        assert again is not None
        grown, gone = after - before, after - again
        if grown > 60 and gone > 40:
            break
    assert grown > 60
    assert gone > 40


def test_fingerprints_tell_selections_apart() -> None:
    assert fingerprint(['a', 'b']) == fingerprint(iter(['a', 'b']))
    assert len({fingerprint(ids) for ids in (['a', 'b'], ['b', 'a'], ['ab'], [])}) == 4
