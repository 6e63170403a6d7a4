# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
When the language model is asked: always, or only when the scene has changed.

While the gate is closed the last answer is confirmed with a new stamp. An answer that is
``unknown``, failed or was interrupted is never confirmed, and no answer for longer than
``speak_every_sec`` after the model was asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from vts_ros.pipeline.change_gate import ChangeGate, Moment, Standing
from vts_ros.pipeline.features import FrameLook
from vts_ros.pipeline.frames import Window
from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport
from vts_ros.pipeline.steps import places, steps_of
from vts_ros.vlm.answers import AnswerForm, has_facts, parse
from vts_ros.vlm.vehicle import Vehicle

Stop = Callable[[], bool]


def moment_of(looks: Sequence[FrameLook], is_known: bool | None,
              vehicle: Vehicle | None) -> Moment:
    """Return the newest moment of a window, as far as it is cheap to know."""
    return Moment(looks[-1].frame.stamp_ns,
                  {look.frame.camera: look.proposal for look in looks}, is_known,
                  tuple(vehicle.facts()) if vehicle is not None else (), looks[-1].size)


class Stands(NamedTuple):
    """The last answer, and the moment that it was about."""

    report: SceneReport
    moment: Moment

    @property
    def text_stamp(self) -> int:
        """Return the stamp of the newest frame that the texts are about."""
        told = self.report.text_stamp
        return self.report.stamp if told is None else told


class Speaking:
    """
    Keeps the last answer, and decides whether to ask the model or to confirm the answer.

    Parameters
    ----------
    every_sec
        Longest time for which answers are confirmed without asking the model.
    gate
        Decides whether the scene has changed; None: the model is always asked.
    is_brief
        Whether an answer may end after the risk where that has not changed.
    of_task
        The form of another task than driving.

    Attributes
    ----------
    counters
        How often an answer was ``confirmed``, and ended after its risk (``risk_only``); how often
        the model was asked for which reason, as ``asked_change``.

    """

    def __init__(self, every_sec: float, gate: ChangeGate | None, is_brief: bool,
                 of_task: AnswerForm | None = None) -> None:
        self._of_task = of_task
        self._every_ns = round(1e9 * every_sec)
        self._gate, self._is_brief = gate, is_brief
        self._stands: Stands | None = None
        self.counters: Counter[str] = Counter()

    def why_ask(self, now: Moment) -> str:
        """Return why the model is to be asked, ``''`` if the last answer can be confirmed."""
        stands = self._stands
        if self._gate is None:
            return 'no_gate'
        if stands is None:
            return 'nothing_stands'
        if now.is_known is False:
            return 'not_known'
        if not 0 <= now.stamp_ns - stands.moment.stamp_ns < self._every_ns:
            return 'time'
        return self._gate.why_open(
            Standing(stands.moment, stands.report.answer.risk, stands.report.confidence), now)

    def confirm(self, window: Window, now: Moment, latency_ms: dict[str, float]) -> SceneReport:
        """
        Return the last answer as a report about this window.

        It has no box, as the present place of the object is not known, and no kept tokens, as
        the model got none.
        """
        assert self._stands is not None
        self.counters['confirmed'] += 1
        last, newest = self._stands.report, window[-1]
        of_step = [last.frames[step[0]].camera for step in last.step_frames]
        grid_of = dict(zip(of_step, last.grids))
        steps = steps_of(window, max(map(len, last.steps), default=1), bool(last.steps))
        return replace(
            last, stamp=newest.stamp_ns,
            frames=tuple(FrameRef(frame.camera, frame.stamp_ns) for frame in window),
            key_frame=KeyFrame(newest.camera, newest.stamp_ns, len(window) - 1),
            answer=replace(last.answer, box=None), keep=(), answer_tokens=0, events=(),
            grids=tuple(grid_of.get(step[0].camera, last.grid) for step in steps if last.grids),
            steps=places(steps, window) if last.steps else (),
            latency_ms=latency_ms, time_to_risk_ms=latency_ms['total'],
            in_distribution=now.is_known, size=now.size,
            asked_stamp=self._stands.moment.stamp_ns, text_stamp=self._stands.text_stamp)

    def take(self, why: str) -> Stands | None:
        """Return the answer that stood; none stands until the model has answered."""
        self.counters[f'asked_{why}'] += 1
        stands, self._stands = self._stands, None
        return stands

    def until_risk(self, stood: Stands | None, now: Moment, is_thought: bool, stop: Stop | None
                   ) -> UntilRisk | None:
        """Return what stops an answer after its risk; None for a whole answer."""
        if not self._is_brief or stood is None \
                or not 0 <= now.stamp_ns - stood.text_stamp < self._every_ns:
            return None
        return UntilRisk(stood, is_thought, stop, self._of_task)

    def note(self, report: SceneReport, now: Moment, until_risk: UntilRisk | None) -> SceneReport:
        """Keep an answer as the last; return it, with the previous texts if it ended early."""
        if until_risk is not None and until_risk.is_over:
            self.counters['risk_only'] += 1
            report = until_risk.completed(report)
        self._stands = None if report.answer.risk == 'unknown' else Stands(report, now)
        return report

    def forget(self) -> None:
        """Have nothing stand."""
        self._stands = None


class UntilRisk:
    """
    Ends an answer after risk and object, where both are what stood before.

    Parameters
    ----------
    stood
        The answer before.
    is_thought
        Whether answers begin within a thought.
    stop
        Ends it for other reasons.
    of_task
        The form of another task than driving.

    Attributes
    ----------
    is_over
        Whether the answer was ended here.

    """

    def __init__(self, stood: Stands, is_thought: bool, stop: Stop | None,
                 of_task: AnswerForm | None = None) -> None:
        self._of_task = of_task
        self._stood, self._is_thought, self._stop = stood, is_thought, stop
        self._text = ''
        self.is_over = False

    def on_text(self, piece: str) -> bool:
        """Take a piece of the answer; return whether further ones are of interest."""
        self._text += piece
        if not has_facts(self._text, is_thought=self._is_thought):
            return True
        said = parse(self._text, is_thought=self._is_thought, of_task=self._of_task)
        before = self._stood.report.answer
        self.is_over = (said.risk, said.label) == (before.risk, before.label)
        return False

    def stop(self) -> bool:
        """Return whether the answer ends here."""
        return self.is_over or (self._stop is not None and self._stop())

    def completed(self, report: SceneReport) -> SceneReport:
        """Return the report with the texts of the answer before."""
        before = self._stood.report.answer
        return replace(
            report, text_stamp=self._stood.text_stamp,
            answer=replace(report.answer, description=before.description,
                           explanation=before.explanation, action=before.action))
