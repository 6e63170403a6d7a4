# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What can be said of a window: phrases for every fact, and templates of sentences.

The same tables serve both ways: sentences and questions are written from them, and facts are read
with them. So every fact that is written can be read back, and generated texts are scored by what
they state, not by how they are worded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

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
#: Where only the road users are known.
PLAIN_DESCRIPTIONS = (
    'we see {around}', 'the camera shows {around}', 'around us there is {around}',
    'on the road there is {around}')
EMPTY_AROUND = ('nothing clearly in sight', 'no one in clear view', 'no traffic in clear view')

COUNT_WORDS = tuple(COUNT_PHRASES)
LANE_WORDS = tuple(LANES_PHRASES)

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


def with_article(noun: str) -> str:
    """Return a noun behind `a` or `an`."""
    return f'{"an" if noun[0] in "aeiou" else "a"} {noun}'
