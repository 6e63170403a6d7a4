# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Seeded answers about a window of which the truth is known: what a perfect model would say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vts_ros.lab.scenes.phrases import (
    ACTION_PHRASES,
    CLEAR,
    CLEAR_EXPLANATIONS,
    DESCRIPTIONS,
    EMPTY_AROUND,
    EXPLANATIONS,
    FACTS,
    FIXED_PHRASES,
    LANE_WORDS,
    LANES_PHRASES,
    MOTION_PHRASES,
    MotionPhrases,
    NOTHING,
    OBJECT_PHRASES,
    PLACE_PHRASES,
    PLAIN_DESCRIPTIONS,
    REASONS,
    WHY_CLEAR,
    with_article,
)
from vts_ros.lab.scenes.question_kinds import in_view, KINDS
from vts_ros.lab.scenes.scene_truth import Actor, WindowTruth
from vts_ros.vlm.answers import Answer

DESCRIPTION_WORDS = (10, 22)
EXPLANATION_WORDS = (8, 18)
#: Of descriptions of windows of which only the road users are known.
PLAIN_WORDS = (3, 30)
#: A centre farther to the side than this is beside the ego corridor, whatever the width.
BESIDE_M = 2.5
#: A centre nearer than this is in the ego corridor, however narrow.
INSIDE_M = 0.8


def answer(truth: WindowTruth, rng: np.random.Generator) -> Answer:
    """Write the answer that a perfect model would give about a window."""
    templates = CLEAR_EXPLANATIONS if truth.label is None else EXPLANATIONS
    whole, plain = (DESCRIPTIONS, DESCRIPTION_WORDS), (PLAIN_DESCRIPTIONS, PLAIN_WORDS)
    descriptions, words = whole if truth.is_whole else plain
    return Answer(
        description=_sentence(descriptions, truth, rng, words),
        risk=truth.risk,
        label=truth.label,
        box=_rounded(truth.box),
        explanation=_sentence(templates, truth, rng, EXPLANATION_WORDS),
        action=pick(rng, ACTION_PHRASES[truth.action]),
    )


def _sentence(templates: Sequence[str], truth: WindowTruth, rng: np.random.Generator,
              words: tuple[int, int]) -> str:
    """Write until the number of words fits; each set of templates has some that do."""
    while True:
        text = write(pick(rng, templates), truth, rng)
        if words[0] <= len(text.split()) <= words[1]:
            return text


def write(template: str, truth: WindowTruth, rng: np.random.Generator) -> str:
    """Fill a template with phrases for what is true of the window."""
    text = template.format_map(_words(truth, rng))
    return f'{text[0].upper()}{text[1:]}.'


def _words(truth: WindowTruth, rng: np.random.Generator) -> dict[str, str]:
    """Draw a phrase for everything that is true of the window."""
    values = {name: kind.value(truth) for name, kind in KINDS.items() if name in FACTS}
    words = {name: pick(rng, FACTS[name].get(value or '', NOTHING))
             for name, value in values.items()}
    words['a_road'] = with_article(words['road'])
    if truth.lanes is not None:
        words['lanes'] = pick(
            rng, LANES_PHRASES[LANE_WORDS[min(truth.lanes, len(LANE_WORDS)) - 1]])
    words['around'] = _around(truth, rng)
    words['nothing'] = pick(rng, NOTHING)
    if truth.label is None:
        words['clear'] = pick(rng, CLEAR)
        words['why'] = pick(rng, WHY_CLEAR[bool(truth.actors)])
        return words
    motion = _motion_phrases(truth)
    words['an_object'] = with_article(words['object'])
    words['does'] = pick(rng, motion.predicates)
    words['state'] = pick(rng, motion.states)
    words['reason'] = pick(rng, REASONS[truth.risk, _meaning(truth)])
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
    seen = sorted(filter(in_view, truth.actors), key=lambda actor: actor.distance_m)
    # A dict, not a set: it drops repetitions and keeps the order.
    mentions = list(dict.fromkeys(
        (_adjective(actor), actor.label, _place(actor, truth)) for actor in seen))
    named = [_mention(rng, *mention) for mention in mentions[:int(rng.integers(1, 4))]]
    if not named:
        return pick(rng, EMPTY_AROUND)
    return ' and '.join(filter(None, (', '.join(named[:-1]), named[-1])))


def _mention(rng: np.random.Generator, adjective: str, label: str, place: str | None) -> str:
    text = with_article(f'{adjective} {pick(rng, OBJECT_PHRASES[label])}'.strip())
    return f'{text} {pick(rng, PLACE_PHRASES[place])}' if place else text


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


def _rounded(box: tuple[float, float, float, float] | None,
             ) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    left, top, right, bottom = (round(float(edge), 2) for edge in box)
    return left, top, right, bottom


def pick(rng: np.random.Generator, phrases: Sequence[str]) -> str:
    """Draw one of some phrases."""
    return phrases[int(rng.integers(len(phrases)))]
