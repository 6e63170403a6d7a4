# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the language model is asked: the wording is data, in ``config/prompts.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from vts_ros.frames import Frame
from vts_ros.models import share_path

_FILE = 'config/prompts.yaml'


class PromptError(ValueError):
    """A prompt file that cannot be used; the message says why in one line."""


@dataclass(frozen=True)
class Prompt:
    """
    A request to the model about a window of pictures.

    Attributes
    ----------
    system
        Who the model is.
    instruction
        What is asked, placed after the pictures.
    caption
        Text before each picture, with ``{age}`` in seconds.
    caption_cameras
        The same with ``{camera}``, used where there are several cameras.
    box_scale
        Full width and height of a picture in the unit in which boxes are asked for.

    """

    system: str
    instruction: str
    caption: str = '{age}s'
    caption_cameras: str = '{camera} {age}s'
    box_scale: float = 1.0

    def captions(self, frames: Sequence[Frame]) -> list[str]:
        """Return the text before each picture; ages count from the newest frame."""
        newest_ns = max(frame.stamp_ns for frame in frames)
        several = len({frame.camera for frame in frames}) > 1
        template = self.caption_cameras if several else self.caption
        return [template.format(camera=frame.camera,
                                age=_age_text((newest_ns - frame.stamp_ns) * 1e-9))
                for frame in frames]


@dataclass(frozen=True)
class Prompts:
    """
    What is asked in one language.

    Attributes
    ----------
    description
        Asks for a scene description with its risk.
    question
        Puts a free question about the window in the place of ``{question}``.

    """

    description: Prompt
    question: Prompt

    @classmethod
    def load(cls, language: str = 'en', path: str | Path | None = None) -> Prompts:
        """
        Read the prompts of a language.

        Parameters
        ----------
        language
            Key of the prompt file.
        path
            Prompt file; the one of the package if not given or empty.

        Raises
        ------
        PromptError
            If the file, the language or a key is missing or of no use.

        """
        path = Path(path).expanduser() if path else share_path(_FILE)
        languages = _read(path)
        if language not in languages:
            known = ', '.join(map(str, languages))
            raise PromptError(f'no prompt in language {language!r} in {path}; there are: {known}')
        texts = languages[language]
        try:
            if '{question}' not in texts['question']:
                raise ValueError("'question', which has no {question}")
            return cls(_prompt('description', texts), _prompt('question', texts))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise PromptError(f'prompt {language!r} in {path} lacks or garbles {error}') from error

    def ask(self, question: str) -> Prompt:
        """Return the prompt that puts this question, in one line."""
        text = self.question.instruction.replace('{question}', ' '.join(question.split()))
        return replace(self.question, instruction=text)


def _age_text(age_sec: float) -> str:
    """Return how long before the newest frame, to a tenth of a second: ``-0.4`` or ``0.0``."""
    return f'{-age_sec:.1f}'.replace('-0.0', '0.0')


def _read(path: Path) -> dict[str, Any]:
    try:
        languages = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = ' '.join(str(error).split())
        raise PromptError(f'prompt file {path} cannot be read: {reason}') from error
    if not isinstance(languages, dict):
        raise PromptError(f'prompt file {path} is not a mapping of languages')
    return languages


def _prompt(task: str, texts: dict[str, Any]) -> Prompt:
    prompt = Prompt(system=texts['system'].strip(), instruction=texts[task].strip(),
                    caption=texts['caption'], caption_cameras=texts['caption_cameras'],
                    box_scale=float(texts['box_scale']))
    for template in (prompt.caption, prompt.caption_cameras):
        template.format(camera='', age='')
    return prompt


#: Training asks for one of these per dialogue.
_packaged = lru_cache(Prompts.load)


def describe_prompt(language: str = 'en') -> Prompt:
    """Return the shipped prompt that asks for a scene description; see Prompts.load."""
    return _packaged(language).description


def question_prompt(question: str, language: str = 'en') -> Prompt:
    """Return the shipped prompt that puts a free question about the window; see Prompts.load."""
    return _packaged(language).ask(question)
