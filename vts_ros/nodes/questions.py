# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Questions: each gets a number, a place in a bounded queue, and exactly one reply."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
import threading
from typing import Any

from vts_ros.nodes.jobs import INTERRUPTED, Jobs, QUESTION
from vts_ros.nodes.outputs import Outputs
from vts_ros.nodes.worker import Stop, Worker
from vts_ros.pipeline.pipeline_health import PipelineHealth

OnText = Callable[[int, str], object]

#: Why a question has no answer that was taken back by who asked it.
CANCELLED = 'cancelled'
#: So many questions may wait; each holds up the descriptions for as long as its answer takes.
MAX_QUESTIONS = 8
MAX_QUESTION_CHARS = 500


class Asked:
    """
    A question that was accepted.

    Attributes
    ----------
    number
        Its number.
    reply
        Its answer, and why there is none; one of them is empty.

    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.reply: Future[tuple[str, str]] = Future()
        self._cancelled = threading.Event()
        self._job: Future[tuple[bool, str]] | None = None

    def waits_for(self, job: Future[tuple[bool, str]]) -> None:
        """Note which job of the worker answers it."""
        self._job = job

    @property
    def is_cancelled(self) -> bool:
        """Return whether the question was cancelled."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Cancel the question, also while it is answered."""
        self._cancelled.set()
        if self._job:
            self._job.cancel()


class Questions:
    """
    Has questions answered, whatever the state of the node.

    Parameters
    ----------
    worker, jobs
        The thread and the job that answer; while the node is inactive the reply says so.
    outputs, health
        Where replies go, and where refusals are counted.
    log, is_up
        Logger of the node, and whether it is not just ending.

    """

    def __init__(self, worker: Worker, jobs: Jobs, outputs: Outputs, health: PipelineHealth,
                 log: Any, is_up: Callable[[], bool]) -> None:
        self._worker, self._jobs, self._outputs = worker, jobs, outputs
        self._health, self._log, self._is_up = health, log, is_up
        self._numbers = count(1)
        self._places = threading.Semaphore(MAX_QUESTIONS)

    def ask(self, question: str, on_text: OnText | None = None) -> Asked:
        """
        Accept a question; its reply comes on ``~/answer`` under its number.

        Parameters
        ----------
        on_text
            Given its number and the answer piece by piece, beside ``~/answer_partial``.

        """
        # Blanks around it are not counted, so they must not reach the model.
        asked, wanted = Asked(next(self._numbers)), question.strip()
        if not 0 < len(wanted) <= MAX_QUESTION_CHARS:
            self._refuse(asked, question, f'expected 1 to {MAX_QUESTION_CHARS} characters')
        elif not self._places.acquire(blocking=False):
            self._refuse(asked, question, f'{MAX_QUESTIONS} others are waiting')
        else:
            job = self._worker.submit(QUESTION, lambda stop: self._jobs.attempt(
                lambda end: self._answer(asked, wanted, end, on_text), stop))
            asked.waits_for(job)
            job.add_done_callback(lambda done: self._reply(asked, wanted, done))
        return asked

    def _answer(self, asked: Asked, question: str, stop: Stop, on_text: OnText | None) -> str:
        def tell(text: str) -> None:
            self._outputs.reply_part(asked.number, text)
            if on_text:
                on_text(asked.number, text)

        return self._jobs.ask(question, lambda: stop() or asked.is_cancelled, tell)

    def _refuse(self, asked: Asked, question: str, reason: str) -> None:
        self._health.counters['questions_refused'] += 1
        self._log.warning(f'question refused: {reason}', throttle_duration_sec=5.0)
        self._say(asked, question[:MAX_QUESTION_CHARS], '', reason)

    def _reply(self, asked: Asked, question: str, job: Future[tuple[bool, str]]) -> None:
        self._places.release()
        is_answered, text = (False, INTERRUPTED) if job.cancelled() else job.result()
        if is_answered:
            self._say(asked, question, text, '')
        else:
            self._say(asked, question, '', CANCELLED if asked.is_cancelled else text)

    def _say(self, asked: Asked, question: str, answer: str, error: str) -> None:
        if self._is_up():
            self._outputs.reply(asked.number, question, answer, error)
        asked.reply.set_result((answer, error))
