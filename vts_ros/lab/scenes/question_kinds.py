# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What can be asked about a window: the true value, the ways to ask, and what states it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from vts_ros.lab.scenes.fact_reader import FactReader
from vts_ros.lab.scenes.phrases import (
    CLEAR,
    COUNT_WORDS,
    DISTANCE_PHRASES,
    FACTS,
    MOTION_PHRASES,
    NOTHING,
    OBJECT_PHRASES,
    REASONS,
    RISK_PHRASES,
    SIGNAL_PHRASES,
    Table,
    WHY_CLEAR,
    with_article,
)
from vts_ros.lab.scenes.scene_truth import Actor, LABELS, WindowTruth

VEHICLES = ('car', 'truck', 'bus', 'motorcycle')
#: Metres at which near becomes middle and middle far, and the share of them that is neither.
DISTANCE_BOUNDS_M = (15.0, 35.0)
DISTANCE_MARGIN = 0.15


@dataclass(frozen=True)
class Kind:
    """
    A kind of question.

    Attributes
    ----------
    fact
        Name of the fact (in ``FACTS``) that an answer is graded by.
    value
        The true value; 'none' without a hazard, None where the truth is not clear enough to ask.
    texts
        Ways to ask.
    answers
        Templates by value; '*' for all other values.
    claims
        What states a value in such an answer, beside the phrases of the fact. A value that is
        never true may be among them.
    reasons
        Kinds of which an answer must state the facts, too.

    """

    fact: str
    value: Callable[[WindowTruth], str | None]
    texts: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]]
    claims: Table = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def stated(self, text: str) -> set[str]:
        """Return all values that a text states."""
        return set(self._reader(text))

    @cached_property
    def _reader(self) -> FactReader:
        table = FACTS[self.fact]
        return FactReader({value: (*table.get(value, ()), *self.claims.get(value, ()))
                        for value in {**table, **self.claims}})


def is_clear(actor: Actor) -> bool:
    """Return whether an actor is large enough and visible enough that anybody sees it."""
    return actor.visible > 0.5 and actor.box[3] - actor.box[1] > 0.06


def in_view(actor: Actor) -> bool:
    """Return whether an actor can be seen well enough to be told of."""
    return actor.is_risk or is_clear(actor)

def _vehicle_count(truth: WindowTruth) -> str:
    count = sum(actor.label in VEHICLES and is_clear(actor) for actor in truth.actors)
    return COUNT_WORDS[min(count, len(COUNT_WORDS) - 1)]


def _hazard_distance(truth: WindowTruth) -> str | None:
    if truth.label is None:
        return 'none'
    metres = next((actor.distance_m for actor in truth.actors if actor.is_risk), None)
    if metres is None or any(
            abs(metres - bound) < DISTANCE_MARGIN * bound for bound in DISTANCE_BOUNDS_M):
        return None
    return tuple(DISTANCE_PHRASES)[sum(metres > bound for bound in DISTANCE_BOUNDS_M)]


def _signal(truth: WindowTruth) -> str | None:
    shown = {actor.detail for actor in truth.actors
             if actor.label == 'traffic light' and in_view(actor)}
    return shown.pop() if len(shown) == 1 and shown <= set(SIGNAL_PHRASES) else None


def _braking_ahead(truth: WindowTruth) -> str | None:
    if truth.label not in VEHICLES or truth.place != 'ahead' or not truth.is_whole:
        return None
    return _yes_if(truth.motion == 'braking')


def _present(label: str) -> Callable[[WindowTruth], str | None]:
    """Return the test for a label; a child alone is no clear case for 'pedestrian'."""
    def value(truth: WindowTruth) -> str | None:
        alike = {label, 'child'} if label == 'pedestrian' else {label}
        if any(actor.label == label and in_view(actor) for actor in truth.actors):
            return 'yes'
        return None if any(actor.label in alike for actor in truth.actors) else 'no'
    return value


def _yes_if(condition: bool) -> str:
    return 'yes' if condition else 'no'


def _sightings(labels: Iterable[str]) -> tuple[str, ...]:
    """Return ways to say that there is one of these labels."""
    things = [with_article(phrase) for label in labels for phrase in OBJECT_PHRASES[label]]
    return tuple(template.format(thing) for thing in things
                 for template in ('there is {}', '{} is in sight', 'I see {}'))


def _absences(label: str) -> tuple[str, ...]:
    return tuple(text for phrase in OBJECT_PHRASES[label] for text in (
        f'there is no {phrase}', f'no {phrase} is in sight',
        f'I do not see {with_article(phrase)}'))


def _presence(label: str) -> Kind:
    thing = with_article(label)
    return Kind(
        'verdict', _present(label),
        (f'Is there {thing}?', f'Is {thing} in sight?', f'Do you see {thing}?',
         f'Can {thing} be seen?'),
        {'yes': (f'yes, there is {thing}', f'yes, {thing} is in sight', f'yes, I see {thing}'),
         'no': (f'no, there is no {label}', f'no, no {label} is in sight',
                f'no, I do not see {thing}')},
        # To have seen something else is no answer.
        claims={'yes': _sightings([label]), 'no': _absences(label),
                'other': _sightings(other for other in OBJECT_PHRASES if other != label)})


def _without_hazard(*templates: str) -> Mapping[str, tuple[str, ...]]:
    return {'*': templates, 'none': (
        'there is {nothing}', 'I see {nothing} here', 'there is {nothing} at the moment')}


def _always(*templates: str) -> Mapping[str, tuple[str, ...]]:
    return {'*': templates}


def _reasons_at(*levels: str) -> tuple[str, ...]:
    return tuple(chain.from_iterable(
        reasons for (level, _), reasons in REASONS.items() if level in levels))


def _motions(*motions: str) -> tuple[str, ...]:
    return tuple(chain.from_iterable((motion, *FACTS['motion'][motion]) for motion in motions))


#: What tells that there is no hazard, where one is asked for.
_NO_HAZARD: Table = {'none': (*NOTHING, *CLEAR, *chain.from_iterable(WHY_CLEAR.values()))}

_SAFE = ('no crash is coming', 'there is no conflict', 'for now it is',
         'nothing is on a crash course with us')

#: Models that were not trained on this grammar count in numerals.
_NUMERALS: Table = {
    word: tuple(str(count) for count in range(100) if min(count, len(COUNT_WORDS) - 1) == index)
    for index, word in enumerate(COUNT_WORDS)}

#: Presence of each label, asked about at most once per window.
PRESENCE: Mapping[str, Kind] = {f'presence of {label}': _presence(label) for label in LABELS}

KINDS: Mapping[str, Kind] = {
    'object': Kind(
        'object', lambda truth: truth.label or 'none',
        ('What is the main hazard?', 'What is the biggest danger here?',
         'What should we watch out for?', 'Which object matters most?'),
        _without_hazard('the main hazard is {an_object} {place}', '{an_object} {place}',
                        'we should watch {an_object} {place}', 'it is {an_object} {place}'),
        claims=_NO_HAZARD),
    'place': Kind(
        'place', lambda truth: truth.place or 'none',
        ('Where is the hazard?', 'Where is the danger?', 'On which side is the hazard?',
         'Where should we look?'),
        _without_hazard('it is {place}', 'the {object} is {place}', '{place}',
                        'the hazard is {place}'),
        claims=_NO_HAZARD),
    'motion': Kind(
        'motion', lambda truth: truth.motion or 'none',
        ('What is the hazard doing?', 'How does the hazard move?',
         'What does the main object do?', 'What is it doing?'),
        _without_hazard('it {does}', 'the {object} {does}', 'the {object} {place} {does}'),
        claims=_NO_HAZARD),
    'action': Kind(
        'action', lambda truth: truth.action,
        ('What should the driver do and why?', 'What should we do now and why?',
         'How should we react and why?', 'What is the right action and why?'),
        _always('{action}, because {why}', '{action}, as {why}',
                'the driver should {action}, because {why}', 'we should {action}, as {why}'),
        reasons=('object', 'place', 'motion')),
    'safety': Kind(
        'verdict', lambda truth: _yes_if(truth.risk in ('none', 'low')),
        ('Is it safe to keep going?', 'Is it safe to drive on?', 'Is it safe to go on?',
         'Can we safely go on?'),
        {'yes': tuple(f'yes, {why}' for why in _SAFE),
         'no': ('no, because {an_object} {place} {does}', 'no, {reason}',
                'no, {an_object} {does} {place}')},
        claims={'yes': (*_SAFE, *_NO_HAZARD['none'], *RISK_PHRASES['none'],
                        *_reasons_at('low')),
                'no': _reasons_at('medium', 'high')}),
    'weather': Kind(
        'weather', lambda truth: truth.weather,
        ('What is the weather?', 'How is the weather?', 'What is the weather like?',
         'What are the conditions?'),
        _always('there is {weather}', 'we drive in {weather}', 'I see {weather}', '{weather}')),
    'light': Kind(
        'light', lambda truth: truth.light,
        ('What time of day is it?', 'Is it day or night?', 'How is the light?',
         'When was this taken?'),
        _always('we drive {light}', 'this was taken {light}', 'it is a drive {light}',
                '{light}')),
    'road': Kind(
        'road', lambda truth: truth.road,
        ('What kind of road is this?', 'Where are we driving?', 'What road are we on?',
         'Which type of road is it?'),
        _always('this is {a_road}', 'we are on {a_road}', 'it is {a_road}', '{a_road}')),
    'curve': Kind(
        'curve', lambda truth: truth.curve,
        ('Does the road curve?', 'Is the road straight?', 'Which way does the road go?',
         'Is there a bend?'),
        _always('the road {curve}', 'it {curve}', 'the road here {curve}', 'our lane {curve}')),
    'count': Kind(
        'count', _vehicle_count,
        ('How many vehicles are in sight?', 'How many vehicles do you see?',
         'How many vehicles are there?', 'Count the vehicles.'),
        _always('I see {count}', '{count}', 'I can see {count}'),
        claims=_NUMERALS),
    'risk': Kind(
        'risk', lambda truth: truth.risk,
        ('What is the risk level?', 'How high is the risk?', 'How dangerous is this?',
         'How big is the risk?'),
        {'none': ('there is {risk}', 'I see {risk} here', 'there is {risk} at the moment'),
         '*': ('the risk is {risk}', 'the risk level is {risk}', 'it is a {risk} risk',
               'the danger is {risk}')},
        claims={'none': NOTHING}),
    'distance': Kind(
        'distance', _hazard_distance,
        ('How close is the hazard?', 'How far away is the hazard?', 'Is the hazard near or far?',
         'How near is the danger?'),
        _without_hazard('it is {distance}', 'the {object} is {distance}',
                        'the hazard is {distance}'),
        claims=_NO_HAZARD),
    'signal': Kind(
        'signal', _signal,
        ('What does the traffic light show?', 'Which colour is the traffic light?',
         'Is the light red or green?', 'Is the traffic light red?'),
        _always('it is {signal}', 'the traffic light is {signal}', 'the light is {signal}')),
    'braking': Kind(
        'verdict', _braking_ahead,
        ('Is the vehicle ahead braking?', 'Does the vehicle ahead brake?',
         'Is the one in front slowing down?', 'Is the vehicle in front braking?'),
        {'yes': ('yes, the {object} {does}', 'yes, it {does}', 'yes, the {object} ahead {does}'),
         'no': ('no, the {object} {does}', 'no, it {does}', 'no, the {object} ahead {does}')},
        claims={'yes': _motions('braking'),
                'no': _motions(*(motion for motion in MOTION_PHRASES if motion != 'braking'))}),
    **PRESENCE,
}
