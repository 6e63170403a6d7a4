# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Questions: each gets a number, a bounded place among those that wait, and one reply."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
import threading
from typing import Any

from vts_ros.nodes.diagnostics import PipelineHealth
from vts_ros.nodes.jobs import INTERRUPTED, Jobs, QUESTION
from vts_ros.nodes.outputs import Outputs
from vts_ros.nodes.worker import Worker

#: So many questions may wait; each holds up the descriptions for as long as its answer takes.
MAX_QUESTIONS = 8
MAX_QUESTION_CHARS = 500


class Questions:
    """
    Has questions answered, in whatever state the node is.

    Parameters
    ----------
    worker, jobs
        Who answers, and how. Jobs of a node that is not active answer with that.
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

    def ask(self, question: str) -> None:
        """Take a question in; its one reply comes on ``~/answer`` under its number."""
        # Blanks around it are not counted, so they must not reach the model.
        number, asked = next(self._numbers), question.strip()
        if not 0 < len(asked) <= MAX_QUESTION_CHARS:
            self._refuse(number, question, f'expected 1 to {MAX_QUESTION_CHARS} characters')
        elif not self._places.acquire(blocking=False):
            self._refuse(number, question, f'{MAX_QUESTIONS} others are waiting')
        else:
            job = self._worker.submit(QUESTION, lambda stop: self._jobs.attempt(
                lambda end: self._jobs.ask(number, asked, end), stop))
            job.add_done_callback(lambda done: self._reply(number, asked, done))

    def _refuse(self, number: int, question: str, reason: str) -> None:
        self._health.counters['questions_refused'] += 1
        self._log.warning(f'question refused: {reason}', throttle_duration_sec=5.0)
        self._outputs.reply(number, question[:MAX_QUESTION_CHARS], '', reason)

    def _reply(self, number: int, question: str, job: Future[tuple[bool, str]]) -> None:
        self._places.release()
        is_answered, text = (False, INTERRUPTED) if job.cancelled() else job.result()
        if self._is_up():
            self._outputs.reply(number, question, text if is_answered else '',
                                '' if is_answered else text)
