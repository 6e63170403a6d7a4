# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The answer form: written exactly, read tolerantly, never guessed."""

from __future__ import annotations

from dataclasses import replace
import json
import time

from hypothesis import given
from hypothesis import strategies as st
import pytest

from vts_ros.vlm.answers import (
    Answer,
    begun,
    has_facts,
    inspect,
    MAX_CHARACTERS,
    parse,
    RAW_CHARACTERS,
    render,
    RISK_LEVELS,
    schema,
)
from vts_ros.vlm.boxes import Box, BoxForm, PictureSize, UnitWatch
from vts_ros.vlm.conventions import CONVENTIONS
from vts_ros.vlm.thoughts import THOUGHT

ANSWER = Answer('A city street.', 'high', 'child', (0.41, 0.2, 0.55, 1.0),
                'A child runs out.', 'brake hard')
FORM = ('{"risk": "high", "object": {"label": "child", "box": [0.41, 0.20, 0.55, 1.00]}, '
        '"explanation": "A child runs out.", "action": "brake hard", '
        '"description": "A city street."}')
QWEN25, QWEN3 = (CONVENTIONS[name].box for name in ('qwen2_5_vl', 'qwen3_vl'))
#: A camera of 1920x1080 px, of which a model of 28 px per token gets 23x13 tokens.
PICTURE = PictureSize((644.0, 364.0), (1920.0, 1080.0))


def test_render_writes_the_form_to_the_letter() -> None:
    assert render(ANSWER) == FORM
    assert render(Answer('Empty road.', 'none', action='keep going')) == (
        '{"risk": "none", "object": null, "explanation": "", "action": "keep going", '
        '"description": "Empty road."}')
    car = Answer(risk='low', label='car')
    assert json.loads(render(car))['object'] == {'label': 'car', 'box': []}


def test_the_schema_asks_for_the_form_in_its_order() -> None:
    form = schema()
    assert list(form['properties']) == form['required'] == list(json.loads(FORM))
    assert form['properties']['risk'] == {'enum': list(RISK_LEVELS)}
    found, nothing = form['properties']['object']['anyOf']
    assert found['required'] == list(json.loads(FORM)['object'])
    assert nothing == {'type': 'null'}
    side = {'minimum': 0, 'maximum': 1, 'type': 'number', 'multipleOf': 0.01}
    assert found['properties']['box']['items'] == side
    thousand, _ = schema(QWEN3)['properties']['object']['anyOf']
    assert list(thousand['properties']) == thousand['required'] == ['bbox_2d', 'label']
    assert thousand['properties']['bbox_2d']['items'] == {
        'minimum': 0, 'maximum': 1000, 'type': 'integer'}
    pixels, _ = schema(QWEN25)['properties']['object']['anyOf']
    assert pixels['properties']['bbox_2d']['items'] == {
        'minimum': 0, 'maximum': 9999, 'type': 'integer'}


def test_of_several_cameras_the_form_names_one() -> None:
    assert schema(cameras=['front']) == schema()
    for form, first in ((QWEN3, 'bbox_2d'), (BoxForm(), 'label')):
        found, _ = schema(form, ['front', 'left'])['properties']['object']['anyOf']
        assert list(found['properties'])[:2] == ['camera', first]
        assert found['required'] == list(found['properties'])
        assert found['properties']['camera'] == {'enum': ['front', 'left']}
    text = FORM.replace('{"label"', '{"camera": "left", "label"')
    assert inspect(text) == (replace(ANSWER, camera='left'), ())
    # Not half a name, and none where there is no object.
    for length in range(len(text)):
        assert parse(text[:length]).camera in (None, 'left')
    assert parse('{"risk": "none", "object": {"camera": "left", "label": null}}').camera is None
    assert parse(text.replace('high', 'no idea')).camera is None


def test_the_form_reads_back_without_a_problem() -> None:
    assert inspect(FORM) == (ANSWER, ())


# Marks of a thought are text where they stand in one.
_text = st.lists(st.one_of(
    st.text(st.characters(exclude_categories=('C', 'Z')), max_size=20),
    st.sampled_from([*THOUGHT, '{', '}', '"', '\\'])), max_size=4).map(''.join)
_side = st.integers(0, 100).map(lambda value: value / 100)


@given(_text, st.sampled_from(RISK_LEVELS), _text, st.lists(_side, min_size=4, max_size=4))
def test_every_answer_survives_writing_and_reading(
        text: str, risk: str, action: str, sides: list[float]) -> None:
    left, right = sorted(sides[:2])
    top, bottom = sorted(sides[2:])
    answer = Answer(text, risk, 'car', (left, top, right, bottom), text, action)  # type: ignore
    assert parse(render(answer)) == answer


@pytest.mark.parametrize('text', [
    f'```json\n{FORM}\n```',
    f'Sure! Here is the JSON:\n{FORM}\nDrive safely {{and}} well.',
    f'In the form {{"x": 1}} or {{y}}: {FORM}',
    f'<think>Perhaps {{"risk": "none"}}? No.</think>{FORM}',
    f'[{FORM}]',
    FORM * 3,
    '  ' + FORM.replace(', "', ',\n  "'),
    json.dumps(dict(sorted(json.loads(FORM).items()))),
    FORM.replace('"risk"', '"Risk"').replace('"high"', '"HIGH"'),
    FORM.replace('"high"', '" high risk."'),
    FORM.replace('"high"', '{"level": "high"}'),
    FORM.replace('0.41', '"0.41"').replace('1.00', '"1.00"'),
    FORM.replace('1.00', '1.03'),
    FORM.replace('city street', 'city\nstreet'),
])
def test_valid_json_is_found_wherever_it_stands(text: str) -> None:
    assert inspect(text) == (ANSWER, ())


@pytest.mark.parametrize('text', [
    FORM[:-1],
    FORM[:-2],
    FORM[:-1] + ',}',
    FORM.replace(']}', ',]}'),
    FORM.replace('"', "'"),
    '```\n' + FORM.replace('"', "'") + '\n```',
    FORM.replace('"risk"', 'risk').replace('"action"', 'action'),
    FORM.replace(', "object"', ' "object"'),
])
def test_broken_json_is_repaired_and_counted(text: str) -> None:
    assert inspect(text) == (ANSWER, ('repaired',))


@pytest.mark.parametrize('length', range(len(FORM)))
def test_a_cut_off_answer_never_gains_a_level(length: int) -> None:
    answer = parse(FORM[:length])
    said = FORM.index('"high"') + len('"high"')
    assert answer.risk == ('high' if length >= said else 'unknown')
    assert answer.label in (None, 'child')
    assert answer.box in (None, ANSWER.box)
    if has_facts(FORM[:length]):
        assert (answer.risk, answer.label, answer.box) == ('high', 'child', ANSWER.box)
    assert (ANSWER.description.startswith(answer.description)
            or answer.description == FORM[:length].strip())


@pytest.mark.parametrize('text', [
    '{"object": null, "risk": "none', '{"object": null, "risk": none', '{"object": n',
    '{"object": null, "risk": "n', '{"object": "no', "{'object': null, 'risk': 'none",
    '{"risk": "none'])
def test_a_cut_is_never_no_risk(text: str) -> None:
    answer = parse(text)
    assert (answer.risk, answer.label) == ('unknown', None)
    assert not has_facts(text)


def test_the_level_is_there_before_the_object_is() -> None:
    found = [begun(FORM[:length]) for length in range(len(FORM) + 1)]
    level, whole = found.index(('high', False)), found.index(('high', True))
    assert FORM[:level] == '{"risk": "high"'
    assert FORM[:whole].endswith('1.00]}')
    assert found == [None] * level + [('high', False)] * (whole - level) + [('high', True)] * (
        len(found) - whole)


@pytest.mark.parametrize('text', [
    'There is {"risk": "none"', '<think>{"risk": "none", ', '{"object": null, "risk": "none"}',
    '[{"risk": "none"', '{"risk": none, ', '{"risk": "none'])
def test_what_is_not_the_form_has_not_begun(text: str) -> None:
    assert begun(text) is None
    assert begun(f'{text}"', is_thought=True) is None


@pytest.mark.parametrize('before', ['', ' ', '```json\n', '```\n', '<think>no</think>\n'])
def test_an_answer_may_begin_in_a_fence_or_after_a_thought(before: str) -> None:
    assert begun(f'{before}{{"risk": "low", ') == ('low', False)
    assert begun(f'{before}{{"risk": "danger", ') == ('unknown', False)


def test_the_facts_are_there_as_soon_as_both_are_written() -> None:
    lengths = [length for length in range(len(FORM) + 1) if has_facts(FORM[:length])]
    assert lengths[0] == FORM.index('1.00]}') + len('1.00]}')
    assert has_facts('{"risk": "none", "object": null')
    assert not has_facts('{"risk": "none", "object": {"label": "car", "box": [0.1, 0.2, 0.3, 0.4]')


@pytest.mark.parametrize('level', [
    '"none, low, medium or high"', '"nonexistent"', '"medium-high"', '"severe"', '""', 'null',
    'false', '0', '[]', '["none"]', '{}', '"no"'])
def test_a_level_that_is_not_one_is_unknown(level: str) -> None:
    parsed = inspect(FORM.replace('"high"', level))
    assert parsed.answer.risk == 'unknown'
    assert parsed.problems == ('no risk',)
    assert parsed.answer.description == ANSWER.description


def test_missing_keys_leave_the_rest() -> None:
    assert inspect('{"risk": "low"}') == (Answer(risk='low'), ())
    assert inspect('{"description": "Fog."}') == (Answer('Fog.'), ('no risk',))


@pytest.mark.parametrize('text', [
    '', ' ', '}', '{', '{}', '[]', 'null', 'none', '"none"', '{"a": 1}', 'Risk: none.',
    'The road is clear, there is no risk.', '{' * 5000, '[' * 100_000, '{"a":' * 50_000,
    '{"risk' * 2000, '\x00\xff\ud800', '{"risk": ' + '[' * 3000])
def test_garbage_is_unknown_and_never_raises(text: str) -> None:
    parsed = inspect(text)
    assert parsed.answer.risk == 'unknown'
    assert parsed.problems
    assert len(parsed.answer.description) <= RAW_CHARACTERS


def test_prose_is_kept_as_the_description() -> None:
    parsed = inspect('A truck\nbrakes ahead. ' + 'x' * 1000)
    assert parsed.problems == ('no json',)
    assert parsed.answer.description.startswith('A truck brakes ahead. xxx')
    assert len(parsed.answer.description) == RAW_CHARACTERS


@given(st.text(st.sampled_from('{}[]":,\'\\ abnorisk01.-\n'), max_size=200))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    assert parse(text).risk in RISK_LEVELS


def test_text_beyond_the_limit_is_not_looked_at() -> None:
    assert parse(' ' * MAX_CHARACTERS + FORM).risk == 'unknown'


_DRAFT = 'The user wants {"object": null, "risk": "none"}. In the last picture a child runs'


@pytest.mark.parametrize('text', [
    f'<think>\n{_DRAFT}', f'<think>{FORM}', f'<think>{_DRAFT}</think><think>{FORM}',
    f'<think>{" " * MAX_CHARACTERS}{FORM}'])
def test_a_thought_without_an_end_is_no_answer(text: str) -> None:
    assert inspect(text) == (Answer(), ('unfinished thought',))
    assert not has_facts(text)
    assert inspect(f'{text}</think>{FORM}') == (ANSWER, ())
    assert has_facts(f'{text}</think>{FORM}')


def test_a_thought_that_the_prompt_opened_has_to_end() -> None:
    assert inspect(_DRAFT, is_thought=True) == (Answer(), ('unfinished thought',))
    assert inspect(f'{_DRAFT}.</think>\n{FORM}', is_thought=True) == (ANSWER, ())
    assert inspect(FORM).answer == ANSWER


def test_a_long_thought_takes_nothing_of_the_answer() -> None:
    assert inspect(f'<think>{_DRAFT * MAX_CHARACTERS}</think>{FORM}') == (ANSWER, ())


@pytest.mark.parametrize('said', [
    'A sign says <think>.', 'A sign says </think>.', '<think>', '</think></think>',
    'It \\"says\\" <think>A</think><think>'])
@pytest.mark.parametrize('around', [
    '{}', '```json\n{}\n```', 'Here it is:\n{}', '<think>It is {{"risk": "none"}}.</think>{}',
    '{}\n{}'])
def test_marks_in_a_text_of_the_answer_are_text(said: str, around: str) -> None:
    whole = FORM.replace('A city street.', said)
    answer, problems = inspect(around.format(whole, FORM))
    assert (answer.risk, answer.label, answer.box) == ('high', 'child', ANSWER.box)
    assert problems == ()
    if '{}\n' not in around:
        assert answer.description == json.loads(whole)['description']
    assert has_facts(around.format(whole, FORM))


@pytest.mark.parametrize('mark', THOUGHT)
def test_an_answer_that_is_cut_off_in_a_text_with_a_mark_stays_known(mark: str) -> None:
    whole = FORM.replace('A child runs out.', f'It says \\"{mark}\\" here.')
    for length in range(whole.index('[0.41'), len(whole)):
        answer = parse(whole[:length])
        assert (answer.risk, answer.label) == ('high', 'child')
        # Of a thought that the prompt has opened this is its beginning, or its end.
        assert parse(whole[:length], is_thought=True).risk == 'unknown'


@pytest.mark.parametrize('text', [
    # What begins in prose or in a draft may be a thought that a prompt has opened.
    f'The user wants {{"risk": "none", "description": "A</think>{FORM}',
    f'{{"risk": "none"}} </think>{FORM}', f'Not {{"risk": "none", </think>{FORM}',
    f'{{"risk": "none" <think>or "low"?</think>{FORM}', f'"{THOUGHT[0]}no{THOUGHT[1]}{FORM}'])
def test_marks_that_are_in_no_text_end_what_is_no_answer(text: str) -> None:
    assert inspect(text) == (ANSWER, ())


def test_many_marks_do_not_keep_the_parser_busy() -> None:
    for many in (THOUGHT[0], THOUGHT[1], '{' + THOUGHT[1], '{"a":' + THOUGHT[0]):
        start_sec = time.process_time()
        inspect(FORM.replace('A city', many * 40_000)[:-2])
        assert time.process_time() - start_sec < 2.0


@pytest.mark.parametrize('box', [
    '[0.1, 0.2, 0.3]', '[0.1, 0.2, 0.3, 0.4, 0.5]', '[0.5, 0.2, 0.3, 0.4]', '[0.1, 0.9, 0.3, 0.4]',
    '[100, 200, 300, 400]', '[NaN, 0.2, 0.3, 0.4]', '[0.1, 0.2, 0.3, Infinity]', '"left"',
    '[0.1, 0.2, 0.3, "x"]', '[0.1, 0.2, 0.3, null]', '[-0.5, 0.2, 0.3, 0.4]', '{}', '7',
    f'[0.1, 0.2, 0.3, {"9" * 400}]'])
def test_a_box_that_cannot_be_is_none_and_counted(box: str) -> None:
    parsed = inspect(FORM.replace('[0.41, 0.20, 0.55, 1.00]', box))
    assert parsed.answer == Answer(ANSWER.description, 'high', 'child', None,
                                   ANSWER.explanation, ANSWER.action)
    assert parsed.problems == ('bad box',)


def test_boxes_are_read_in_the_unit_of_the_prompt_only() -> None:
    text = FORM.replace('[0.41, 0.20, 0.55, 1.00]', '[410, 200, 550, 1000]')
    assert parse(text, BoxForm(scale=1000.0)).box == ANSWER.box
    assert parse(text).box is None


def said(found: str) -> str:
    """Return the form with other words for the object."""
    return FORM.replace('{"label": "child", "box": [0.41, 0.20, 0.55, 1.00]}', found)


@pytest.mark.parametrize(('form', 'found'), [
    (BoxForm(), '{"label": "child", "bbox_2d": [0.41, 0.20, 0.55, 1.00]}'),
    (BoxForm(scale=1000.0), '{"label": "child", "box": [410, 200, 550, 1000]}'),
    (BoxForm(scale=1000.0), '{"label": "child", "box": [[410, 200, 550, 1000]]}'),
    (BoxForm(scale=1000.0), '{"label": "child", "box": "<box>[[410, 200, 550, 1000]]</box>"}'),
    (BoxForm(scale=1000.0), '{"label": "child", "box": [[410, 200], [550, 1000]]}'),
    (BoxForm(scale=1000.0), '{"label": "child", "box": "(410,200),(550,1000)"}'),
    (QWEN3, '{"bbox_2d": [410, 200, 550, 1000], "label": "child"}'),
    (QWEN3, '[{"bbox_2d": [410, 200, 550, 1000], "label": "child"}, '
            '{"bbox_2d": [1, 2, 3, 4], "label": "car"}]'),
    (QWEN3, '"child", "bbox_2d": [410, 200, 550, 1000]'),
    (QWEN3, '{"Label": "child", "BBox": [410, 200, 550, 1000]}'),
    # Of 644x364 px.
    (QWEN25, '{"bbox_2d": [264.04, 72.8, 354.2, 364], "label": "child"}'),
])
@pytest.mark.parametrize('around', [
    '{}', '```json\n{}\n```', 'Here it is:\n{}\nDrive safely.',
    '<think>The box is [1, 2, 3, 4] or {{"bbox_2d": [5, 6, 7, 8]}}.</think>{}'])
def test_boxes_are_read_as_their_family_writes_them(
        form: BoxForm, found: str, around: str) -> None:
    answer, problems = inspect(around.format(said(found)), form, PICTURE)
    assert problems == ()
    assert (answer.label, answer.risk) == ('child', 'high')
    assert answer.box == pytest.approx(ANSWER.box)


@pytest.mark.parametrize(('form', 'sides', 'box'), [
    # Hundredths instead of thousandths or pixels.
    (QWEN3, '0.41, 0.20, 0.55, 1.00', ANSWER.box),
    (QWEN25, '0.41, 0.20, 0.55, 1.00', ANSWER.box),
    # Pixels of the picture as it came.
    (QWEN3, '960, 270, 1440, 1080', (0.5, 0.25, 0.75, 1.0)),
    (QWEN25, '960, 270, 1440, 1080', (0.5, 0.25, 0.75, 1.0)),
    (BoxForm(), '960, 270, 1440, 1080', (0.5, 0.25, 0.75, 1.0)),
    # Thousandths where these pixels are not in the picture.
    (BoxForm(), '500, 250, 750, 1000', None),
])
def test_a_box_in_another_unit_is_recognised_where_there_is_no_doubt(
        form: BoxForm, sides: str, box: Box | None) -> None:
    answer, problems = inspect(said(f'{{"label": "child", "bbox_2d": [{sides}]}}'), form, PICTURE)
    assert answer.box == box
    assert problems == (('bad box',) if box is None else ('other unit',))


def test_thousandths_are_recognised_where_they_cannot_be_pixels() -> None:
    small = PictureSize((224.0, 128.0), (224.0, 128.0))
    text = said('{"label": "child", "box": [410, 200, 550, 1000]}')
    assert inspect(text, BoxForm(), small) == (ANSWER, ('other unit',))
    # Without the sizes nobody can tell.
    assert inspect(text)[1] == ('bad box',)


@pytest.mark.parametrize('length', range(len(FORM)))
def test_a_box_that_was_cut_off_is_none(length: int) -> None:
    whole = said('{"bbox_2d": [410, 200, 550, 1000], "label": "child"}')
    answer = parse(whole[:length], QWEN3, PICTURE)
    assert answer.box in (None, ANSWER.box)
    assert answer.label in (None, 'child')


def test_a_wrong_unit_is_told_once_and_not_of_a_slip() -> None:
    watch = UnitWatch()
    assert not any(watch.note(astray) for astray in (True, True, True, True))
    assert watch.note(True)
    assert not any(watch.note(True) for _ in range(10))
    good = UnitWatch()
    assert not any(good.note(number % 3 == 0) for number in range(30))


@pytest.mark.parametrize('found', [
    'null', '"null"', '"none"', '""', '{}', '{"label": null}', '{"label": "", "box": null}'])
def test_no_object_is_none(found: str) -> None:
    parsed = inspect(f'{{"object": {found}, "risk": "low"}}')
    assert parsed == (Answer(risk='low'), ())


def test_an_object_without_a_place_keeps_its_label() -> None:
    assert parse('{"object": "car", "risk": "low"}').label == 'car'
    assert inspect('{"object": {"label": "car"}, "risk": "low"}') == (
        Answer(risk='low', label='car'), ())


def test_texts_can_be_sent_as_utf8_in_one_line() -> None:
    answer = parse('{"description": "a\\ud800\\u0000\\n b", "risk": "low", "action": 5}')
    assert answer.description == 'a b'
    assert answer.action == '5'


def test_the_fullest_and_last_object_is_the_answer() -> None:
    thought = 'The form is {"risk": "none"}, and I may say {"risk": "low", "action": "wait"}. '
    assert parse(thought + FORM).risk == parse(FORM).risk
    assert parse(FORM + ' Not {"risk": "none"}.').risk == parse(FORM).risk
    assert parse('{"risk": "none"} or rather {"risk": "medium"}').risk == 'medium'
