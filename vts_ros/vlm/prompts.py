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


def _age_text(age_sec: float) -> str:
    """Return how long before the newest frame, to a tenth of a second: ``-0.4`` or ``0.0``."""
    return f'{-age_sec:.1f}'.replace('-0.0', '0.0')


@lru_cache(maxsize=8)
def _read(path: Path) -> dict[str, Any]:
    try:
        languages = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = ' '.join(str(error).split())
        raise PromptError(f'prompt file {path} cannot be read: {reason}') from error
    if not isinstance(languages, dict):
        raise PromptError(f'prompt file {path} is not a mapping of languages')
    return languages


def _prompt(task: str, language: str, path: Path | None) -> Prompt:
    path = path or share_path(_FILE)
    languages = _read(path)
    if language not in languages:
        known = ', '.join(map(str, languages))
        raise PromptError(f'no prompt in language {language!r} in {path}; there are: {known}')
    texts = languages[language]
    try:
        prompt = Prompt(system=texts['system'].strip(), instruction=texts[task].strip(),
                        caption=texts['caption'], caption_cameras=texts['caption_cameras'],
                        box_scale=float(texts['box_scale']))
        for template in (prompt.caption, prompt.caption_cameras):
            template.format(camera='', age='')
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PromptError(f'prompt {language!r} in {path} lacks or garbles {error}') from error
    return prompt


def describe_prompt(language: str = 'en', path: Path | None = None) -> Prompt:
    """
    Return the prompt that asks for a scene description with its risk.

    Parameters
    ----------
    language
        Key of the prompt file.
    path
        Prompt file; the one of the package if not given.

    Raises
    ------
    PromptError
        If the file, the language or a key is missing or of no use.

    """
    return _prompt('description', language, path)


def question_prompt(question: str, language: str = 'en', path: Path | None = None) -> Prompt:
    """Return the prompt that puts a free question about the window; see describe_prompt."""
    prompt = _prompt('question', language, path)
    text = prompt.instruction.replace('{question}', ' '.join(question.split()))
    return replace(prompt, instruction=text)
