# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether range, as a channel of the importance, keeps more of the risk object: rendered windows.

The renderer knows how far away everything is. Its points go through the same code as those of a
sensor: into the frame of the camera, to cells, to closing speed and closeness. No language model
is asked: what counts is which tokens are kept, at the same budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.bootstrap import Bootstrap
from vts_ros.lab.evaluation.generated_page import between, day_and_machine, Run
from vts_ros.lab.evaluation.proposal_recall import object_tokens
from vts_ros.lab.ranges.closeness import closeness, in_path, urgency
from vts_ros.lab.ranges.range_channel import WEIGHT, with_closeness
from vts_ros.lab.ranges.range_projection import Lens
from vts_ros.lab.ranges.range_sense import CHANGE_SEC, Measured, RangeSense
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.lab.scenes.scene_range import (
    CAMERA,
    cloud,
    depth_map,
    HEIGHT,
    scene_at,
    SENSOR_TO_CAMERA,
    SensorNoise,
    WIDTH,
)
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import Proposal, Sparsifier

#: Visual tokens of a frame of the embedded model.
GRID = (4, 7)
#: What the sensor is like.
SENSORS: Mapping[str, SensorNoise | None] = {'exact': None, 'noisy': SensorNoise()}
#: What becomes of a proposal by what is measured, by the name of the way.
FORMS: Mapping[str, Callable[[Proposal, Measured], Proposal]] = {
    f'time to collision in the path, weight {WEIGHT} (used)':
        lambda proposal, found: with_closeness(proposal, closeness(*found)),
    'time to collision anywhere, weight 1':
        lambda proposal, found: with_closeness(proposal, urgency(found.ttc_sec), 1.0),
    'what is 2 to 6 m and more beside the path counts up to 30 % less':
        lambda proposal, found: proposal._replace(saliency=proposal.saliency * (
            1.0 - 0.3 * (1.0 - in_path(found.ranges, found.lens, 2.0, 6.0)))),
}
#: Windows that are counted apart.
ALL, DARK, CLEAR = CONDITIONS = ('all', 'night or rain', 'day or dusk, dry')
_CAMERA_FRAME, _SENSOR_FRAME = 'camera_optical_frame', 'lidar'
_PICTURE = np.zeros((1, 1, 3), np.uint8)


class RangeWindow(NamedTuple):
    """
    A window with a risk object.

    Attributes
    ----------
    proposals
        What the proposal network sees in its frames.
    object
        bool [T, N], tokens of the risk object.
    measured
        By sensor, of each frame.
    is_dark
        Whether it is night, or rains.

    """

    proposals: tuple[Proposal, ...]
    object: NDArray[np.bool_]
    measured: Mapping[str, Sequence[Measured]]
    is_dark: bool


def range_windows(split: str, n: int, sparsifier: Sparsifier) -> Iterator[RangeWindow | None]:
    """Yield the windows of a split; None for those without a risk object."""
    for scene in balanced_scenes(split, n):
        clip = render_window(scene)
        tokens = object_tokens(clip.truths, GRID)
        if not tokens.any():
            yield None
            continue
        yield RangeWindow(
            tuple(sparsifier.propose(frame) for frame in clip.frames), tokens,
            measure(scene), scene.look.light == 'night' or scene.look.weather == 'rain')


def measure(scene: Scene) -> dict[str, list[Measured]]:
    """Return what each sensor measures in each frame of a scene."""
    senses = {name: _new_sense() for name in SENSORS}
    is_rain = scene.look.weather == 'rain'
    found: dict[str, list[Measured]] = {name: [] for name in SENSORS}
    for index, at_sec in enumerate(scene.times.tolist()):
        for ago_sec in (CHANGE_SEC, 0.0):
            depth = depth_map(*scene_at(scene, index, ago_sec))
            for name, noise in SENSORS.items():
                senses[name].add_cloud(_ns(at_sec - ago_sec), _SENSOR_FRAME, cloud(
                    depth, noise, is_rain, (scene.seed, index, ago_sec > 0.0)))
        for name, sense in senses.items():
            measured = sense.measure(Frame('camera', _ns(at_sec), _PICTURE))
            assert measured is not None, sense.counters
            found[name].append(measured)
    return found


def _new_sense() -> RangeSense:
    sense = RangeSense()
    sense.add_camera('camera', Lens.of(CAMERA, (), WIDTH, HEIGHT), _CAMERA_FRAME)
    sense.transforms.add_matrix(_CAMERA_FRAME, _SENSOR_FRAME, SENSOR_TO_CAMERA)
    return sense


def _ns(seconds: float) -> int:
    # Before the first frame there is a cloud, and no stamp is negative.
    return round((seconds + 10.0) * 1e9)


def compare(windows: Iterable[RangeWindow | None], sparsifier: Sparsifier,
            budgets: Sequence[float], progress: Callable[[], object] = lambda: None
            ) -> dict[str, Any]:
    """
    Return the share of the tokens of the risk object that are kept, with range and without.

    Returns
    -------
    ``windows`` rendered and ``objects``, those with a risk object; ``absent``: at how many of
    these a window without range keeps other tokens in any bit; ``uneven``: how often not as many
    are kept; and per budget, form, sensor and condition ``n``, ``with``, ``without``,
    ``difference`` and its ``interval`` (95 %, windows resampled: each is of a scene of its own).

    """
    count = differ = uneven = 0
    dark: list[bool] = []
    shares: dict[tuple[float, str, str], list[tuple[float, float]]] = {
        key: [] for key in itertools.product(budgets, FORMS, SENSORS)}
    for window in windows:
        count += 1
        progress()
        if window is None:
            continue
        dark.append(window.is_dark)
        for budget in budgets:
            plain = sparsifier.select(window.proposals, GRID, budget)
            unknown = sparsifier.select(
                [with_closeness(proposal, None) for proposal in window.proposals], GRID, budget)
            differ += plain.keep.tobytes() != unknown.keep.tobytes()
            for form, name in itertools.product(FORMS, SENSORS):
                found = sparsifier.select(
                    list(map(FORMS[form], window.proposals, window.measured[name])), GRID, budget)
                uneven += len(found.keep) != len(plain.keep)
                shares[budget, form, name].append(
                    (_recall(window.object, found.keep), _recall(window.object, plain.keep)))
    is_dark = np.array(dark, bool)
    members = {ALL: np.ones(len(dark), bool), DARK: is_dark, CLEAR: ~is_dark}
    return {'windows': count, 'objects': len(dark), 'absent': differ, 'uneven': uneven,
            'budgets': {str(budget): {form: {name: {
                condition: _row(np.array(shares[budget, form, name]).reshape(-1, 2)[chosen])
                for condition, chosen in members.items()} for name in SENSORS} for form in FORMS}
                for budget in budgets}}


def section(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    """Yield what a page says of a result."""
    noise = SENSORS['noisy']
    assert noise is not None
    yield f'\n    {run.command}\n'
    yield (f'{result["windows"]} rendered windows of {result["split"]} (from seed '
           f'{result["seed"]} on, levels of risk balanced), {result["objects"]} with a risk '
           'object. Share of the tokens of the risk object that are kept, in percent; difference '
           'in points, with the interval of 95 % over windows, each of a scene of its own. '
           '"exact" is the range of every pixel at '
           f'{WIDTH} x {HEIGHT}; "noisy" has every {noise.rows}nd row, a standard deviation of '
           f'{100 * noise.sigma_m:.0f} cm, {noise.lost:.0%} of the points lost and in rain '
           f'{noise.lost_in_rain:.0%}, half the reach, and {noise.false_in_rain:.1%} from drops '
           'near the sensor. ' + day_and_machine(run) + '\n')
    yield ('| range as | budget | windows | n | without | with exact range | difference | '
           'with noisy range | difference |')
    yield '|---|---|---|---|---|---|---|---|---|'
    for form, budget, condition in itertools.product(FORMS, result['budgets'], CONDITIONS):
        exact, noisy = (result['budgets'][budget][form][name][condition] for name in SENSORS)
        if exact['n']:
            yield (f'| {form} | {float(budget):.0%} | {condition} | {exact["n"]} | '
                   f'{100 * exact["without"]:.1f} | ' + ' | '.join(
                       f'{100 * row["with"]:.1f} | '
                       f'{between(row["difference"], row["interval"], "+.1f")}'
                       for row in (exact, noisy)) + ' |')
    yield (f'\nAbsent: without range the kept tokens differ at {result["absent"]} windows; with '
           f'it, their number differs at {result["uneven"]}.')


def _recall(tokens: NDArray[np.bool_], keep: NDArray[np.int32]) -> float:
    kept = np.zeros(tokens.size, bool)
    kept[keep] = True
    return float(kept[tokens.ravel()].mean())


def _row(shares: NDArray[np.float64]) -> dict[str, Any]:
    """Return the means over windows of [n, 2]: recall with, and without."""
    if not len(shares):
        return {'n': 0}
    with_, without = shares.T
    return {'n': len(shares), 'with': round(float(with_.mean()), 4),
            'without': round(float(without.mean()), 4),
            'difference': round(float((with_ - without).mean()), 4),
            'interval': Bootstrap(len(shares)).difference(with_, without)}
