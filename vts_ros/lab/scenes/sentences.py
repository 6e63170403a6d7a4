# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Seeded texts about a window of which the truth is known, and their reading.

The same phrase tables serve both ways: `answer` and `questions` write from them, `facts` and
`answer_right` read with them. So every fact that is written can be read back, and generated
texts are scored by what they state, not by how they are worded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
import re

import numpy as np

from vts_ros.lab.scenes.scene_truth import Actor, LABELS, WindowTruth
from vts_ros.vlm.answers import Answer

#: Value of a fact -> its phrases. The value itself can always be read, too.
Table = Mapping[str, tuple[str, ...]]

#: No phrase for a place tells a direction ('to the left'): it may follow a verb of motion.
PLACE_PHRASES: Table = {
    'left': ('on the left', 'on our left', 'on the left side', 'on our left side',
             'left of us', 'left of our lane'),
    'ahead': ('ahead', 'straight ahead', 'in front', 'in front of us', 'in our lane',
              'in our path'),
    'right': ('on the right', 'on our right', 'on the right side', 'on our right side',
              'right of us', 'right of our lane'),
}

OBJECT_PHRASES: Table = {
    'car': ('car', 'passenger car'),
    'truck': ('truck', 'lorry'),
    'bus': ('bus', 'coach'),
    'motorcycle': ('motorcycle', 'motorbike'),
    'cyclist': ('cyclist', 'bicycle rider', 'person on a bicycle'),
    'pedestrian': ('pedestrian', 'person on foot', 'walker'),
    'child': ('child', 'kid', 'young child'),
    'animal': ('animal', 'wild animal'),
    'traffic light': ('traffic light', 'signal light', 'light signal'),
    'barrier': ('barrier', 'road barrier', 'roadworks barrier'),
}

ACTION_PHRASES: Table = {
    'keep going': ('keep going', 'drive on', 'carry on', 'go on as before',
                   'continue as before'),
    'keep distance': ('keep distance', 'keep a safe gap', 'hold the gap', 'stay well back',
                      'keep well back'),
    'slow down': ('slow down', 'reduce speed', 'ease off', 'slow down a little',
                  'take off some speed'),
    'brake': ('brake now', 'brake in time', 'start to brake', 'brake early',
              'brake without delay'),
    'brake hard': ('brake hard', 'brake very hard', 'brake fully', 'brake with full force',
                   'brake as hard as possible'),
    'stop': ('stop now', 'stop in time', 'stop and wait', 'come to a stop',
             'stop without delay'),
}

LIGHT_PHRASES: Table = {
    'day': ('by day', 'in daylight', 'during the day', 'in full daylight'),
    'dusk': ('at dusk', 'in the evening light', 'in fading light', 'in the twilight'),
    'night': ('at night', 'in the dark', 'after dark', 'during the night'),
}

WEATHER_PHRASES: Table = {
    'clear': ('clear weather', 'dry weather', 'fine weather', 'good weather'),
    'rain': ('rain', 'rainy weather', 'falling rain', 'wet weather'),
    'glare': ('glare', 'strong glare', 'blinding light', 'dazzling light'),
}

ROAD_PHRASES: Table = {
    'city street': ('city street', 'town street', 'urban street', 'street in town'),
    'country road': ('country road', 'rural road', 'road in the country'),
    'motorway': ('motorway', 'highway', 'expressway'),
}

CURVE_PHRASES: Table = {
    'straight': ('runs straight', 'goes straight on', 'has no bend', 'does not bend'),
    'left': ('bends left', 'bends to the left', 'curves left', 'turns to the left'),
    'right': ('bends right', 'bends to the right', 'curves right', 'turns to the right'),
}

RISK_PHRASES: Table = {
    'none': ('no risk', 'no real risk'),
    'low': ('low', 'small', 'slight'),
    'medium': ('medium', 'moderate', 'middling'),
    'high': ('high', 'severe', 'very high'),
}

DISTANCE_PHRASES: Table = {
    'near': ('near', 'close', 'close by', 'not far away'),
    'middle': ('some way off', 'at a middle distance', 'neither near nor far'),
    'far': ('far', 'far off', 'far away', 'a long way off'),
}

COUNT_PHRASES: Table = {
    'no': ('no vehicle', 'no vehicles'),
    'one': ('one vehicle', 'a single vehicle', 'just one vehicle'),
    **{count: (f'{count} vehicles', f'{count} other vehicles')
       for count in ('two', 'three', 'four', 'five')},
    'many': ('many vehicles', 'a lot of vehicles', 'more than five vehicles'),
}

SIGNAL_PHRASES: Table = {
    'red': ('red', 'on red'),
    'green': ('green', 'on green'),
}

LANES_PHRASES: Table = {
    'one': ('one lane', 'a single lane'),
    **{count: (f'{count} lanes',) for count in ('two', 'three', 'four', 'five', 'six')},
}

#: What stands for the object where nothing is at risk.
NOTHING = ('no hazard', 'no danger', 'no conflict', 'nothing in conflict')


@dataclass(frozen=True)
class MotionPhrases:
    """States follow 'is' or the noun itself ('a car braking'), verbs follow the noun only."""

    states: tuple[str, ...]
    verbs: tuple[str, ...]

    @property
    def predicates(self) -> tuple[str, ...]:
        """Return everything that makes a sentence of a noun."""
        return self.verbs + tuple(f'is {state}' for state in self.states)


MOTION_PHRASES: Mapping[str, MotionPhrases] = {
    'stopped': MotionPhrases(
        ('standing still', 'stopped', 'not moving', 'at a standstill'),
        ('has stopped', 'stands still', 'does not move')),
    'braking': MotionPhrases(
        ('braking', 'slowing down', 'losing speed'),
        ('brakes', 'slows down', 'loses speed')),
    'same speed': MotionPhrases(
        ('moving at our speed', 'keeping the same speed', 'as fast as we are'),
        ('keeps the same speed', 'moves at our speed', 'matches our speed')),
    'oncoming': MotionPhrases(
        ('coming towards us', 'heading towards us', 'approaching us'),
        ('comes towards us', 'heads towards us', 'approaches us')),
    'cutting in': MotionPhrases(
        ('cutting in', 'moving into our lane', 'changing into our lane'),
        ('cuts in', 'moves into our lane', 'changes into our lane')),
    'crossing': MotionPhrases(
        ('crossing', 'crossing the road', 'moving across the road'),
        ('crosses', 'crosses the road', 'moves across the road')),
    'waiting': MotionPhrases(
        ('waiting', 'waiting for a gap', 'waiting for now'),
        ('waits', 'waits for a gap', 'waits for now')),
    'emerging': MotionPhrases(
        ('emerging', 'coming out', 'coming into view'),
        ('emerges', 'comes out', 'comes into view')),
    'slower': MotionPhrases(
        ('slower than us', 'moving slower than us', 'not as fast as we are'),
        ('moves slower than us', 'goes slower than us', 'does not reach our speed')),
    'pulling away': MotionPhrases(
        ('pulling away', 'moving away', 'drawing away'),
        ('pulls away', 'moves away', 'draws away')),
}

#: Things that never move need words of their own.
FIXED_PHRASES: Mapping[tuple[str, str], MotionPhrases] = {
    ('traffic light', 'stopped'): MotionPhrases(
        ('showing red', 'set to red', 'on red'), ('shows red', 'is red', 'stays red')),
    ('barrier', 'stopped'): MotionPhrases(
        ('standing still', 'fixed in place', 'not moving'),
        ('stands still', 'stands in place', 'does not move')),
}

#: Why the level is what it is, by level and what the object means for us: it is in our lane or
#: beside it, or it is a red light, which nobody collides with. Free of words from the tables
#: above, lest they are read as facts.
REASONS: Mapping[tuple[str, str], tuple[str, ...]] = {
    **dict.fromkeys((('high', 'inside'), ('high', 'beside')), (
        'a crash is only moments away', 'there is hardly any time to react',
        'we would collide in a moment', 'almost no time remains', 'we are about to collide',
        'there is no time to lose')),
    **dict.fromkeys((('medium', 'inside'), ('medium', 'beside')), (
        'we would collide in a few seconds', 'we will be there soon', 'a crash may follow soon',
        'there is only a little time to react', 'we must act within seconds',
        'it will soon be too late')),
    ('low', 'inside'): (
        'we need to watch the gap', 'the gap is short but safe for now',
        'we must be ready but no crash is coming', 'some care is enough for now',
        'the gap needs a watchful eye', 'there is still enough time'),
    ('low', 'beside'): (
        'we pass with little room but without a conflict', 'some care is enough for now',
        'we watch out but our lane stays free', 'we should watch the side of the road',
        'we must be ready but no crash is coming', 'a watchful eye is enough'),
    ('high', 'red light'): (
        'we are about to run over the line', 'there is hardly any time to react',
        'we reach the line in a moment', 'almost no time remains'),
    ('medium', 'red light'): (
        'we reach the line in a few seconds', 'we will be there soon',
        'there is only a little time to react', 'we must act within seconds'),
    ('low', 'red light'): (
        'we should be ready', 'some care is enough for now', 'there is still enough time',
        'a watchful eye is enough'),
}

EXPLANATIONS = (
    '{an_object} {place} {does}, so {reason}',
    '{an_object} {does} {place}, so {reason}',
    '{place} {an_object} {does}, so {reason}',
    'there is {an_object} {place} that {does}, so {reason}',
    'we see {an_object} {place} that {does}, so {reason}',
    'with {an_object} {state} {place}, {reason}',
    '{reason} because {an_object} {place} {does}',
    '{reason}, as {an_object} {does} {place}',
)

CLEAR_EXPLANATIONS = (
    '{clear} because {why}', '{clear}, as {why}', '{clear}, for {why}', 'because {why}, {clear}',
    '{why}, so {clear}', 'there is {nothing} because {why}', 'there is {nothing}, as {why}',
)
CLEAR = ('the way is clear', 'the road is free for us', 'we have a clear way',
         'the way is free', 'all is clear')
#: Why the way is clear, without and with others in sight.
WHY_CLEAR: Mapping[bool, tuple[str, ...]] = {
    False: ('no other traffic is in sight', 'there is nobody around to meet',
            'the road is empty of others', 'we are alone on the road'),
    True: ('everyone else keeps clear of us', 'nobody gets too close to us',
           'all others are at a safe distance', 'the others do not get near our way'),
}

DESCRIPTIONS = (
    'we drive {light} in {weather} on {a_road} that {curve}, with {around}',
    'we drive on {a_road} with {lanes} that {curve}, {light} in {weather}, with {around}',
    'this is {a_road} that {curve}, {light} in {weather}, with {around}',
    '{light} in {weather}, {a_road} {curve}, with {around}',
    '{light} in {weather}, {a_road} with {lanes} {curve}, with {around}',
    'in {weather} {light} we follow {a_road} that {curve} and see {around}',
    'we see {around} on {a_road} that {curve}, {light} in {weather}',
    'the camera shows {around} {light} in {weather} on {a_road} that {curve}',
)
EMPTY_AROUND = ('nothing clearly in sight', 'no one in clear view', 'no traffic in clear view')

VEHICLES = ('car', 'truck', 'bus', 'motorcycle')
COUNT_WORDS = tuple(COUNT_PHRASES)
LANE_WORDS = tuple(LANES_PHRASES)
#: Metres at which near becomes middle and middle far, and the share of them that is neither.
DISTANCE_BOUNDS_M = (15.0, 35.0)
DISTANCE_MARGIN = 0.15
#: A centre farther to the side than this is beside the ego corridor, whatever the width.
BESIDE_M = 2.5
#: A centre nearer than this is in the ego corridor, however narrow.
INSIDE_M = 0.8

DESCRIPTION_WORDS = (10, 22)
EXPLANATION_WORDS = (8, 18)

#: Every fact that texts state, by name.
FACTS: Mapping[str, Table] = {
    'object': OBJECT_PHRASES,
    'place': PLACE_PHRASES,
    'motion': {
        motion: tuple(chain.from_iterable(
            phrases.states + phrases.verbs for phrases in (
                usual, *(fixed for (_, of), fixed in FIXED_PHRASES.items() if of == motion))))
        for motion, usual in MOTION_PHRASES.items()},
    'action': ACTION_PHRASES,
    'light': LIGHT_PHRASES,
    'weather': WEATHER_PHRASES,
    'road': ROAD_PHRASES,
    'curve': CURVE_PHRASES,
    'risk': RISK_PHRASES,
    'distance': DISTANCE_PHRASES,
    'count': COUNT_PHRASES,
    'signal': SIGNAL_PHRASES,
    'verdict': {'yes': (), 'no': ()},
}


#: What makes a verdict of 'yes' and 'no': the latter is also part of much else.
_PAUSE = r'(?=\s*(?:[,;:.!]|$))'


class _Reader:
    """Finds the values that a text states: where phrases overlap, the first and longest."""

    def __init__(self, table: Table) -> None:
        self._values = {phrase.lower(): value for value, phrases in table.items()
                        for phrase in (value, *phrases)}
        longest_first = sorted(self._values, key=len, reverse=True)
        words = (re.escape(phrase) + (_PAUSE if phrase in FACTS['verdict'] else r'\b')
                 for phrase in longest_first)
        self._pattern = re.compile(rf'\b(?:{"|".join(words)})')

    def __call__(self, text: str) -> list[str]:
        found = self._pattern.findall(' '.join(text.lower().split()))
        return [self._values[phrase] for phrase in found]


_READ: Mapping[str, _Reader] = {
    fact: _Reader(FACTS[fact]) for fact in ('object', 'place', 'motion', 'action')}


def facts(text: str) -> dict[str, str | None]:
    """
    Read the facts back from an explanation or an action.

    Parameters
    ----------
    text
        Written by this grammar or by a model that learnt from it.

    Returns
    -------
    dict
        ``object``, ``place``, ``motion`` and ``action``: what the text states first, None where
        it does not say.

    """
    return {fact: next(iter(read(text)), None) for fact, read in _READ.items()}


def answer(truth: WindowTruth, rng: np.random.Generator) -> Answer:
    """Write the answer that a perfect model would give about a window."""
    templates = CLEAR_EXPLANATIONS if truth.label is None else EXPLANATIONS
    return Answer(
        description=_sentence(DESCRIPTIONS, truth, rng, DESCRIPTION_WORDS),
        risk=truth.risk,
        label=truth.label,
        box=_rounded(truth.box),
        explanation=_sentence(templates, truth, rng, EXPLANATION_WORDS),
        action=_pick(rng, ACTION_PHRASES[truth.action]),
    )


@dataclass(frozen=True)
class Question:
    """
    A question about a window.

    Attributes
    ----------
    kind
        Key of ``KINDS``.
    answer
        A right one.
    facts
        What a right answer states: true values by kind, that of the question first.

    """

    kind: str
    text: str
    answer: str
    facts: Mapping[str, str]

    @property
    def topic(self) -> str:
        """Return the kind, or 'presence' whatever is looked for."""
        return 'presence' if self.kind in PRESENCE else self.kind

    def is_right(self, text: str) -> bool:
        """Grade a free answer as ``answer_right`` does."""
        return _states(self.facts, text)


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
    def _reader(self) -> _Reader:
        table = FACTS[self.fact]
        return _Reader({value: (*table.get(value, ()), *self.claims.get(value, ()))
                        for value in {**table, **self.claims}})


def questions(truth: WindowTruth, rng: np.random.Generator, n: int = 5) -> list[Question]:
    """Ask n different kinds of questions about a window, fewer if it has no more to ask."""
    kinds = [name for name in KINDS
             if name not in PRESENCE and KINDS[name].value(truth) is not None]
    kinds.append(_presence_kind(truth, rng))
    return [_question(kinds[i], truth, rng)
            for i in rng.permutation(len(kinds))[:n]]


def answer_right(question: str, truth: WindowTruth, text: str) -> bool:
    """
    Grade a free answer by the facts that it states.

    It is right if it states the true value of what is asked, and no other value of that, in
    whatever words of this grammar. Where a reason is asked for, too, that must be true in object,
    place and motion. What else an answer says is not graded.

    Parameters
    ----------
    question
        Kind or text of the question.
    truth
        Truth of the window that was asked about.
    text
        The answer.

    Returns
    -------
    bool
        False also where the answer states nothing that can be read, and where the truth is not
        clear enough to ask.

    Raises
    ------
    ValueError
        If no such question is known.

    """
    name = question if question in KINDS else _KIND_BY_TEXT.get(question.strip().lower())
    if name is None:
        raise ValueError(f'unknown question {question!r}')
    return _states(_asked(name, truth), text)


def _states(values: Mapping[str, str], text: str) -> bool:
    """Tell whether a text states these values of kinds, and no others of them."""
    return bool(values) and all(
        KINDS[name].stated(text) == {value} for name, value in values.items())


def _asked(name: str, truth: WindowTruth) -> dict[str, str]:
    """Return what an answer must state; nothing where the truth is not clear enough."""
    values = {kind: KINDS[kind].value(truth) for kind in (name, *KINDS[name].reasons)}
    return {kind: value for kind, value in values.items() if value is not None}


def _question(name: str, truth: WindowTruth, rng: np.random.Generator) -> Question:
    kind = KINDS[name]
    facts = _asked(name, truth)
    templates = kind.answers[facts[name] if facts[name] in kind.answers else '*']
    return Question(name, _pick(rng, kind.texts), _write(_pick(rng, templates), truth, rng),
                    facts)


def _presence_kind(truth: WindowTruth, rng: np.random.Generator) -> str:
    """Choose what to look for. Slightly more often present: some windows have nothing."""
    by_value: dict[str | None, list[str]] = {'yes': [], 'no': [], None: []}
    for name in PRESENCE:
        by_value[KINDS[name].value(truth)].append(name)
    wanted = 'yes' if rng.random() < 0.6 else 'no'
    return _pick(rng, by_value[wanted] or by_value['no'] or by_value['yes'])


def _sentence(templates: Sequence[str], truth: WindowTruth, rng: np.random.Generator,
              words: tuple[int, int]) -> str:
    """Write until the number of words fits; each set of templates has some that do."""
    while True:
        text = _write(_pick(rng, templates), truth, rng)
        if words[0] <= len(text.split()) <= words[1]:
            return text


def _write(template: str, truth: WindowTruth, rng: np.random.Generator) -> str:
    text = template.format_map(_words(truth, rng))
    return f'{text[0].upper()}{text[1:]}.'


def _words(truth: WindowTruth, rng: np.random.Generator) -> dict[str, str]:
    """Draw a phrase for everything that is true of the window."""
    values = {name: kind.value(truth) for name, kind in KINDS.items() if name in FACTS}
    words = {name: _pick(rng, FACTS[name].get(value or '', NOTHING))
             for name, value in values.items()}
    words['a_road'] = _with_article(words['road'])
    words['lanes'] = _pick(rng, LANES_PHRASES[LANE_WORDS[min(truth.lanes, len(LANE_WORDS)) - 1]])
    words['around'] = _around(truth, rng)
    words['nothing'] = _pick(rng, NOTHING)
    if truth.label is None:
        words['clear'] = _pick(rng, CLEAR)
        words['why'] = _pick(rng, WHY_CLEAR[bool(truth.actors)])
        return words
    motion = _motion_phrases(truth)
    words['an_object'] = _with_article(words['object'])
    words['does'] = _pick(rng, motion.predicates)
    words['state'] = _pick(rng, motion.states)
    words['reason'] = _pick(rng, REASONS[truth.risk, _meaning(truth)])
    words['why'] = '{an_object} {place} {does}'.format_map(words)
    return words


def _motion_phrases(truth: WindowTruth) -> MotionPhrases:
    assert truth.label is not None
    assert truth.motion is not None
    return FIXED_PHRASES.get((truth.label, truth.motion)) or MOTION_PHRASES[truth.motion]


def _meaning(truth: WindowTruth) -> str:
    if truth.label == 'traffic light':
        return 'red light'
    return 'inside' if truth.place == 'ahead' else 'beside'


def _around(truth: WindowTruth, rng: np.random.Generator) -> str:
    """Name the nearest one to three actors that can be seen well."""
    seen = sorted(filter(_in_view, truth.actors), key=lambda actor: actor.distance_m)
    # A dict, not a set: it drops repetitions and keeps the order.
    mentions = list(dict.fromkeys(
        (_adjective(actor), actor.label, _place(actor, truth)) for actor in seen))
    named = [_mention(rng, *mention) for mention in mentions[:int(rng.integers(1, 4))]]
    if not named:
        return _pick(rng, EMPTY_AROUND)
    return ' and '.join(filter(None, (', '.join(named[:-1]), named[-1])))


def _mention(rng: np.random.Generator, adjective: str, label: str, place: str | None) -> str:
    text = _with_article(f'{adjective} {_pick(rng, OBJECT_PHRASES[label])}'.strip())
    return f'{text} {_pick(rng, PLACE_PHRASES[place])}' if place else text


def _adjective(actor: Actor) -> str:
    """Say what changes the meaning of an actor; the colour of a vehicle does not."""
    if actor.label == 'traffic light':
        return actor.detail
    return 'parked' if actor.parked else ''


def _place(actor: Actor, truth: WindowTruth) -> str | None:
    """Tell where an actor is; None where that depends on its width."""
    if actor.is_risk:
        return truth.place
    if abs(actor.lateral_m) < INSIDE_M:
        return 'ahead'
    if abs(actor.lateral_m) < BESIDE_M:
        return None
    return 'left' if actor.lateral_m > 0 else 'right'


def _clear(actor: Actor) -> bool:
    return actor.visible > 0.5 and actor.box[3] - actor.box[1] > 0.06


def _in_view(actor: Actor) -> bool:
    return actor.is_risk or _clear(actor)


def _with_article(noun: str) -> str:
    return f'{"an" if noun[0] in "aeiou" else "a"} {noun}'


def _rounded(box: tuple[float, float, float, float] | None,
             ) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    left, top, right, bottom = (round(float(edge), 2) for edge in box)
    return left, top, right, bottom


def _pick(rng: np.random.Generator, phrases: Sequence[str]) -> str:
    return phrases[int(rng.integers(len(phrases)))]


def _vehicle_count(truth: WindowTruth) -> str:
    count = sum(actor.label in VEHICLES and _clear(actor) for actor in truth.actors)
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
             if actor.label == 'traffic light' and _in_view(actor)}
    return shown.pop() if len(shown) == 1 and shown <= set(SIGNAL_PHRASES) else None


def _braking_ahead(truth: WindowTruth) -> str | None:
    if truth.label not in VEHICLES or truth.place != 'ahead':
        return None
    return _yes_if(truth.motion == 'braking')


def _present(label: str) -> Callable[[WindowTruth], str | None]:
    """Return the test for a label; a child alone is no clear case for 'pedestrian'."""
    def value(truth: WindowTruth) -> str | None:
        alike = {label, 'child'} if label == 'pedestrian' else {label}
        if any(actor.label == label and _in_view(actor) for actor in truth.actors):
            return 'yes'
        return None if any(actor.label in alike for actor in truth.actors) else 'no'
    return value


def _yes_if(condition: bool) -> str:
    return 'yes' if condition else 'no'


def _sightings(labels: Iterable[str]) -> tuple[str, ...]:
    """Return ways to say that there is one of these labels."""
    things = [_with_article(phrase) for label in labels for phrase in OBJECT_PHRASES[label]]
    return tuple(template.format(thing) for thing in things
                 for template in ('there is {}', '{} is in sight', 'I see {}'))


def _absences(label: str) -> tuple[str, ...]:
    return tuple(text for phrase in OBJECT_PHRASES[label] for text in (
        f'there is no {phrase}', f'no {phrase} is in sight',
        f'I do not see {_with_article(phrase)}'))


def _presence(label: str) -> Kind:
    thing = _with_article(label)
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


_KIND_BY_TEXT = {text.lower(): name for name, kind in KINDS.items() for text in kind.texts}

#: All questions as they are asked, whether it is safe first.
TAUGHT = tuple(text for name in ('safety', *(kind for kind in KINDS if kind != 'safety'))
               for text in KINDS[name].texts)
