# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Who is told of an answer while it is still being written: of its risk, and of all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vts_ros.pipeline.context import PreparedWindow
from vts_ros.pipeline.early_risk import OnFacts
from vts_ros.pipeline.features import Stopwatch
from vts_ros.pipeline.report import SceneReport
from vts_ros.pipeline.report_writer import ReportWriter
from vts_ros.vlm import OnText
from vts_ros.vlm.answers import Answer

Stop = Callable[[], bool]
OnReport = Callable[[SceneReport], None]
OnAnswer = Callable[[Answer], None]


def partial_reports(writer: ReportWriter, prepared: PreparedWindow, is_known: bool | None,
                    watch: Stopwatch, stop: Stop | None, on_risk: OnReport | None) -> OnFacts:
    """
    Return what makes partial reports of the first facts of an answer.

    Parameters
    ----------
    is_known
        Whether the model knows such pictures; nothing is told of an answer about others.
    stop
        Ends the generation; after that nothing is told.
    on_risk
        Given the reports; None where nobody wants them.

    """
    def on_facts(answer: Answer) -> None:
        if on_risk is None or is_known is False or (stop is not None and stop()):
            return
        so_far = watch.total()
        on_risk(replace(writer.report(prepared, answer, is_known, so_far),
                        is_partial=True, time_to_risk_ms=so_far['total']))

    return on_facts


def growing_answers(writer: ReportWriter, prepared: PreparedWindow, on_answer: OnAnswer) -> OnText:
    """Return what reads an answer anew with each piece of it, and hands it on."""
    text = ''

    def on_text(piece: str) -> None:
        nonlocal text
        text += piece
        on_answer(writer.read(prepared, text))

    return on_text
