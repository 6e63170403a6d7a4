# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Lingo-Judge, the classifier by which LingoQA is scored; the user brings its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from vts_ros.errors import VlmError

#: As the benchmark cuts its texts; longer ones give other scores.
_MAX_TOKENS = 128
_BATCH = 32


class LingoJudge:
    """
    Judge answers as LingoQA does (Marcu et al., 2024, arXiv 2312.14115).

    Answer and reference are compared in lower case; an answer is right if the classifier says so
    for any of its references.

    Parameters
    ----------
    model
        Sequence classifier with one output.
    tokenizer
        Its tokenizer.

    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, model: str | Path, device: str = 'cpu') -> LingoJudge:
        """
        Load a checkpoint: a directory, or a hub id that is in the local cache.

        Raises
        ------
        VlmError
            If it cannot be loaded or is no classifier of this form.

        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
            network: Any = AutoModelForSequenceClassification.from_pretrained(
                model, local_files_only=True, use_safetensors=None)
        except (OSError, ValueError) as error:
            reason = ' '.join(str(error).split())[:200]
            raise VlmError(f'judge {model} cannot be loaded: {reason}') from error
        if network.config.num_labels != 1:
            raise VlmError(f'judge {model} has {network.config.num_labels} outputs, '
                           'Lingo-Judge has one')
        return cls(network.to(device).eval(), tokenizer)

    def logits(self, question: str, references: Sequence[str], answer: str) -> list[float]:
        """Return how well the answer agrees with each reference; right above 0."""
        texts = [self._text(question, reference, answer) for reference in references]
        return [value for start in range(0, len(texts), _BATCH)
                for value in self._run(texts[start:start + _BATCH])]

    def is_right(self, question: str, references: Sequence[str], answer: str) -> bool:
        """Return whether the answer agrees with any of the references."""
        return max(self.logits(question, references, answer)) > 0.0

    def accuracy(self, questions: Sequence[str], references: Sequence[Sequence[str]],
                 answers: Sequence[str],
                 progress: Callable[[int], None] = lambda answers: None) -> float:
        """Return the share of answers that are right."""
        right = 0
        for question, texts, answer in zip(questions, references, answers, strict=True):
            right += self.is_right(question, texts, answer)
            progress(1)
        return right / len(answers)

    def _text(self, question: str, reference: str, answer: str) -> str:
        return (f'{self._tokenizer.cls_token}\nQuestion: {question}\n'
                f'Answer: {reference.strip().lower()}\nStudent: {answer.strip().lower()}')

    @torch.inference_mode()
    def _run(self, texts: list[str]) -> list[float]:
        inputs = self._tokenizer(texts, return_tensors='pt', truncation=True, padding=True,
                                 max_length=_MAX_TOKENS).to(self._model.device)
        found: list[float] = self._model(**inputs).logits[:, 0].tolist()
        return found
