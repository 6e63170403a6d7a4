# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the grammar writes is true, well formed, varied, and can be read back."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
import re
from typing import Any, TypeVar

import numpy as np
import pytest

from vts_ros.lab.scenes import fact_reader, sentences, window_questions
from vts_ros.lab.scenes.phrases import FACTS, MOTION_PHRASES
from vts_ros.lab.scenes.question_kinds import KINDS, PRESENCE
from vts_ros.lab.scenes.scene_truth import (
    ACTIONS,
    Actor,
    CURVES,
    LABELS,
    LIGHTS,
    MOTIONS,
    PLACES,
    ROADS,
    TRUE_LEVELS,
    WEATHERS,
    WindowTruth,
)
from vts_ros.lab.scenes.window_questions import answer_right, Question
from vts_ros.vlm.answers import Answer

pytestmark = pytest.mark.slow

T = TypeVar('T')
Asked = list[tuple[WindowTruth, Question]]
Phrasings = dict[str, dict[frozenset[tuple[str, str]], set[str]]]

NUMBER_OF_TRUTHS = 600
FIXED = ('traffic light', 'barrier')


def draw(rng: np.random.Generator, values: Sequence[T]) -> T:
    return values[int(rng.integers(len(values)))]


def random_actor(rng: np.random.Generator, number: int, label: str | None = None,
                 motion: str | None = None, is_risk: bool = False) -> Actor:
    left, top = rng.uniform(0.0, 0.7, 2)
    width, height = rng.uniform(0.02, 0.3, 2)
    label = label or draw(rng, LABELS)
    detail = '' if label != 'traffic light' else 'red' if is_risk else 'green'
    return Actor(
        id=number, label=label, detail=detail,
        box=(left, top, left + width, top + height), visible=float(rng.uniform(0.1, 1.0)),
        distance_m=float(rng.uniform(4.0, 80.0)), lateral_m=float(rng.uniform(-6.0, 6.0)),
        speed_mps=float(rng.uniform(0.0, 20.0)), motion=motion or draw(rng, MOTIONS),
        is_risk=is_risk)


def random_truth(seed: int) -> WindowTruth:
    """Draw every combination of facts, also such as no scene family would give."""
    rng = np.random.default_rng(seed)
    risk = draw(rng, TRUE_LEVELS)
    actors = [random_actor(rng, number) for number in range(rng.integers(0, 6))]
    label = place = motion = box = ttc = None
    action = 'keep going'
    if risk != 'none':
        label, place, action = draw(rng, LABELS), draw(rng, PLACES), draw(rng, ACTIONS)
        motion = 'stopped' if label in FIXED else draw(rng, MOTIONS)
        actors.append(random_actor(rng, len(actors), label, motion, is_risk=True))
        box, ttc = actors[-1].box, 2.5
    return WindowTruth(
        family='random', seed=seed, risk=risk, label=label, box=box, place=place, motion=motion,
        action=action, ttc_sec=ttc, light=draw(rng, LIGHTS),
        weather=draw(rng, WEATHERS),
        road=draw(rng, ROADS),
        curve=draw(rng, CURVES), lanes=int(rng.integers(1, 5)),
        ego_speed_mps=float(rng.uniform(0.0, 30.0)), actors=tuple(actors))


@pytest.fixture(scope='module')
def truths() -> list[WindowTruth]:
    return [random_truth(seed) for seed in range(NUMBER_OF_TRUTHS)]


@pytest.fixture(scope='module')
def answers(truths: list[WindowTruth]) -> list[Answer]:
    return [sentences.answer(truth, np.random.default_rng(truth.seed)) for truth in truths]


@pytest.fixture(scope='module')
def asked(truths: list[WindowTruth]) -> Asked:
    """Pairs of a truth and one of its questions; all the questions that it allows."""
    return [(truth, question) for truth in truths
            for question in window_questions.questions(
                truth, np.random.default_rng(truth.seed), n=99)]


def a_truth(**changes: Any) -> WindowTruth:
    """Return a truth in which a braking truck ahead is the hazard."""
    truck = Actor(id=1, label='truck', box=(0.4, 0.4, 0.6, 0.6), visible=1.0, distance_m=9.0,
                  lateral_m=0.0, speed_mps=4.0, motion='braking', is_risk=True)
    truth = WindowTruth(
        family='lead', seed=0, risk='high', label='truck', box=truck.box, place='ahead',
        motion='braking', action='brake hard', ttc_sec=1.5, light='day', weather='rain',
        road='motorway', curve='straight', lanes=3, ego_speed_mps=14.0, actors=(truck,))
    return replace(truth, **changes)


def test_all_facts_are_read_back(truths: list[WindowTruth], answers: list[Answer]) -> None:
    for truth, answer in zip(truths, answers, strict=True):
        expected = {'object': truth.label, 'place': truth.place, 'motion': truth.motion,
                    'action': None}
        assert fact_reader.facts(answer.explanation) == expected, answer.explanation
        expected = dict.fromkeys(expected) | {'action': truth.action}
        assert fact_reader.facts(answer.action) == expected, answer.action


def test_tables_cover_all_values() -> None:
    assert tuple(FACTS['object']) == LABELS
    assert set(FACTS['place']) == set(PLACES)
    assert set(FACTS['motion']) == set(MOTIONS)
    assert set(FACTS['action']) == set(ACTIONS)
    for motion in MOTIONS:
        assert len(set(MOTION_PHRASES[motion].predicates)) >= 6


@pytest.mark.parametrize('fact', FACTS)
def test_a_phrase_means_one_value(fact: str) -> None:
    phrases = Counter(phrase for value, several in FACTS[fact].items()
                      for phrase in {value, *several})
    assert [phrase for phrase, count in phrases.items() if count > 1] == []


def test_plain_and_imitated_words_are_read() -> None:
    read = fact_reader.facts('A Person on a  bicycle, on the left, is moving across the road')
    assert read == {'object': 'cyclist', 'place': 'left', 'motion': 'crossing', 'action': None}
    assert fact_reader.facts('truck ahead braking: brake') == {
        'object': 'truck', 'place': 'ahead', 'motion': 'braking', 'action': 'brake'}
    nothing = fact_reader.facts('Oscar: cargo headed outright nonstop, brightly')
    assert set(nothing.values()) == {None}


def test_answer_carries_the_truth(truths: list[WindowTruth], answers: list[Answer]) -> None:
    for truth, answer in zip(truths, answers, strict=True):
        assert (answer.risk, answer.label) == (truth.risk, truth.label)
        if truth.box is None or answer.box is None:
            assert truth.box == answer.box
        else:
            assert answer.box == pytest.approx(truth.box, abs=0.0051)
            assert all(edge == round(edge, 2) for edge in answer.box)


def check_sentence(text: str) -> None:
    assert text.isascii()
    assert not re.search(r'\d|  | ,|[,:]\.|{', text), text
    assert re.fullmatch(r'[A-Z][^.]*\.', text), text
    assert not re.search(r'\ban (?![aeiou])|\ba (?=[aeiou])', text.lower()), text


def test_sentences_are_well_formed(answers: list[Answer], asked: Asked) -> None:
    for answer in answers:
        check_sentence(answer.description)
        check_sentence(answer.explanation)
        assert 10 <= len(answer.description.split()) <= 22
        assert 8 <= len(answer.explanation.split()) <= 18
        assert 2 <= len(answer.action.split()) <= 5
    for _, question in asked:
        check_sentence(question.answer)
        assert re.fullmatch(r'[A-Z][^.?]*[.?]', question.text)


def test_description_tells_light_weather_road_and_curve(truths: list[WindowTruth],
                                                        answers: list[Answer]) -> None:
    for truth, answer in zip(truths, answers, strict=True):
        for fact in ('light', 'weather', 'road', 'curve'):
            phrases = FACTS[fact][getattr(truth, fact)]
            assert any(phrase in answer.description.lower() for phrase in phrases)
        if truth.label is not None:
            continue
        seen = {actor.label for actor in truth.actors
                if actor.visible > 0.5 and actor.box[3] - actor.box[1] > 0.06}
        named = fact_reader.facts(answer.description)['object']
        assert named in seen if seen else named is None, answer.description


def test_texts_vary(answers: list[Answer]) -> None:
    explanations = {answer.explanation for answer in answers if answer.label}
    assert len(explanations) > 0.95 * sum(answer.label is not None for answer in answers)
    assert len({answer.description for answer in answers}) > 0.95 * len(answers)
    rng = np.random.default_rng(0)
    assert len({sentences.answer(a_truth(), rng).explanation for _ in range(300)}) > 250


def test_vocabulary_stays_small(answers: list[Answer], asked: Asked) -> None:
    texts = [text for answer in answers
             for text in (answer.description, answer.explanation, answer.action)]
    texts += [text for _, question in asked for text in (question.text, question.answer)]
    assert len(set(re.findall(r'[a-z]+', ' '.join(texts).lower()))) < 450


def test_same_seed_same_text(truths: list[WindowTruth]) -> None:
    def texts(truth: WindowTruth, seed: int) -> tuple[Answer, list[Question]]:
        rng = np.random.default_rng(seed)
        return sentences.answer(truth, rng), window_questions.questions(truth, rng)

    for truth in truths[:50]:
        assert texts(truth, 3) == texts(truth, 3)
        assert texts(truth, 3) != texts(truth, 4)


def test_own_answers_are_right(asked: Asked) -> None:
    for truth, question in asked:
        assert answer_right(question.kind, truth, question.answer), question
        assert answer_right(question.text, truth, question.answer), question


@pytest.fixture(scope='module')
def phrasings(truths: list[WindowTruth]) -> Phrasings:
    """Map kinds to what is true, and that to the answers that were drawn for it."""
    found: Phrasings = defaultdict(lambda: defaultdict(set))
    truck = a_truth().actors[0]
    queues = [a_truth(actors=(truck,) * count) for count in range(8)]
    for truth in (*truths, *queues):
        for number in range(8):
            for question in window_questions.questions(
                    truth, np.random.default_rng((truth.seed, len(truth.actors), number)), n=99):
                found[question.kind][frozenset(question.facts.items())].add(question.answer)
    return found


def as_sentence(text: str) -> str:
    return f'{text[0].upper()}{text[1:]}.'


@pytest.mark.parametrize('kind', KINDS)
def test_every_phrasing_is_judged(kind: str, phrasings: Phrasings) -> None:
    """All phrasings for what is true are right, and those for all else that could be wrong."""
    by_facts = phrasings[kind]
    assert {value for facts in by_facts for name, value in facts if name == kind} == (
        {'yes', 'no'} if KINDS[kind].fact == 'verdict'
        else set(FACTS[KINDS[kind].fact]) | (
            {'none'} if 'none' in KINDS[kind].answers else set()))
    # Of the actions with their reasons there are too many to try each with each.
    for facts in list(by_facts)[:60]:
        question = Question(kind, '', '', dict(facts))
        for others, answers in by_facts.items():
            for answer in answers:
                assert question.is_right(answer) == (facts == others), (facts, answer)


@pytest.mark.parametrize('kind', KINDS)
def test_no_phrasing_is_left_out(kind: str, phrasings: Phrasings) -> None:
    answers = set().union(*phrasings[kind].values())
    said = '\n'.join(answers).lower()
    plain = {as_sentence(text) for texts in KINDS[kind].answers.values()
             for text in texts if '{' not in text}
    assert plain <= answers
    phrases = {phrase for several in FACTS[KINDS[kind].fact].values()
               for phrase in several}
    assert [phrase for phrase in phrases if phrase not in said] == []


@pytest.mark.parametrize(('kind', 'text'), [
    ('object', 'The main hazard is a truck or a car.'),
    ('object', 'A truck ahead, but there is no hazard.'),
    ('place', 'It is on the left and in our lane.'),
    ('motion', 'It brakes and stands still.'),
    ('action', 'Brake hard or keep going, because a truck ahead brakes.'),
    ('action', 'Brake hard.'),
    ('action', 'Brake hard, because a bus ahead brakes.'),
    ('action', 'Brake hard, because a truck on the left brakes.'),
    ('action', 'Brake hard, because a truck ahead waits.'),
    ('action', 'Brake hard, because nobody gets too close to us.'),
    ('safety', 'No, there is no conflict.'),
    ('safety', 'No, the gap is short but safe for now.'),
    ('weather', 'There is rain in dry weather.'),
    ('light', 'By day, after dark.'),
    ('count', 'I see one vehicle or two vehicles.'),
    ('risk', 'The risk is high or low.'),
    ('distance', 'It is near and far.'),
    ('signal', 'It is red and green.'),
    ('braking', 'Yes, it stands still.'),
    ('presence of truck', 'Yes, there is no truck.'),
    ('presence of truck', 'Yes, no truck is in sight.'),
    ('presence of truck', 'Yes, there is a bus.'),
    ('presence of bus', 'No, there is a bus.'),
    ('presence of bus', 'Yes. No.')])
def test_contradictions_are_wrong(kind: str, text: str) -> None:
    truck = a_truth().actors[0]
    light = replace(truck, label='traffic light', detail='green', is_risk=False)
    assert not answer_right(kind, a_truth(actors=(truck, light)), text)


@pytest.mark.parametrize(('kind', 'text'), [
    ('count', 'There is 1 vehicle.'),
    ('object', 'truck'),
    ('safety', 'No'),
    ('safety', 'No, there is no time to lose, and no way around it.'),
    ('presence of truck', 'There is a lorry.'),
    ('presence of truck', 'Yes, I see a truck and no bus.'),
    ('presence of bus', 'There is no coach.'),
    ('weather', 'It is a day with rain.')])
def test_other_words_for_what_is_true_are_right(kind: str, text: str) -> None:
    assert answer_right(kind, a_truth(), text)


def test_a_reason_can_contradict_its_verdict() -> None:
    low, slower = a_truth(risk='low'), a_truth(motion='slower')
    assert answer_right('safety', low, 'Yes, some care is enough for now.')
    assert not answer_right('safety', low, 'Yes, a crash is only moments away.')
    assert answer_right('braking', slower, 'No, it moves slower than us.')
    assert not answer_right('braking', slower, 'No, it brakes.')
    assert answer_right('braking', a_truth(), 'Yes, it brakes.')
    assert not answer_right('braking', a_truth(), 'Yes, it moves slower than us.')


def test_what_is_not_clear_cannot_be_right() -> None:
    unclear = a_truth(place='left')
    assert not answer_right('braking', unclear, 'Yes, it brakes.')
    assert not answer_right('braking', unclear, 'No, it stands still.')


def test_empty_answers_are_wrong_and_unknown_questions_refused() -> None:
    for kind in KINDS:
        assert not answer_right(kind, a_truth(), '')
        assert not answer_right(kind, a_truth(), 'Hello world.')
    with pytest.raises(ValueError, match='unknown question'):
        answer_right('Who are you?', a_truth(), 'yes')


def test_questions_are_different_kinds(truths: list[WindowTruth]) -> None:
    seen: Counter[str] = Counter()
    for truth in truths:
        several = window_questions.questions(truth, np.random.default_rng(truth.seed))
        assert len({question.kind for question in several}) == 5
        assert sum(question.kind in PRESENCE for question in several) <= 1
        seen.update(question.kind for question in several)
        assert {question.topic for question in several if question.kind in PRESENCE} <= {
            'presence'}
    assert set(seen) == set(KINDS)
    texts = [text.lower() for kind in KINDS.values() for text in kind.texts]
    assert len(texts) == len(set(texts))


def test_presence_is_asked_in_balance(asked: Asked) -> None:
    verdicts = Counter(question.answer.split(',')[0] for _, question in asked
                       if question.kind in PRESENCE)
    assert 0.4 < verdicts['Yes'] / (verdicts['Yes'] + verdicts['No']) < 0.6


@pytest.mark.parametrize(('kind', 'right', 'wrong'), [
    ('object', 'A lorry ahead.', 'The main hazard is a car ahead.'),
    ('place', 'It is in our lane.', 'It is on the left.'),
    ('motion', 'It slows down.', 'It moves slower than us.'),
    ('action', 'We should brake fully, as a lorry in our lane slows down.',
     'Brake now, as a truck ahead brakes.'),
    ('safety', 'No, a crash is only moments away.', 'Yes, there is no conflict.'),
    ('weather', 'There is falling rain.', 'There is dry weather.'),
    ('light', 'We drive in daylight.', 'At night.'),
    ('road', 'This is a highway.', 'This is a city street.'),
    ('curve', 'The road has no bend.', 'The road bends right.'),
    ('count', 'I see one vehicle.', 'I see two vehicles.'),
    ('risk', 'The risk is severe.', 'There is no risk.'),
    ('distance', 'It is close by.', 'It is some way off.'),
    ('signal', 'The light is green.', 'It is red.'),
    ('braking', 'Yes, it brakes.', 'No, it stands still.'),
    ('presence of truck', 'Yes, a truck is in sight.', 'No, there is no truck.'),
    ('presence of bus', 'No, there is no bus.', 'Yes, there is a bus.'),
    ('Is there a truck?', 'yes', 'no'),
])
def test_grading(kind: str, right: str, wrong: str) -> None:
    truck = a_truth().actors[0]
    light = replace(truck, label='traffic light', detail='green', is_risk=False)
    truth = a_truth(actors=(truck, light))
    assert answer_right(kind, truth, right)
    assert not answer_right(kind, truth, wrong)


def test_no_hazard_is_an_answer_of_its_own() -> None:
    clear = a_truth(risk='none', label=None, box=None, place=None, motion=None,
                    action='keep going', actors=())
    for kind in ('object', 'place', 'motion', 'distance'):
        assert answer_right(kind, clear, 'There is no hazard.')
        assert not answer_right(kind, a_truth(), 'There is no hazard.')
    assert not answer_right('object', clear, 'A truck ahead.')


def test_only_vehicles_in_clear_view_are_counted() -> None:
    truck = a_truth().actors[0]
    others = (replace(truck, visible=0.4), replace(truck, box=(0.4, 0.4, 0.5, 0.45)),
              replace(truck, label='cyclist'), replace(truck, label='car', is_risk=False))
    assert answer_right('count', a_truth(actors=(truck, *others)), 'Two vehicles.')


def test_what_is_unclear_is_not_asked() -> None:
    hidden = Actor(id=2, label='animal', box=(0.1, 0.5, 0.2, 0.6), visible=0.2, distance_m=30.0,
                   lateral_m=4.0, speed_mps=0.0, motion='stopped', is_risk=False)
    child = replace(hidden, label='child', visible=1.0)
    truth = a_truth(actors=(replace(a_truth().actors[0], distance_m=15.5), hidden, child))
    kinds = {question.kind for seed in range(60)
             for question in window_questions.questions(truth, np.random.default_rng(seed), n=99)}
    assert kinds.isdisjoint({'distance', 'presence of animal', 'presence of pedestrian'})
    assert {'presence of child', 'presence of bus', 'braking'} <= kinds


def test_description_tells_parked_vehicles_and_the_colour_of_lights() -> None:
    truck = replace(a_truth().actors[0], is_risk=False)
    parked = replace(truck, parked=True, detail='white')
    light = replace(truck, label='traffic light', detail='green')
    rng = np.random.default_rng(0)

    def description(actor: Actor) -> str:
        truth = a_truth(risk='none', label=None, place=None, motion=None, actors=(actor,))
        return sentences.answer(truth, rng).description

    for _ in range(20):
        assert re.search('parked (truck|lorry)', description(parked))
        assert re.search('green (traffic|signal|light)', description(light))
        assert not re.search('parked|green|white', description(replace(truck, detail='white')))


def texts_of(truth: WindowTruth, part: str, count: int = 40) -> list[str]:
    rng = np.random.default_rng(1)
    return [getattr(sentences.answer(truth, rng), part) for _ in range(count)]


def test_description_places_the_nearest_first() -> None:
    truck = replace(a_truth().actors[0], is_risk=False, distance_m=20.0, lateral_m=4.0)
    bus = replace(truck, label='bus', distance_m=10.0, lateral_m=-4.0)
    middle = replace(truck, lateral_m=1.5)
    clear = a_truth(risk='none', label=None, place=None, motion=None)
    for text in texts_of(replace(clear, actors=(truck, bus)), 'description'):
        nearest = fact_reader.facts(text)
        assert (nearest['object'], nearest['place']) == ('bus', 'right'), text
        assert 'truck' not in text or ' left' in text
    for text in texts_of(replace(clear, actors=(middle,)), 'description'):
        assert fact_reader.facts(text)['place'] is None, text
    # The risk object may reach into the corridor although its centre does not.
    inside = a_truth(actors=(replace(middle, is_risk=True),))
    places = {fact_reader.facts(text)['place'] for text in texts_of(inside, 'description')}
    assert places == {'ahead'}


def test_lights_are_red_and_barriers_do_not_come_to_a_stop() -> None:
    light = a_truth(label='traffic light', motion='stopped')
    for text in texts_of(light, 'explanation'):
        assert re.search(r'\bred\b', text), text
        assert not re.search('collide|crash', text), text
    barrier = a_truth(label='barrier', motion='stopped')
    assert not any('has stopped' in text for text in texts_of(barrier, 'explanation'))


def test_reasons_follow_level_and_place() -> None:
    low = a_truth(risk='low')
    assert any('gap' in text for text in texts_of(low, 'explanation'))
    assert not any('gap' in text for text in texts_of(replace(low, place='left'), 'explanation'))
    assert not any('moment' in text for text in texts_of(low, 'explanation'))
    assert any('moment' in text for text in texts_of(a_truth(), 'explanation'))


def test_an_empty_road_is_told_from_a_safe_one() -> None:
    clear = a_truth(risk='none', label=None, place=None, motion=None)
    for text in texts_of(clear, 'explanation'):
        assert re.search('else|others|obody gets', text), text
    for text in texts_of(replace(clear, actors=()), 'explanation'):
        assert re.search('o other traffic|nobody around|empty|alone', text), text


def test_low_risk_is_safe_and_only_the_vehicle_ahead_brakes() -> None:
    assert answer_right('safety', a_truth(risk='low'), 'Yes.')
    assert KINDS['braking'].value(a_truth(place='left')) is None
    assert KINDS['braking'].value(a_truth(label='cyclist')) is None
