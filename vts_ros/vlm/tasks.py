# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What the cameras are watched for, as a folder: prompts, answer form, risk words and colours.

Nothing else of the package knows of roads or of any other place. See docs/tasks.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
import json
from pathlib import Path
from typing import Any

import yaml

from vts_ros.errors import TaskError
from vts_ros.paths import share_path
from vts_ros.vlm.answers import AnswerForm, RISK_LEVELS, RiskLevel

DRIVING = 'driving'
#: Where the shipped ones are, below the share folder of the package.
FOLDER = 'config/tasks'
PROMPTS, FORM, RISK, PROPOSAL = 'prompts.yaml', 'answer.json', 'risk.yaml', 'proposal/frame.onnx'
#: Texts of an answer; a task may say of each what it may be.
TEXTS = ('label', 'explanation', 'action', 'description')

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Task:
    """
    A task.

    Attributes
    ----------
    name
        Of its folder.
    prompts
        Its prompt file.
    form
        What an answer may be.
    colours
        Red, green and blue of each level of risk.
    proposal
        Its own proposal network; None takes the shipped one.

    """

    name: str
    prompts: Path
    form: AnswerForm = field(hash=False)
    colours: Mapping[RiskLevel, Colour] = field(hash=False)
    proposal: Path | None = None

    @property
    def is_driving(self) -> bool:
        """Return whether it is the one that the embedded model was trained for and measured in."""
        return self.prompts == load_task().prompts


def load_task(task: str = DRIVING) -> Task:
    """
    Read the folder of a task.

    Parameters
    ----------
    task
        Name of a shipped one, or path of a folder of one's own; one without a separator is taken
        for a shipped one first.

    Raises
    ------
    TaskError
        If it is not there, or a file of it is of no use: which one, what is wrong with it.

    """
    return _load(_folder(task))


def prompt_file(task: str, prompts: str = '') -> str:
    """Return the prompt file of one's own, or that of a task; raises as :func:`load_task`."""
    return prompts or str(load_task(task).prompts)


def _folder(task: str) -> Path:
    given = Path(task).expanduser()
    try:
        shipped = share_path(FOLDER)
    except FileNotFoundError as error:
        raise TaskError(f'the tasks of the package are missing: {error}') from error
    if len(given.parts) == 1 and (shipped / given).is_dir():
        return shipped / given
    if task and given.is_dir():
        return given.resolve()
    known = ', '.join(sorted(folder.name for folder in shipped.iterdir() if folder.is_dir()))
    raise TaskError(f'no task {task!r}: give the path of a folder (see docs/tasks.md), or one of '
                    f'{known}')


@lru_cache(maxsize=16)
def _load(folder: Path) -> Task:
    prompts, proposal = folder / PROMPTS, folder / PROPOSAL
    if not prompts.is_file():
        raise TaskError(f'{prompts} is missing: copy the one of a shipped task and change its '
                        'words')
    if proposal.parent.exists() and not proposal.is_file():
        raise TaskError(f'{proposal} is missing: put the network there, or remove the folder')
    words, colours = _risk(folder / RISK)
    return Task(folder.name, prompts, AnswerForm(words, _texts(folder / FORM)), colours,
                proposal if proposal.is_file() else None)


def _texts(path: Path) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each text of an answer."""
    found = _read(path)
    for name in TEXTS:
        value = found.get(name)
        if not isinstance(value, dict) or not ('enum' in value or value.get('type') == 'string'):
            raise TaskError(f'{path}: {name!r} must be a JSON schema of a text, such as '
                            '{"type": "string", "maxLength": 60} or {"enum": ["person"]}')
        choices = value.get('enum', ['text'])
        if not isinstance(choices, list) or not choices or not all(
                isinstance(choice, str) and choice.strip() for choice in choices):
            raise TaskError(f'{path}: "enum" of {name!r} must be a list of texts')
        length = value.get('maxLength', 1)
        if not isinstance(length, int) or length < 1:
            raise TaskError(f'{path}: "maxLength" of {name!r} must be a whole number from 1 on')
    _refuse_others(path, found, TEXTS)
    return found


def _risk(path: Path) -> tuple[dict[RiskLevel, tuple[str, ...]], dict[RiskLevel, Colour]]:
    """Return words and colour of each level."""
    found = _read(path)
    words: dict[RiskLevel, tuple[str, ...]] = {}
    colours: dict[RiskLevel, Colour] = {}
    taken: dict[str, str] = {}
    for level in RISK_LEVELS:
        value = found.get(level)
        if not isinstance(value, dict):
            raise TaskError(f'{path}: {level!r} must have words and colour, such as '
                            f'{{words: [{level}], colour: [0, 158, 115]}}')
        _refuse_others(path, value, ('words', 'colour'), f' of {level!r}')
        said, colour = value.get('words'), value.get('colour')
        if not isinstance(said, list) or not said or not all(
                isinstance(word, str) and word.strip() for word in said):
            raise TaskError(f"{path}: 'words' of {level!r} must be a list of words; put those in "
                            'quotes that YAML takes for something else, such as "no"')
        words[level] = tuple(' '.join(word.lower().split()) for word in said)
        for word in words[level]:
            if taken.setdefault(word, level) != level:
                raise TaskError(f'{path}: the word {word!r} stands for {taken[word]!r} and for '
                                f'{level!r}: take it out of one')
        if not isinstance(colour, list) or len(colour) != 3 or not all(
                type(part) is int and 0 <= part <= 255 for part in colour):
            raise TaskError(f"{path}: 'colour' of {level!r} must be red, green and blue, whole "
                            'numbers from 0 to 255')
        colours[level] = (colour[0], colour[1], colour[2])
    _refuse_others(path, found, RISK_LEVELS)
    return words, colours


def _read(path: Path) -> dict[str, Any]:
    """Return a file of keys; JSON is YAML, too, but is told from it in what is said."""
    kind = 'JSON' if path.suffix == '.json' else 'YAML'
    try:
        text = path.read_text(encoding='utf-8')
        found = json.loads(text) if kind == 'JSON' else yaml.safe_load(text)
    except OSError as error:
        raise TaskError(f'{path} cannot be read: {error.strerror}; copy the one of a shipped task'
                        ) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        # Not the words of the library, which quote the file: it may be any file.
        mark = getattr(error, 'problem_mark', None)
        line = getattr(error, 'lineno', None) or (mark and mark.line + 1)
        raise TaskError(f'{path} is no {kind}' + (f': see line {line}' if line else '')
                        ) from error
    if not isinstance(found, dict):
        raise TaskError(f'{path} must hold keys and values, as that of a shipped task does')
    return found


def _refuse_others(path: Path, found: Mapping[Any, Any], known: tuple[str, ...], of: str = ''
                   ) -> None:
    for key in found:
        if key not in known:
            raise TaskError(f'{path}: there is no key {key!r}{of}; known are {", ".join(known)}')
