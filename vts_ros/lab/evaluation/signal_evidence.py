# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether hard braking and sharp turns, as evidence, keep more of the risk object: rendered drives.

The renderer knows how the car moves. Its speed and yaw rate go through the same signals as in a
car, and a window knows of them what came up to its newest frame. No language model is asked: what
counts is which tokens are kept, at the same budget.
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
from vts_ros.lab.scenes.clips import render
from vts_ros.lab.scenes.drive import draw_drive
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.events import carried_on, EventLog, frame_weights
from vts_ros.pipeline.vehicle_signals import VehicleSignals
from vts_ros.sparsify import Proposal, Sparsifier
from vts_ros.sparsify.frame_budgets import GAIN

FRAMES, INTERVAL_SEC = 5, 0.4
#: Visual tokens of a frame of the embedded model.
GRID = (4, 7)
#: What of `frame_budgets.GAIN` is measured.
GAINS = (0.5, 1.0, 2.0)
#: How often the car says how fast it is, as often as many do.
SIGNAL_HZ = 20.0
#: Of what an accelerometer of a car adds by vibration, m/s2, of a wheel speed, m/s, and of a
#: gyroscope, rad/s: standard deviations.
NOISE = {'acceleration': 0.5, 'speed': 0.05, 'yaw_rate': 0.01}
#: Where recall is counted: in all frames, and in those without a share of their own.
PLACES = ('all frames', 'newest frame', 'other frames')


class SignalWindow(NamedTuple):
    """
    A window of a drive.

    Attributes
    ----------
    proposals
        What the proposal network sees in its frames.
    object
        bool [T, N], tokens of the risk object.
    weights
        float64 [T], how much its frames matter by the signals of the car; None where these
        noticed nothing.
    at_sec
        Time of the newest frame, from the beginning of the drive.

    """

    proposals: tuple[Proposal, ...]
    object: NDArray[np.bool_]
    weights: NDArray[np.float64] | None
    at_sec: float


def drive_windows(seed: int, sparsifier: Sparsifier) -> list[SignalWindow]:
    """Return the windows of a drive that have a risk object, in the order of time."""
    scene = draw_drive(seed, INTERVAL_SEC)
    clip = render(scene)
    proposals = [sparsifier.propose(frame) for frame in clip.frames]
    stamps = [truth.stamp_ns for truth in clip.truths]
    log = EventLog()
    signals = VehicleSignals(lambda: 0.0, lambda: False, lambda: True, lambda: log)
    heard = _signals(scene, seed)
    windows = []
    begin_ns, told = stamps[0], 0
    for end in range(len(stamps)):
        # Up to the newest frame: nobody knows what comes.
        while told < len(heard) and heard[told][0] <= (stamps[end] - begin_ns) * 1e-9:
            at_sec, values = heard[told]
            for name, value in values.items():
                signals.take(name, value, begin_ns + round(at_sec * 1e9), source=name)
            told += 1
        if end < FRAMES - 1:
            continue
        part = slice(end - FRAMES + 1, end + 1)
        tokens = object_tokens(clip.truths[part], GRID)
        if not tokens.any():
            continue
        events = log.near(stamps[part])
        weights = carried_on(frame_weights(events, stamps[part]),
                             [stamp == stamps[end] for stamp in stamps[part]])
        windows.append(SignalWindow(
            tuple(proposals[part]), tokens, weights if weights.any() else None,
            (stamps[end] - begin_ns) * 1e-9))
    return windows


def _signals(scene: Scene, seed: int) -> list[tuple[float, Mapping[str, float]]]:
    """Return what the car says of itself over time, with the noise of its sensors."""
    rng = np.random.default_rng([seed, 7])
    said: list[tuple[float, Mapping[str, float]]] = []
    for at_sec in np.arange(0.0, float(scene.times[-1]), 1.0 / SIGNAL_HZ).tolist():
        s, speed, acceleration = scene.ego.at(at_sec)
        true = {'speed': speed, 'acceleration': acceleration,
                'yaw_rate': speed * scene.road.curvature(s)}
        said.append((at_sec, {name: value + float(rng.normal(0.0, NOISE[name]))
                              for name, value in true.items()}))
    return said


def compare(drives: Iterable[Sequence[SignalWindow]], sparsifier: Sparsifier,
            budgets: Sequence[float], progress: Callable[[], object] = lambda: None
            ) -> dict[str, Any]:
    """
    Return the share of the tokens of the risk object that are kept, with the signals and without.

    Returns
    -------
    ``drives``, ``windows`` with a risk object and ``noticed``, those at which there was an event;
    ``absent``: at how many of the others the kept tokens differ in any bit; ``uneven``: at how
    many windows not as many are kept; and per budget, gain and place, over the windows with an
    event, ``with``, ``without``, their ``difference`` and its ``interval`` (95 %, drives
    resampled).

    """
    keys = [(budget, gain, place) for budget in budgets for gain in GAINS for place in PLACES]
    sums: dict[tuple[float, float, str], list[NDArray[np.float64]]] = {key: [] for key in keys}
    count = total = noticed = differ = uneven = 0
    for windows in drives:
        count, total = count + 1, total + len(windows)
        drive = {key: np.zeros(3) for key in keys}
        for window, budget in itertools.product(windows, budgets):
            plain = sparsifier.select(window.proposals, GRID, budget)
            if window.weights is None:
                found = sparsifier.select(window.proposals, GRID, budget, weights=np.zeros(FRAMES))
                differ += plain.keep.tobytes() != found.keep.tobytes()
                continue
            noticed += budget == budgets[0]
            for gain in GAINS:
                # A budget is linear in gain and weight.
                found = sparsifier.select(window.proposals, GRID, budget,
                                          weights=window.weights * gain / GAIN)
                uneven += len(plain.keep) != len(found.keep)
                for place, frames in _places(plain.key).items():
                    tokens = window.object & frames[:, None]
                    if tokens.any():
                        drive[budget, gain, place] += (
                            _recall(tokens, found.keep), _recall(tokens, plain.keep), 1.0)
        for key, values in drive.items():
            sums[key].append(values)
        progress()
    bootstrap = Bootstrap(count)
    rows = {key: _row(np.array(sums[key]), bootstrap) for key in keys}
    return {'drives': count, 'windows': total, 'noticed': noticed, 'absent': differ,
            'uneven': uneven, 'budgets': {str(budget): {str(gain): {
                place: rows[budget, gain, place] for place in PLACES} for gain in GAINS}
                for budget in budgets}}


def section(result: Mapping[str, Any], run: Run) -> Iterator[str]:
    """Yield what a page says of a result."""
    yield f'\n    {run.command}\n'
    first, last = result['seeds']
    yield (f'{result["drives"]} rendered drives of {result["split"]} (seeds {first} to {last}), '
           f'{result["windows"]} windows with a risk object; at {result["noticed"]} of them the '
           'car had braked hard or turned sharply. Share of the tokens of the risk object that '
           'are kept, in percent, at these windows; difference in points, with the interval of '
           '95 % over drives. ' + day_and_machine(run) + '\n')
    yield '| budget | gain | frames | n | without | with | difference |'
    yield '|---|---|---|---|---|---|---|'
    for budget, gains in result['budgets'].items():
        for gain, places in gains.items():
            used = ' (used)' if float(gain) == GAIN else ''
            for place, row in places.items():
                if row['n']:
                    yield (f'| {float(budget):.0%} | {gain}{used} | {place} | {row["n"]} | '
                           f'{100 * row["without"]:.1f} | {100 * row["with"]:.1f} | '
                           f'{between(row["difference"], row["interval"], "+.1f")} |')
    calm = result['windows'] - result['noticed']
    yield (f'\nAbsent: at the other {calm} windows the kept tokens differ at {result["absent"]}; '
           f'with an event, the number of kept tokens differs at {result["uneven"]}.')


def _places(key: int) -> dict[str, NDArray[np.bool_]]:
    """Return which frames of a window count at each place."""
    newest = np.arange(FRAMES) == FRAMES - 1
    own = newest | (np.arange(FRAMES) == key)
    return dict(zip(PLACES, (np.ones(FRAMES, bool), newest, ~own)))


def _recall(tokens: NDArray[np.bool_], keep: NDArray[np.int32]) -> float:
    kept = np.zeros(tokens.size, bool)
    kept[keep] = True
    return float(kept[tokens.ravel()].mean())


def _row(sums: NDArray[np.float64], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the means over all windows of [drives, 3]: sums with, without, and how many."""
    with_, without, count = sums.sum(0)
    if not count:
        return {'n': 0}
    return {'n': int(count), 'with': round(float(with_ / count), 4),
            'without': round(float(without / count), 4),
            'difference': round(float((with_ - without) / count), 4),
            'interval': bootstrap.ratio(sums[:, 0] - sums[:, 1], sums[:, 2])}
