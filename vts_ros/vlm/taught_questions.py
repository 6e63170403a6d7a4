# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The questions that a small model was taught: to all others it would write noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import difflib
from pathlib import Path
import re
from typing import Any

#: Beside the weights of a checkpoint, a question per line. Large models have none.
FILE = 'taught_questions.txt'
#: How like a taught question must be, to be named where another was asked; 0 to 1.
_LIKE = 0.4
_SIGNS = re.compile(r'[^\w\s]')


def is_trained_here(checkpoint: Path, config: Mapping[str, Any]) -> bool:
    """
    Return whether a checkpoint was trained here, and is asked as it was then.

    A folder that was copied without its questions is still told by its network: that is a Qwen3-VL
    that reads frames one by one, and all that others publish read two at a time.

    Parameters
    ----------
    checkpoint
        Its folder.
    config
        What config.json says.

    """
    vision = config.get('vision_config')
    is_ours = config.get('model_type') == 'qwen3_vl' and isinstance(vision, Mapping) \
        and vision.get('temporal_patch_size') == 1
    return is_ours or (checkpoint / FILE).is_file()


class TaughtQuestions:
    """
    The questions of a training, whatever their case, blanks and punctuation.

    Parameters
    ----------
    questions
        As they were asked in training, one or more; the first is the example of last resort.

    """

    def __init__(self, questions: Iterable[str]) -> None:
        self._questions = {_plain(question): question for question in questions}
        if not self._questions:
            raise ValueError('no questions')

    @classmethod
    def load(cls, checkpoint: Path) -> TaughtQuestions | None:
        """Read the file of a checkpoint; None if it has none, and may be asked anything."""
        path = checkpoint / FILE
        if not path.is_file():
            return None
        return cls(filter(None, path.read_text(encoding='utf-8').splitlines()))

    def save(self, checkpoint: Path) -> None:
        """Write the file beside the weights of a checkpoint."""
        text = ''.join(f'{question}\n' for question in self._questions.values())
        (checkpoint / FILE).write_text(text, encoding='utf-8')

    def holds(self, question: str) -> bool:
        """Return whether a question was taught."""
        return _plain(question) in self._questions

    def refusal(self, question: str) -> str:
        """Return what is said to a question that was not taught, with the nearest that was."""
        near = difflib.get_close_matches(_plain(question), self._questions, 1, _LIKE)
        example = self._questions[near[0]] if near else next(iter(self._questions.values()))
        return ('This model was not taught to answer that. It knows questions such as: '
                f'{example}')


def _plain(question: str) -> str:
    return ' '.join(_SIGNS.sub(' ', question.casefold()).split())
