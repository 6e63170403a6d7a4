# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Questions by themselves: numbers, places, refusals. Over DDS they are in test_node*.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy')

from node_stand_ins import RecordedJobs, RecordedOutputs, SILENT_LOG, untyped

from vts_ros.nodes.jobs import INTERRUPTED, QUESTION
from vts_ros.nodes.questions import CANCELLED, MAX_QUESTION_CHARS, MAX_QUESTIONS, Questions
from vts_ros.nodes.worker import Worker
from vts_ros.pipeline.pipeline_health import PipelineHealth


class Desk:
    """Questions on a real worker, with jobs that do nothing."""

    def __init__(self) -> None:
        self.worker, self.health, self.is_up = Worker(), PipelineHealth(), True
        self.jobs, self.outputs = untyped(RecordedJobs()), untyped(RecordedOutputs())
        self.questions = Questions(self.worker, self.jobs, self.outputs, self.health, SILENT_LOG,
                                   lambda: self.is_up)

    def finish(self) -> None:
        """Wait until the worker has done what waits."""
        self.jobs.go_on.set()
        self.worker.submit('test', lambda stop: None).result(500.0)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Return questions that nobody has asked yet."""
    opened = Desk()
    yield opened
    opened.jobs.go_on.set()
    assert opened.worker.close(60.0)


def test_every_question_gets_one_reply_under_its_number(desk: Desk) -> None:
    for text in ('first?', ' ', 'second?'):
        desk.questions.ask(text)
    desk.finish()
    assert sorted(desk.outputs.replies) == [
        (1, 'first?', 'answer to first?', ''),
        (2, ' ', '', f'expected 1 to {MAX_QUESTION_CHARS} characters'),
        (3, 'second?', 'answer to second?', '')]
    assert desk.health.counters['questions_refused'] == 1


def test_blanks_around_a_question_do_not_reach_the_model(desk: Desk) -> None:
    """They are not counted, and a million of them would fill its memory."""
    desk.questions.ask(' ' * 10**6 + 'who?' + '\n' * 10**6)
    desk.finish()
    assert desk.outputs.replies == [(1, 'who?', 'answer to who?', '')]


def test_nothing_is_begun_behind_the_end(desk: Desk) -> None:
    assert desk.worker.close(60.0)
    begun: list[str] = []
    assert not desk.worker.offer('late', lambda stop: begun.append('late'))
    desk.questions.ask('who?')
    assert (begun, [reply[3] for reply in desk.outputs.replies]) == ([], [INTERRUPTED])


def test_a_question_that_is_too_long_is_quoted_in_part(desk: Desk) -> None:
    desk.questions.ask('?' * (MAX_QUESTION_CHARS + 1))
    desk.questions.ask('?' * MAX_QUESTION_CHARS)
    desk.finish()
    (_, quoted, _, error), (_, whole, _, no_error) = desk.outputs.replies
    assert (quoted, bool(error)) == (whole, True)
    assert not no_error


def test_those_that_wait_are_bounded_and_places_are_free_again(desk: Desk) -> None:
    desk.jobs.go_on.clear()
    for number in range(3 * MAX_QUESTIONS):
        desk.questions.ask(f'{number}?')
    refused = [error for _, _, _, error in desk.outputs.replies]
    assert refused == [f'{MAX_QUESTIONS} others are waiting'] * (2 * MAX_QUESTIONS)
    desk.finish()
    assert len(desk.outputs.replies) == 3 * MAX_QUESTIONS
    desk.questions.ask('once more?')
    desk.finish()
    assert desk.outputs.replies[-1][2] == 'answer to once more?'
    assert desk.health.counters['questions_refused'] == 2 * MAX_QUESTIONS


def test_those_that_are_given_up_are_replied_to_unless_the_node_ends(desk: Desk) -> None:
    def ask_and_cancel() -> None:
        desk.jobs.go_on.clear()
        desk.worker.submit('test', lambda stop: desk.jobs.go_on.wait(500.0))
        desk.questions.ask('why?')
        desk.worker.cancel(QUESTION)
        desk.finish()

    ask_and_cancel()
    assert desk.outputs.replies == [(1, 'why?', '', INTERRUPTED)]
    desk.is_up = False
    ask_and_cancel()
    assert len(desk.outputs.replies) == 1


def test_whoever_asks_gets_the_pieces_and_the_reply(desk: Desk) -> None:
    pieces: list[tuple[int, str]] = []
    asked = desk.questions.ask('why?', lambda number, text: pieces.append((number, text)))
    assert asked.reply.result(60.0) == ('answer to why?', '')
    assert pieces == desk.outputs.parts == [(asked.number, 'answer to why?')]
    refused = desk.questions.ask('')
    assert refused.reply.result(60.0)[1].startswith('expected 1 to')


def test_whoever_asks_can_give_a_question_up_while_it_waits_and_while_it_is_answered(
        desk: Desk) -> None:
    desk.jobs.go_on.clear()
    running, waiting, kept = (desk.questions.ask(f'{number}?') for number in range(3))
    waiting.cancel()
    assert waiting.reply.result(60.0) == ('', CANCELLED)
    running.cancel()
    desk.finish()
    assert running.reply.result(60.0) == ('', CANCELLED)
    assert kept.reply.result(60.0) == ('answer to 2?', '')
    assert sorted(desk.outputs.replies) == [
        (1, '0?', '', CANCELLED), (2, '1?', '', CANCELLED), (3, '2?', 'answer to 2?', '')]
