# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The answer form of the language model: write it, and read what a model made of it."""

from __future__ import annotations

from dataclasses import dataclass
import json
import math
import re
from typing import Any, get_args, Literal, NamedTuple

import json_repair

RiskLevel = Literal['none', 'low', 'medium', 'high', 'unknown']
RISK_LEVELS: tuple[RiskLevel, ...] = get_args(RiskLevel)

#: The action of an answer that is not known: no advice, least of all an order.
UNKNOWN_ACTION = 'the system does not know'
#: Left, top, right, bottom; 0 to 1 from the left and from the top of the picture.
Box = tuple[float, float, float, float]

_KEYS = frozenset({'description', 'object', 'risk', 'explanation', 'action'})

#: What models that think before they answer put around the thought.
THOUGHT = ('<think>', '</think>')
#: Nothing after this many characters is looked at, so that no answer can keep the parser busy.
MAX_CHARACTERS = 8000
#: So much of an answer that is not in the form is kept as the description.
RAW_CHARACTERS = 300
#: What follows the two facts, object and risk, in the form: where answers end that are about
#: them alone.
AFTER_RISK = '"explanation"'
#: Longest texts where the form is enforced: all of them take about 150 tokens.
_MAX_TEXTS = {'label': 60, 'explanation': 200, 'action': 100, 'description': 200}
#: Coordinates may lie so far outside of the picture; they are clipped.
_MARGIN = 0.05
#: A key, or a fact from its key on, at which an answer was cut: half of it may say something else.
_HALF = re.compile(
    r"""(?<=[{,])\s*["']?(?:\w*["']?|(?:object|label|box|risk)["']?\s*"""
    r""":\s*(?:"[^"]*|'[^']*|\[[^\]]*|[^\s"'\[\]{}][^"'\[\]{},]*)?)$""", re.IGNORECASE)
#: The two facts of an answer, wholly written.
_FACTS = (re.compile(r'"object"\s*:\s*(?:null|"[^"]*"|\{[^{}]*\})'),
          re.compile(r'"risk"\s*:\s*"[^"]*"'))


@dataclass(frozen=True)
class Answer:
    """
    What the language model said, parsed. An answer that cannot be parsed is ``unknown``.

    An unknown risk has no object, no box and no advice, whoever makes the answer: what stands
    beside a risk is read as if it belonged to one.
    """

    description: str = ''
    risk: RiskLevel = 'unknown'
    label: str | None = None
    box: Box | None = None
    explanation: str = ''
    action: str = ''

    def __post_init__(self) -> None:
        """Take object, box and advice out of an unknown answer."""
        if self.risk == 'unknown':
            for name, value in (('label', None), ('box', None), ('action', UNKNOWN_ACTION)):
                object.__setattr__(self, name, value)


class Parsed(NamedTuple):
    """
    An answer and what was wrong with its text.

    Attributes
    ----------
    answer
        What could be read; the level is ``unknown`` where none could be.
    problems
        Any of ``repaired`` (not valid JSON), ``no json``, ``unfinished thought``, ``no risk``,
        ``bad box``; empty if the text was in the form.

    """

    answer: Answer
    problems: tuple[str, ...]


def render(answer: Answer) -> str:
    """Return the answer in the form that models are asked for and trained on, in one line."""
    found = 'null'
    if answer.label is not None:
        box = 'null'
        if answer.box is not None:
            box = f'[{", ".join(f"{value:.2f}" for value in answer.box)}]'
        found = f'{{"label": {_quote(answer.label)}, "box": {box}}}'
    return (f'{{"object": {found}, "risk": {_quote(answer.risk)}, '
            f'"explanation": {_quote(answer.explanation)}, "action": {_quote(answer.action)}, '
            f'"description": {_quote(answer.description)}}}')


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def schema(box_scale: float = 1.0) -> dict[str, Any]:
    """
    Return the JSON schema of the form, for decoders that enforce one.

    Parameters
    ----------
    box_scale
        Full width and height of the picture in the unit of the box; hundredths up to 1, whole
        numbers above.

    """
    side: dict[str, Any] = {'type': 'integer', 'minimum': 0, 'maximum': int(box_scale)}
    if box_scale <= 1.0:
        side = {'type': 'number', 'minimum': 0, 'maximum': box_scale, 'multipleOf': 0.01}
    texts = {name: {'type': 'string', 'maxLength': length}
             for name, length in _MAX_TEXTS.items()}
    found = _all_of({'label': texts['label'], 'box': {
        'type': 'array', 'items': side, 'minItems': 4, 'maxItems': 4}})
    return _all_of({
        'object': {'anyOf': [found, {'type': 'null'}]},
        # A model that cannot tell must be able to say so, rather than be driven to ``none``.
        'risk': {'enum': list(RISK_LEVELS)},
        **{name: texts[name] for name in ('explanation', 'action', 'description')}})


def _all_of(properties: dict[str, Any]) -> dict[str, Any]:
    return {'type': 'object', 'properties': properties, 'required': list(properties),
            'additionalProperties': False}


def parse(text: str, box_scale: float = 1.0, *, is_thought: bool = False) -> Answer:
    """
    Read an answer; never fails, and never says ``none`` where the model did not.

    Parameters
    ----------
    text
        What the model wrote: the form, perhaps in a code fence, with prose around it, cut off,
        with other quotes, keys missing or in another order.
    box_scale
        Full width and height of the picture in the unit that the prompt asked for.
    is_thought
        Whether the text begins within a thought, which the prompt has opened.

    """
    return inspect(text, box_scale, is_thought=is_thought).answer


def has_facts(text: str) -> bool:
    """Return whether the beginning of an answer already says the object and the risk."""
    said = _after_thought(text, False)
    return said is not None and all(fact.search(said) for fact in _FACTS)


def inspect(text: str, box_scale: float = 1.0, *, is_thought: bool = False) -> Parsed:
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
    risk = _risk(fields.get('risk'))
    if risk == 'unknown':
        problems.append('no risk')
    label, box, box_is_bad = _object(fields.get('object'), box_scale)
    if box_is_bad:
        problems.append('bad box')
    return Parsed(
        Answer(description=_line(fields.get('description')), risk=risk, label=label, box=box,
               explanation=_line(fields.get('explanation')), action=_line(fields.get('action'))),
        tuple(problems))


def _after_thought(text: str, is_thought: bool) -> str | None:
    """Return what is no thought, None where one has no end: a draft in it is no answer."""
    opened, closed = THOUGHT
    _, end, said = text.rpartition(closed)
    return None if opened in said or (is_thought and not end) else said


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


def _risk(value: Any) -> RiskLevel:
    if isinstance(value, dict):
        value = value.get('level')
    word = value.strip(' .!').lower() if isinstance(value, str) else ''
    for level in RISK_LEVELS:
        if word in (level, f'{level} risk'):
            return level
    return 'unknown'


def _object(value: Any, box_scale: float) -> tuple[str | None, Box | None, bool]:
    """Return label, box, and whether a box was given that cannot be used."""
    fields = value if isinstance(value, dict) else {'label': value}
    label = _line(fields.get('label'))
    if label.lower() in ('', 'null', 'none'):
        return None, None, False
    given = fields.get('box')
    box = _box(given, box_scale)
    return label, box, box is None and given is not None


def _box(value: Any, scale: float) -> Box | None:
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        return None
    try:
        left, top, right, bottom = (float(part) / scale for part in value)
    except (TypeError, ValueError, OverflowError):
        return None
    sides = (left, top, right, bottom)
    if not all(math.isfinite(side) and -_MARGIN <= side <= 1.0 + _MARGIN for side in sides):
        return None
    if left > right or top > bottom:
        return None
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in sides)
    return left, top, right, bottom


def _line(value: Any) -> str:
    """Return the text in one line, without what cannot be printed or sent."""
    if value is None:
        return ''
    return ' '.join(''.join(char if char.isprintable() else ' ' for char in str(value)).split())
