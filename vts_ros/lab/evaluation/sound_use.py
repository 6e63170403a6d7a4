# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What it costs a model that a siren is heard which its pictures do not show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vts_ros.lab.evaluation.scene_evaluation import frames_of
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.lab.scenes.model_picture import SHIPPED
from vts_ros.pipeline.events import Event
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.sound_sense import event_of
from vts_ros.sound.sound_events import SoundEvent

#: The siren is heard in the newest of the frames.
_HEARD_SEC = 0.8


def judge_use(pipeline: Pipeline, n: int, progress: Callable[[int], None] = lambda done: None
              ) -> dict[str, Any]:
    """
    Return the accuracy of the risk without a siren, with tokens moved to it, and with it told.

    Parameters
    ----------
    n
        Rendered windows of the split ``test``; there is no emergency vehicle in any, so that a
        siren changes nothing in what is right.

    """
    right = {'without': 0, 'tokens moved': 0, 'told as well': 0}
    moved = 0
    for number, scene in enumerate(balanced_scenes('test', n)):
        clip = render(scene, SHIPPED.width, SHIPPED.height)
        window = tuple(frames_of(clip, 'front')[-5:])
        truth = clip.window_truth().risk
        newest_ns = window[-1].stamp_ns
        heard = event_of(SoundEvent('siren', newest_ns - round(1e9 * _HEARD_SEC), newest_ns, 0.95),
                         moves_tokens=True, is_told=False)
        keep = []
        for name, events in (('without', ()), ('tokens moved', (heard,)),
                             ('told as well', (replace(heard, is_told=True),))):
            report = _described(pipeline, window, events)
            right[name] += report.answer.risk == truth
            keep.append(list(report.keep))
        moved += keep[0] != keep[1]
        progress(number + 1)
    return {'n': n, 'model': pipeline.vlm.name, 'keep_ratio': pipeline.config.keep_ratio,
            'windows_with_moved_tokens': moved,
            'risk_accuracy': {name: count / n for name, count in right.items()}}


def _described(pipeline: Pipeline, window: Any, events: tuple[Event, ...]) -> Any:
    pipeline.clear()
    for event in events:
        pipeline.events.add(event)
    return pipeline.describe(window)
