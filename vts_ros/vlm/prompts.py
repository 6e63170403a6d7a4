# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the language model is asked: the wording is data, in the ``prompts.yaml`` of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
import math
from pathlib import Path
import re
from typing import Any, Protocol

import yaml

from vts_ros.errors import PromptError
from vts_ros.paths import share_path
from vts_ros.vlm.boxes import BoxForm, ZERO_TO_ONE
from vts_ros.vlm.conventions import Convention, PLAIN, TRAINED_HERE
from vts_ros.vlm.vehicle import Vehicle

_FILE = 'config/tasks/driving/prompts.yaml'
#: Written in C where it is there: every load of a model reads the file.
_YAML = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
#: Instead of a width: boxes are in pixels of the picture as the model gets it.
_PIXELS = 'pixels'
#: What the keys of a prompt file look like.
_LANGUAGE = re.compile(r'[a-z]{2,3}([-_][A-Za-z]{2,4})?')


class Stamped(Protocol):
    """What a caption needs to know of a frame."""

    @property
    def camera(self) -> str:
        """Return the name of its camera."""

    @property
    def stamp_ns(self) -> int:
        """Return when it was taken, in nanoseconds."""


class Noticed(Protocol):
    """What a prompt needs to know of an event."""

    @property
    def kind(self) -> str:
        """Return the key of its text."""

    @property
    def seconds(self) -> float:
        """Return how long it has taken."""

    @property
    def is_told(self) -> bool:
        """Return whether it is said at all."""

    @property
    def sentence(self) -> str:
        """Return what is said where there is no text of its kind."""


@dataclass(frozen=True)
class Prompt:
    """
    A request to the model about a window of pictures.

    Attributes
    ----------
    system
        Who the model is; empty for none, or that of its chat template.
    instruction
        What is asked, placed after the pictures; may be empty if there is a text before them.
    caption
        Text before each picture, with ``{age}`` in seconds, ``{time}`` in seconds since the first
        picture of the prompt, or ``{number}`` of the picture among those of its camera.
    caption_cameras
        The same with ``{camera}``, used where there are several cameras.
    box
        How boxes are asked for.
    caption_causal, caption_causal_cameras
        The same in causal mode, where a text has to be known when its picture comes: without
        ``{age}``.
    vehicle
        What is said of the car, by the keys of Vehicle.facts; ``{speed}`` is in km/h.
    events
        What is said of an event, by its kind; ``{seconds}`` is how long it has taken.
    instruction_cameras
        The instruction where there are several ``{cameras}``; empty where the model is not to
        say in which one something is.
    before, before_cameras
        What is asked of every window, placed before the pictures; usually nothing is.
    signal_tokens
        Learned tokens that the model has for what the car does, which then replace the texts of
        ``vehicle``; see Vehicle.tokens.
    numbers_cameras
        Whether cameras are told by number, see :meth:`said`.

    """

    system: str
    instruction: str
    caption: str = '{age}s'
    caption_cameras: str = '{camera} {age}s'
    box: BoxForm = ZERO_TO_ONE
    caption_causal: str = '{time}s'
    caption_causal_cameras: str = '{camera} {time}s'
    vehicle: Mapping[str, str] = field(default_factory=dict, hash=False)
    instruction_cameras: str = ''
    events: Mapping[str, str] = field(default_factory=dict, hash=False)
    before: str = ''
    before_cameras: str = ''
    signal_tokens: tuple[str, ...] = ()
    numbers_cameras: bool = False

    @property
    def names_cameras(self) -> bool:
        """Return whether the model is to say in which camera something is."""
        return bool(self.instruction_cameras or self.before_cameras)

    def seen_by(self, cameras: Sequence[str]) -> Prompt:
        """Return the prompt about pictures of these cameras, by name."""
        if len(cameras) < 2:
            return self
        names = ' / '.join(self.said(cameras))
        return replace(
            self, instruction=self.instruction_cameras.replace('{cameras}', names)
            or self.instruction,
            before=self.before_cameras.replace('{cameras}', names) or self.before)

    def said(self, cameras: Sequence[str]) -> list[str]:
        """
        Return what cameras are called in a prompt and in its answer: their names.

        A small model that has learned to tell cameras apart has learned no names, which may be
        any: to it they are numbers, from 1, in the order of their names.
        """
        if not self.numbers_cameras:
            return list(cameras)
        places = {name: place for place, name in enumerate(sorted(set(cameras)), 1)}
        return [str(places[name]) for name in cameras]

    def about(self, vehicle: Vehicle | None) -> Prompt:
        """Return the prompt with what the car does before the instruction, as far as known."""
        if self.signal_tokens:
            told = ''.join(vehicle.tokens(self.signal_tokens)) if vehicle else ''
            # Without a space between them: what follows stays cut into the same tokens.
            return replace(self, instruction=f'{told}{self.instruction}')
        facts = vehicle.facts() if vehicle else {}
        said = [self.vehicle[fact].format(speed=f'{speed:.0f}') for fact, speed in facts.items()
                if fact in self.vehicle]
        return replace(self, instruction=' '.join([*said, self.instruction]).strip())

    def telling(self, events: Sequence[Noticed]) -> Prompt:
        """Return the prompt with what other senses noticed before the instruction."""
        said = [self.events[event.kind].format(seconds=f'{event.seconds:.0f}')
                if event.kind in self.events else event.sentence
                for event in events if event.is_told]
        # In the order of time, each once, and in front of what the car does.
        told = [text for text in dict.fromkeys(said) if text]
        return replace(self, instruction=' '.join([*told, self.instruction]).strip()) \
            if told else self

    def captions(self, frames: Sequence[Stamped]) -> list[str]:
        """Return the text before each picture; ages count from the newest frame."""
        newest_ns = max(frame.stamp_ns for frame in frames)
        ages = [_age_text((newest_ns - frame.stamp_ns) * 1e-9) for frame in frames]
        several = len({frame.camera for frame in frames}) > 1
        template = self.caption_cameras if several else self.caption
        return [template.format(age=age, **told) for age, told in zip(ages, self._told(frames))]

    def captions_on_arrival(self, frames: Sequence[Stamped]) -> list[str]:
        """Return the text before each picture that stays the same when others follow."""
        several = len({frame.camera for frame in frames}) > 1
        template = self.caption_causal_cameras if several else self.caption_causal
        return [template.format(**told) for told in self._told(frames)]

    def _told(self, frames: Sequence[Stamped]) -> Iterator[dict[str, str | int]]:
        """Yield what a caption may say of each picture, and what stays so when others follow."""
        shown: Counter[str] = Counter()
        names = self.said([frame.camera for frame in frames])
        for frame, name in zip(frames, names, strict=True):
            shown[frame.camera] += 1
            yield {'camera': name, 'number': shown[frame.camera],
                   'time': f'{(frame.stamp_ns - frames[0].stamp_ns) * 1e-9:.1f}'}


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
    def load(cls, language: str = 'en', path: str | Path | None = None,
             convention: Convention = PLAIN, *, is_first: bool = False) -> Prompts:
        """
        Read the prompts of a language.

        Parameters
        ----------
        language
            Key of the prompt file.
        path
            Prompt file; that of driving if not given or empty.
        convention
            Of the family that is asked.
        is_first
            Whether what is asked of every window stands before the pictures, see
            :meth:`with_instructions_first`.

        Raises
        ------
        PromptError
            If the file, the language or a key is missing or of no use.

        """
        path = Path(path).expanduser() if path else share_path(_FILE)
        languages = _read(path)
        if language not in languages:
            known = ', '.join(str(name) for name in languages
                          if _LANGUAGE.fullmatch(str(name))) or 'none'
            raise PromptError(f'no prompt in language {language!r} in {path}; there are: {known}')
        texts = languages[language]
        try:
            if '{question}' not in texts['question']:
                raise ValueError("'question', which has no {question}")
            prompts = cls(_prompt('description', texts, convention),
                          _prompt('question', texts, convention))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise PromptError(f'prompt {language!r} in {path} lacks or garbles {error}') from error
        return prompts.with_instructions_first() if is_first else prompts

    def with_instructions_first(self) -> Prompts:
        """
        Return the prompts with what does not change before the pictures, to be read once.

        Questions follow the pictures; what is asked of a description stands before these, too, so
        that prompts of both kinds begin alike.
        """
        first, several = self.description.instruction, self.description.instruction_cameras
        return Prompts(
            replace(self.description, before=first, before_cameras=several, instruction='',
                    instruction_cameras=''),
            replace(self.question, before=first, before_cameras=several))

    def ask(self, question: str) -> Prompt:
        """Return the prompt that puts this question, in one line."""
        text = self.question.instruction.replace('{question}', ' '.join(question.split()))
        return replace(self.question, instruction=text)


def _age_text(age_sec: float) -> str:
    """Return how long before the newest frame, to a tenth of a second: ``-0.4`` or ``0.0``."""
    return f'{-age_sec:.1f}'.replace('-0.0', '0.0')


def _read(path: Path) -> dict[str, Any]:
    try:
        languages = yaml.load(path.read_text(encoding='utf-8'), _YAML)
    except OSError as error:
        raise PromptError(f'prompt file {path} cannot be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise PromptError(f'prompt file {path} cannot be read: it is no UTF-8 text') from error
    except yaml.YAMLError as error:
        # Not the words of the library, which quote the file: it may be any file.
        mark = getattr(error, 'problem_mark', None)
        where = f' in line {mark.line + 1}' if mark else ''
        raise PromptError(f'prompt file {path} cannot be read: it is no YAML{where}') from error
    if not isinstance(languages, dict):
        raise PromptError(f'prompt file {path} is not a mapping of languages')
    return languages


def _prompt(task: str, texts: dict[str, Any], convention: Convention) -> Prompt:
    """Return a prompt of a file; what it leaves to the family is as that knows it."""
    box = _box_form(texts, convention.box)
    system, asked = texts['system'].strip(), texts[task].strip()
    instruction = _instruction(asked, texts, box)
    # Only the form of an object has room for a camera.
    can_tell = convention.names_camera or convention.numbers_cameras
    several = _instruction(asked, texts, box, several=True) if (
        can_tell and '{object}' in asked and 'camera' in texts) else ''
    if not convention.has_system:
        system, instruction, several = '', f'{system} {instruction}'.strip(), (
            several and f'{system} {several}'.strip())
    captions = {}
    for mode in ('caption', 'caption_causal'):
        own = getattr(convention, mode)
        captions[mode] = texts.get(mode, '{caption}').replace('{caption}', own)
        captions[f'{mode}_cameras'] = texts.get(
            f'{mode}_cameras', '{camera} {caption}').replace('{caption}', own)
    prompt = Prompt(system=system, instruction=instruction, instruction_cameras=several, box=box,
                    vehicle=dict(texts.get('vehicle', {})),
                    events=dict(texts.get('events', {})),
                    signal_tokens=convention.signal_tokens,
                    numbers_cameras=convention.numbers_cameras, **captions)
    for template in (prompt.caption, prompt.caption_cameras):
        template.format(camera='', age='', time='', number=1)
    for template in (prompt.caption_causal, prompt.caption_causal_cameras):
        template.format(camera='', time='', number=1)
    for text in prompt.vehicle.values():
        text.format(speed='')
    for text in prompt.events.values():
        text.format(seconds='')
    return prompt


def _box_form(texts: dict[str, Any], box: BoxForm) -> BoxForm:
    """Return how boxes are asked for: as the family knows it, but for what the file says."""
    description = texts['description']
    if '{object}' not in description:
        # The file itself writes the form, in which models are then held to its key.
        box = replace(box, key=box.key if f'"{box.key}"' in description else BoxForm.key)
    if texts.get('box_scale') == _PIXELS:
        box = replace(box, scale=None)
    elif 'box_scale' in texts:
        box = replace(box, scale=float(texts['box_scale']))
        if not 0.0 < (box.scale or 0.0) < math.inf:
            raise ValueError("'box_scale', which is no width")
    return box


def _instruction(text: str, texts: dict[str, Any], box: BoxForm, *, several: bool = False) -> str:
    """Fill in what the family writes of an object: its form and the unit of its box."""
    if '{object}' in text:
        label = f'"label": "{texts["object_label"]}"'
        sides = f'"{box.key}": [{texts["box_sides"]}]'
        parts = [label, sides] if box.label_first else [sides, label]
        if several:
            # First, as the box is in its picture.
            parts.insert(0, f'"camera": "{texts["camera"]}"')
        text = text.replace('{object}', f'{{{", ".join(parts)}}}')
    if '{newest}' in text:
        text = text.replace('{newest}', texts['newest_of_camera' if several else 'newest'])
    if '{box_unit}' in text:
        least, most = box.range
        # Both, so that a file is good for every family or for none.
        pixels, span = texts['box_pixels'], texts['box_range'].format(least=least, most=most)
        text = text.replace('{box_unit}', pixels if box.scale is None else span)
    return text


#: Training asks for one of these per dialogue.
_packaged = lru_cache(Prompts.load)


def describe_prompt(language: str = 'en') -> Prompt:
    """Return the prompt for a description as models that are trained here know it."""
    return _packaged(language, convention=TRAINED_HERE).description


def question_prompt(question: str, language: str = 'en') -> Prompt:
    """Return the prompt that puts a free question as models that are trained here know it."""
    return _packaged(language, convention=TRAINED_HERE).ask(question)
