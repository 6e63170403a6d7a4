# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a right answer about a window of a warehouse says, and such windows as a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vts_ros.lab.scenes.answered_recording import CAMERA, row_of, Shown, write_shown
from vts_ros.lab.scenes.phrases import with_article
from vts_ros.lab.scenes.warehouse_clips import WarehouseTruth, WarehouseWindow
from vts_ros.vlm.answers import Answer, RiskLevel

_PLACES = {'left': 'on the left', 'ahead': 'ahead', 'right': 'on the right'}
_MOTIONS = {'stopped': 'stands still', 'oncoming': 'comes towards us',
            'backing': 'moves back towards us', 'crossing': 'crosses',
            'emerging': 'comes into view', 'slower': 'moves slower than us'}
_REASONS: dict[RiskLevel, str] = {
    'low': 'some care is enough for now', 'medium': 'we will be there soon',
    'high': 'there is no time to lose'}
_ACTIONS: dict[RiskLevel, str] = {
    'none': 'keep going', 'low': 'slow down', 'medium': 'brake in time', 'high': 'stop now'}
#: Most things that a description names.
_NAMED = 2


def answer_of(truth: WarehouseTruth) -> Answer:
    """Return the right answer: few words, each of which tells something."""
    seen = [with_article(label) for label in dict.fromkeys(truth.seen)][:_NAMED]
    explanation = 'The way is clear.'
    if truth.label is not None:
        noun = with_article(truth.label).capitalize()
        explanation = (f'{noun} {_PLACES[truth.place or ""]} {_MOTIONS[truth.motion or ""]}, so '
                       f'{_REASONS[truth.risk]}.')
    return Answer(description=f'We see {" and ".join(seen) or "nobody"}.', risk=truth.risk,
                  label=truth.label, box=truth.box, explanation=explanation,
                  action=_ACTIONS[truth.risk])


def write_answered(folder: Path, windows: Iterable[WarehouseWindow]) -> int:
    """Write windows as ``vts annotate`` does, see :func:`write_shown`; return their number."""
    return write_shown(folder, (
        Shown(window.scene.times.tolist(), {CAMERA: window.frames}, [row_of(
            answer_of(window.truth), family=window.truth.family, seed=window.truth.seed)])
        for window in windows))
