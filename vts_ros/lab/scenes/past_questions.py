# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Free questions about what a window showed before its newest frame, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vts_ros.lab.scenes.fact_reader import FactReader
from vts_ros.lab.scenes.memory_windows import MemoryTruth
from vts_ros.lab.scenes.phrases import OBJECT_PHRASES, Table, with_article
from vts_ros.lab.scenes.question_kinds import is_clear
from vts_ros.lab.scenes.scene_truth import FrameTruth, LABELS
from vts_ros.lab.scenes.sentences import pick
from vts_ros.lab.scenes.window_questions import Question


class _Way(NamedTuple):
    """How a family is asked what happened; a value and its phrases fill the answers."""

    texts: tuple[str, ...]
    answers: tuple[str, ...]
    values: Table


_AWAY: Table = {
    'away on the left': ('away on the left', 'off to the left', 'out of sight on the left'),
    'away on the right': ('away on the right', 'off to the right', 'out of sight on the right')}


def _went(noun: str, values: Table) -> _Way:
    return _Way((f'Which way did the {noun} go?', f'Where did the {noun} go?',
                 f'Where is the {noun} now?'),
                (f'the {noun} went {{}}', 'it went {}', '{}'), values)


#: By family: what happened, a value of ``MemoryTruth.way``.
_WAYS: dict[str, _Way] = {
    'child behind a van': _went('child', {
        'behind the van': ('behind the van', 'behind the parked van'), **_AWAY}),
    'pedestrian behind a bus': _went('pedestrian', {
        'behind the bus': ('behind the bus', 'in front of the bus'), **_AWAY}),
    'cyclist overtaken': _went('cyclist', {
        'straight on': ('straight on', 'straight on beside us', 'on beside us'), **_AWAY}),
    'braking behind a lorry': _Way(
        ('Did the car ahead brake before the truck moved in?',
         'What did the car ahead do before the truck moved in?'),
        ('the car ahead {}', 'it {}', 'the car in front of the truck {}'),
        {'braked': ('braked', 'slowed down'),
         'did not brake': ('did not brake', 'kept its speed')}),
    'oncoming behind a van': _went('oncoming vehicle', {
        'towards us': ('towards us', 'straight towards us'),
        'off the road': ('off the road', 'off into a side road')}),
    'light before glare': _Way(
        ('What did the traffic light show last?', 'Was the traffic light red or green?'),
        ('it was {}', 'the traffic light was {}', '{}'),
        {'red': ('red', 'on red'), 'green': ('green', 'on green')}),
    'animal behind a bush': _went('animal', {
        'behind the bush': ('behind the bush', 'into the verge'), **_AWAY}),
    'sign passed': _Way(
        ('Which sign did we pass?', 'What kind of sign did we pass?'),
        ('it was a {}', 'we passed a {}', 'a {}'),
        {'warning sign': ('warning sign', 'warning triangle'),
         'round sign': ('round sign', 'round red and white sign')}),
}


@dataclass(frozen=True)
class PastQuestion(Question):
    """A question about the past; the table says what states each value."""

    table: Table

    def is_right(self, text: str) -> bool:
        """Tell whether a text states the true value, and no other."""
        return set(FactReader(self.table)(text)) == {self.facts[self.kind]}


def past_questions(truth: MemoryTruth, frames: Sequence[FrameTruth], rng: np.random.Generator
                   ) -> list[PastQuestion]:
    """Ask what happened, and whether something was there at any time of the window."""
    way = _WAYS[truth.family]
    found = [PastQuestion('way', pick(rng, way.texts),
                          _sentence(pick(rng, way.answers), pick(rng, way.values[truth.way])),
                          {'way': truth.way}, way.values)]
    seen = sorted({actor.label for frame in frames for actor in frame.actors if is_clear(actor)}
                  | ({truth.thing} & set(LABELS)))
    # What was there but is not clear is no fair question.
    absent = sorted(set(LABELS) - {actor.label for frame in frames for actor in frame.actors}
                    - {truth.thing})
    was_there = bool(seen) and (not absent or rng.random() < 0.5)
    label = pick(rng, seen if was_there else absent)
    thing = with_article(label)
    found.append(PastQuestion(
        'past presence', pick(rng, (f'Was there {thing}?', f'Did we see {thing}?',
                                    f'Has there been {thing}?')),
        _sentence('yes, there was {}' if was_there else 'no, there was no {}',
                  thing if was_there else label),
        {'past presence': 'yes' if was_there else 'no'}, _presence(label)))
    return found


def _presence(label: str) -> Table:
    names = OBJECT_PHRASES[label]
    return {'yes': tuple(text for name in map(with_article, names) for text in (
                f'there was {name}', f'we saw {name}')),
            'no': tuple(text for name in names for text in (
                f'there was no {name}', f'we saw no {name}'))}


def _sentence(template: str, words: str) -> str:
    text = template.format(words)
    return f'{text[0].upper()}{text[1:]}.'
