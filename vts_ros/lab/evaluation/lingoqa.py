# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Questions about driving scenes: the evaluation set of LingoQA (Marcu et al., 2024).

The user brings the data, whose licence forbids more than evaluation: nothing that is trained on
it may drive a vehicle or robot, and nothing that ships with this package was.
"""

from __future__ import annotations

from collections.abc import Sequence
import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vts_ros.lab.evaluation.dataset_runner import (
    bad_rows,
    BadRow,
    by_budget,
    DatasetError,
    fingerprint,
    Loaded,
    Progress,
    Run,
    run_budgets,
    TextTally,
    write_answers,
)
from vts_ros.lab.evaluation.lingo_judge import LingoJudge
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline

#: Where the table may lie below the folder of the data.
_TABLES = ('evaluation/val.parquet', 'val.parquet')
_TEXTS = ('question_id', 'segment_id', 'question', 'answer')
_COLUMNS = frozenset({*_TEXTS, 'images'})
#: Pictures are a second apart.
_STEP_NS = 1_000_000_000
#: Questions of the published set; another number is no result for LingoQA.
PUBLISHED_QUESTIONS = 500


@dataclass(frozen=True)
class Question:
    """
    One question about one segment.

    Attributes
    ----------
    images
        Files, oldest first.
    answers
        The references, one or more.
    extra
        Columns that are not known here, of the first row.

    """

    question_id: str
    segment_id: str
    question: str
    images: tuple[Path, ...]
    answers: tuple[str, ...]
    extra: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """Return how the question is called in messages."""
        return f'question {self.question_id} of segment {self.segment_id}'

    def window(self) -> list[Frame]:
        """Return the pictures as a window; raise OSError where one cannot be read."""
        return [Frame('front', index * _STEP_NS, path.read_bytes())
                for index, path in enumerate(self.images)]


def load(data: Path) -> Loaded[Question]:
    """
    Read the evaluation set; rows of the same question become one with several references.

    Raises
    ------
    DatasetError
        If there is no table, or columns are missing.

    """
    table = next((data / name for name in _TABLES if (data / name).is_file()), None)
    if table is None:
        raise DatasetError(f'{data} holds no {_TABLES[0]}: see https://github.com/wayveai/LingoQA')
    found: dict[tuple[str, str, str], Question] = {}
    bad: list[BadRow] = []
    for number, row in enumerate(_rows(table)):
        try:
            question = _question(row, (table.parent, data))
        except DatasetError as error:
            bad.append(BadRow(f'row {number} ({row.get("question_id")})', str(error)))
            continue
        key = question.question_id, question.segment_id, question.question
        first = found.setdefault(key, question)
        if first is not question:
            found[key] = Question(*key[:2], first.question, first.images,
                                  first.answers + question.answers, first.extra)
    return Loaded(tuple(found.values()), tuple(bad))


def _rows(table: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DatasetError("LingoQA is in Parquet files: pip install 'vts_ros[eval]'") from error
    try:
        read = parquet.read_table(table)
    except (OSError, pyarrow.ArrowException) as error:
        reason = ' '.join(str(error).split())[:200]
        raise DatasetError(f'{table} cannot be read: {reason}') from error
    missing = sorted(_COLUMNS - set(read.column_names))
    if missing:
        raise DatasetError(f'{table} lacks columns: {", ".join(missing)}')
    rows: list[dict[str, Any]] = read.to_pylist()
    return rows


def _question(row: dict[str, Any], folders: Sequence[Path]) -> Question:
    """Return a row; raise DatasetError with the reason if it is of no use."""
    texts = {}
    for name in _TEXTS:
        value = row[name]
        if not isinstance(value, str) or not value.strip():
            raise DatasetError(f'no {name}')
        texts[name] = value.strip()
    images = row['images']
    if not isinstance(images, list) or not images or not all(
            isinstance(image, str) and image for image in images):
        raise DatasetError('no list of images')
    return Question(
        texts['question_id'], texts['segment_id'], texts['question'],
        tuple(_picture(image, folders) for image in images), (texts['answer'],),
        {name: value for name, value in row.items() if name not in _COLUMNS})


def _picture(image: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (folder / image).is_file():
            return folder / image
    raise DatasetError(f'no picture {image}')


def evaluate(pipeline: Pipeline, data: Path, budgets: Sequence[float] = (0.6, 0.4),
             judge: LingoJudge | None = None, limit: int | None = None,
             out: Path | None = None,
             progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Answer the questions with all visual tokens and at every budget, and score the answers.

    Parameters
    ----------
    judge
        Without, there is no accuracy.
    limit
        Questions to take, the first ones; by default all.
    out
        Folder for the answers: per budget a ``predictions_*.csv`` as the benchmark's own scorer
        takes, and ``answers_*.jsonl`` with everything that is known about a row.

    Returns
    -------
    ``{'dataset', 'n', 'questions_sha256', 'bad', 'model', 'tokenizer', 'missing', 'dense':
    metrics, 'vts': {budget: metrics}}``.

    Raises
    ------
    DatasetError
        If nothing can be evaluated.

    """
    loaded = load(data)
    questions = loaded.rows[:limit]
    if not questions:
        raise DatasetError(f'{data} holds no row that can be used')
    runs = run_budgets(pipeline, questions, lambda question: question.name,
                       lambda question: pipeline.ask(question.window(), question.question),
                       budgets, progress)
    texts = TextTally({} if judge else {
        'lingo_judge': 'no checkpoint of Lingo-Judge was given'})

    def score(run: Run[str]) -> dict[str, float | None]:
        references = [question.answers for question in runs.rows]
        accuracy = None if judge is None else round(judge.accuracy(
            [question.question for question in runs.rows], references, run.said), 4)
        return {'lingo_judge': accuracy, **texts.score(run.said, references)}

    if out is not None:
        for ratio, run in runs.by_ratio.items():
            _write(out, f'{ratio:g}', runs.rows, run.said)
    return {
        'dataset': 'LingoQA', 'n': len(runs.rows),
        'questions_sha256': fingerprint(
            f'{question.question_id} {question.segment_id}' for question in runs.rows),
        'bad': bad_rows(loaded.bad, runs.bad), 'model': pipeline.vlm.name,
        **by_budget(runs, score),
        'tokenizer': texts.tokenizer, 'missing': texts.missing}


def _write(out: Path, budget: str, questions: Sequence[Question], answers: Sequence[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with (out / f'predictions_{budget}.csv').open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['question_id', 'segment_id', 'answer'])
        writer.writerows([question.question_id, question.segment_id, answer]
                         for question, answer in zip(questions, answers))
    write_answers(out / f'answers_{budget}.jsonl', (
        {**question.extra, 'question_id': question.question_id,
         'segment_id': question.segment_id, 'question': question.question,
         'references': question.answers, 'answer': answer}
        for question, answer in zip(questions, answers)))
