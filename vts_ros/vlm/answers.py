# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The answer form of the language model: write it, and read what a model made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
import json
import re
from typing import Any, get_args, Literal, NamedTuple

import json_repair

from vts_ros.vlm.boxes import Box, BoxForm, FoundBox, KEYS, PictureSize, Size, ZERO_TO_ONE
from vts_ros.vlm.thoughts import after_thoughts

RiskLevel = Literal['none', 'low', 'medium', 'high', 'unknown']
RISK_LEVELS: tuple[RiskLevel, ...] = get_args(RiskLevel)

#: The action of an answer that is not known: no advice, least of all an order.
UNKNOWN_ACTION = 'the system does not know'

_KEYS = frozenset({'description', 'object', 'risk', 'explanation', 'action'})

#: Nothing after this many characters is looked at, so that no answer can keep the parser busy.
MAX_CHARACTERS = 8000
#: So much of an answer that is not in the form is kept as the description.
RAW_CHARACTERS = 300
#: What follows the two facts, risk and object, in the form: where answers end that are about
#: them alone.
AFTER_RISK = '"explanation"'
#: Largest coordinate where boxes are in pixels: the form is made before a picture is there.
_MOST_PIXELS = 9999
#: A key, or a fact from its key on, at which an answer was cut: half of it may say something else.
_HALF = re.compile(
    rf"""(?<=[{{,])\s*["']?(?:\w*["']?|(?:object|camera|label|{'|'.join(KEYS)}|risk)["']?\s*"""
    r""":\s*(?:"[^"]*|'[^']*|\[[^\]]*|[^\s"'\[\]{}][^"'\[\]{},]*)?)$""", re.IGNORECASE)
#: An answer that is in the form from its first letter on, perhaps in a code fence.
_IN_FORM = re.compile(rf'\s*(?:```\w*\s*)?\{{\s*"(?:{"|".join(sorted(_KEYS))})"\s*:')
#: The level of an answer that is in the form from its first letter on, perhaps in a code fence.
_BEGINS = re.compile(r'\s*(?:```\w*\s*)?\{\s*"risk"\s*:\s*"([^"]*)"')
#: The two facts of an answer, wholly written.
_FACTS = (re.compile(r'"object"\s*:\s*(?:null|"[^"]*"|\{[^{}]*\})'),
          re.compile(r'"risk"\s*:\s*"[^"]*"'))


@dataclass(frozen=True)
class Answer:
    """
    What the language model said, parsed. An answer that cannot be parsed is ``unknown``.

    An unknown risk has no object, no box and no advice, whoever makes the answer: what stands
    beside a risk is read as if it belonged to one.

    Attributes
    ----------
    camera
        In whose picture the object is, as the model names it; None where it was not asked.

    """

    description: str = ''
    risk: RiskLevel = 'unknown'
    label: str | None = None
    box: Box | None = None
    explanation: str = ''
    action: str = ''
    camera: str | None = None

    def __post_init__(self) -> None:
        """Take object, box and advice out of an unknown answer."""
        if self.risk == 'unknown':
            for name, value in (('label', None), ('box', None), ('camera', None),
                                ('action', UNKNOWN_ACTION)):
                object.__setattr__(self, name, value)


@dataclass(frozen=True)
class AnswerForm:
    """
    What an answer of a task may be, as the folder of the task says it.

    Attributes
    ----------
    words
        What is written for each level of risk, in small letters: the first word is written, all
        are read.
    texts
        JSON schema of label, explanation, action and description where the form is enforced.

    """

    words: Mapping[RiskLevel, tuple[str, ...]]
    texts: Mapping[str, Mapping[str, Any]]

    def level(self, word: str) -> RiskLevel:
        """Return the level that a word stands for; unknown if it stands for none."""
        said = word.strip(' .!').lower()
        return next((level for level in RISK_LEVELS if said in self.words[level]), 'unknown')


@lru_cache(maxsize=1)
def _of_driving() -> AnswerForm:
    # Here, as tasks are made of forms.
    from vts_ros.vlm.tasks import load_task

    return load_task().form


class Parsed(NamedTuple):
    """
    An answer and what was wrong with its text.

    Attributes
    ----------
    answer
        What could be read; the level is ``unknown`` where none could be.
    problems
        Any of ``repaired`` (not valid JSON), ``no json``, ``unfinished thought``, ``no risk``,
        ``bad box`` (of no use), ``other unit`` (read all the same); empty if the text was in the
        form.

    """

    answer: Answer
    problems: tuple[str, ...]


def render(answer: Answer, form: BoxForm = ZERO_TO_ONE, seen: Size | None = None,
           of_task: AnswerForm | None = None) -> str:
    """
    Return the answer in the form that models are asked for and trained on, in one line.

    Parameters
    ----------
    answer
        What is said. The camera of the object is written where there is one.
    form
        Of the box.
    seen
        Width and height in pixels of the picture that the box is in, as the model gets it; for
        boxes in pixels.
    of_task
        The form of another task than driving.

    """
    found = 'null'
    if answer.label is not None:
        label = f'"label": {_quote(answer.label)}'
        box = '[]' if answer.box is None else form.write(answer.box, seen)
        parts = [label, f'"{form.key}": {box}']
        camera = [] if answer.camera is None else [f'"camera": {_quote(answer.camera)}']
        found = f'{{{", ".join([*camera, *(parts if form.label_first else parts[::-1])])}}}'
    word = (of_task or _of_driving()).words[answer.risk][0]
    return (f'{{"risk": {_quote(word)}, "object": {found}, '
            f'"explanation": {_quote(answer.explanation)}, "action": {_quote(answer.action)}, '
            f'"description": {_quote(answer.description)}}}')


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def schema(form: BoxForm = ZERO_TO_ONE, cameras: Sequence[str] = (),
           of_task: AnswerForm | None = None) -> dict[str, Any]:
    """
    Return the JSON schema of the form, for decoders that enforce one.

    Parameters
    ----------
    form
        Of the box; hundredths from 0 to 1, whole numbers in other units.
    cameras
        Of which an object is in one; may be left out where there is only one.
    of_task
        The form of another task than driving.

    """
    side: dict[str, Any] = {'type': 'integer', 'minimum': 0,
                            'maximum': int(form.scale or _MOST_PIXELS)}
    if form.scale == 1.0:
        side = {'type': 'number', 'minimum': 0, 'maximum': 1.0, 'multipleOf': 0.01}
    task = of_task or _of_driving()
    texts = {name: dict(text) for name, text in task.texts.items()}
    label = {'label': texts['label']}
    box = {form.key: {'type': 'array', 'items': side, 'minItems': 4, 'maxItems': 4}}
    camera = {'camera': {'enum': list(cameras)}} if len(cameras) > 1 else {}
    found = _all_of({**camera, **label, **box} if form.label_first else
                    {**camera, **box, **label})
    return _all_of({
        # A model that cannot tell must be able to say so, rather than be driven to ``none``.
        'risk': {'enum': [task.words[level][0] for level in RISK_LEVELS]},
        'object': {'anyOf': [found, {'type': 'null'}]},
        **{name: texts[name] for name in ('explanation', 'action', 'description')}})


def _all_of(properties: dict[str, Any]) -> dict[str, Any]:
    return {'type': 'object', 'properties': properties, 'required': list(properties),
            'additionalProperties': False}


def parse(text: str, form: BoxForm = ZERO_TO_ONE, picture: PictureSize | None = None, *,
          is_thought: bool = False, of_task: AnswerForm | None = None) -> Answer:
    """
    Read an answer; never fails, and never says ``none`` where the model did not.

    Parameters
    ----------
    text
        What the model wrote: the form, perhaps in a code fence, with prose around it, cut off,
        with other quotes, keys missing or in another order.
    form
        Of the box that the prompt asked for.
    picture
        Sizes of the picture that the box is in, without which no other unit is recognised.
    is_thought
        Whether the text begins within a thought, which the prompt has opened.
    of_task
        The form of another task than driving.

    """
    return inspect(text, form, picture, is_thought=is_thought, of_task=of_task).answer


def has_facts(text: str, *, is_thought: bool = False) -> bool:
    """
    Return whether the beginning of an answer already says the risk and the object.

    With ``is_thought`` it begins within a thought, which the prompt has opened.
    """
    said = _after_thought(text, is_thought)
    return said is not None and all(fact.search(said) for fact in _FACTS)


def begun(text: str, *, is_thought: bool = False, of_task: AnswerForm | None = None
          ) -> tuple[RiskLevel, bool] | None:
    """
    Read the beginning of an answer that is still being written.

    Parameters
    ----------
    text
        What is written so far.
    is_thought
        Whether it begins within a thought, which the prompt has opened.
    of_task
        The form of another task than driving.

    Returns
    -------
    The level, and whether the object is there, too. None before the level is there, or if the
    answer is not in the form: what stands in prose may be taken back in the next sentence.

    """
    said = _after_thought(text, is_thought)
    level = said and _BEGINS.match(said)
    if not said or not level:
        return None
    return _risk(level.group(1), of_task), all(fact.search(said) for fact in _FACTS)


def inspect(text: str, form: BoxForm = ZERO_TO_ONE, picture: PictureSize | None = None, *,
            is_thought: bool = False, of_task: AnswerForm | None = None) -> Parsed:
    """Read an answer like parse, and say what was wrong with it."""
    said = _after_thought(text, is_thought)
    if said is None:
        return Parsed(Answer(), ('unfinished thought',))
    text = said[:MAX_CHARACTERS]
    problems = []
    fields = _strict(text)
    if fields is None:
        fields = _repaired(text)
        problems.append('no json' if fields is None else 'repaired')
    if fields is None:
        return Parsed(Answer(description=_line(text)[:RAW_CHARACTERS]), tuple(problems))
    risk = _risk(fields.get('risk'), of_task)
    if risk == 'unknown':
        problems.append('no risk')
    label, written, camera = _object(fields)
    found = FoundBox(None) if written is None else form.read(written, picture)
    if found.in_other_unit:
        problems.append('other unit')
    elif written is not None and found.box is None:
        problems.append('bad box')
    return Parsed(
        Answer(description=_line(fields.get('description')), risk=risk, label=label,
               box=found.box,
               explanation=_line(fields.get('explanation')), action=_line(fields.get('action')),
               camera=camera),
        tuple(problems))


def _after_thought(text: str, is_thought: bool) -> str | None:
    """Return what is no thought, None where one has no end."""
    return after_thoughts(text, is_thought, _IN_FORM, MAX_CHARACTERS)


def _strict(text: str) -> dict[str, Any] | None:
    """Return the JSON object with most keys of the form, the last of them: some models think."""
    decoder = json.JSONDecoder(strict=False)
    found: list[dict[str, Any]] = []
    end = 0
    for brace in re.finditer(r'\{', text):
        if brace.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(text, brace.start())
        except (ValueError, RecursionError):
            continue
        if fields := _fields(value):
            found.append(fields)
    return max(reversed(found), key=lambda fields: len(_KEYS & fields.keys()), default=None)


def _repaired(text: str) -> dict[str, Any] | None:
    """Return what can be made of text that begins like a JSON object of the form."""
    start = text.find('{')
    if start < 0:
        return None
    try:
        return _fields(json_repair.loads(_HALF.sub('', text[start:].rstrip())))
    except (ValueError, RecursionError):
        return None


def _fields(found: Any) -> dict[str, Any] | None:
    candidates = found if isinstance(found, list) else [found]
    for candidate in candidates:
        if isinstance(candidate, dict):
            fields = {str(key).strip().lower(): value for key, value in candidate.items()}
            if _KEYS & fields.keys():
                return fields
    return None


def _risk(value: Any, of_task: AnswerForm | None) -> RiskLevel:
    if isinstance(value, dict):
        value = value.get('level')
    return (of_task or _of_driving()).level(value if isinstance(value, str) else '')


def _object(fields: dict[str, Any]) -> tuple[str | None, Any, str | None]:
    """Return the label of what was found, its box as it is written, and its camera."""
    value = fields.get('object')
    if isinstance(value, list):
        # Models that know lists of what they find write one; what matters most comes first.
        value = value[0] if value else None
    # Some write the box beside the object.
    found = {str(key).strip().lower(): part for key, part in value.items()} if isinstance(
        value, dict) else {**fields, 'label': value}
    label = _line(found.get('label'))
    if label.lower() in ('', 'null', 'none'):
        return None, None, None
    # Of what cannot be seen an empty one is written.
    box = next((found[key] for key in KEYS if found.get(key) not in (None, [])), None)
    return label, box, _line(found.get('camera')) or None


def _line(value: Any) -> str:
    """Return the text in one line, without what cannot be printed or sent."""
    if value is None:
        return ''
    return ' '.join(''.join(char if char.isprintable() else ' ' for char in str(value)).split())
