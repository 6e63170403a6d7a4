# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plots and maps of the page ``redundancy.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
from matplotlib import colormaps
from matplotlib.figure import Figure
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.evaluation.generated_page import new_figure, plain_axis
from vts_ros.lab.evaluation.redundancy import BINS
from vts_ros.lab.evaluation.worth_windows import WorthWindow

#: Scores that nothing on a car can compute.
ORACLES = ('gradient', 'loss')
#: Width of a frame in the maps, and how much of the picture shines through.
_WIDTH, _SHINES = 224, 0.45


def draw_maps(shown: Sequence[WorthWindow]) -> NDArray[np.uint8]:
    """
    Return the frames of windows, and below each window what its tokens are worth.

    Worth is drawn by rank within the window, so that half of the tokens are dark.
    """
    rows = []
    for window in shown:
        height = round(_WIDTH * window.evidence.frames.shape[1] / window.evidence.frames.shape[2])
        frames = [cv2.resize(frame, (_WIDTH, height), interpolation=cv2.INTER_AREA)
                  for frame in window.evidence.frames]
        rows.append(_in_a_row(frames))
        worth = window.worth.divergence
        rank = np.argsort(np.argsort(worth, axis=None), axis=None).reshape(worth.shape)
        heat = colormaps['inferno'](rank / max(rank.size - 1, 1))[..., :3]
        rows.append(_in_a_row([_over(frame, cells.reshape(*window.evidence.grid, 3))
                               for frame, cells in zip(frames, heat)]))
    return np.concatenate(rows)


def _over(frame: NDArray[np.uint8], cells: NDArray[np.float64]) -> NDArray[np.uint8]:
    large = cv2.resize(cells, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(_SHINES * frame + (1 - _SHINES) * 255.0 * large, np.uint8)


def _in_a_row(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.concatenate([np.pad(frame, ((2, 2), (2, 2), (0, 0)), constant_values=255)
                           for frame in frames], axis=1)


def scores_figure(result: Mapping[str, Any]) -> Figure:
    """Return the joint histogram of importance and redundancy, and the AUC of every score."""
    figure = new_figure(12.0, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.25))
    joint = np.array(result['joint']['test']['redundancy']['tokens'])
    image = left.imshow(joint * BINS ** 2, origin='lower', cmap='viridis', vmin=0.0,
                        extent=(0, 100, 0, 100), aspect='auto')
    left.set_xlabel('redundancy: rank in the window, %')
    left.set_ylabel('importance: rank in the window, %')
    left.set_title('Tokens beside what chance gives', fontsize=10)
    figure.colorbar(image, ax=left, label='times chance')
    auc = result['auc']['test']
    names = sorted(auc, key=lambda name: float(auc[name][0]))
    centre = np.array([auc[name][0] for name in names])
    edges = np.array([auc[name][1:] for name in names])
    right.barh(names, centre - 0.5, left=0.5, color=[
        '#999999' if name in ORACLES else '#D55E00' if name == 'measure' else
        '#000000' if name == 'cosine' else '#0072B2' for name in names])
    right.errorbar(centre, names, xerr=(centre - edges[:, 0], edges[:, 1] - centre), fmt='none',
                   ecolor='0.5', capsize=2)
    plain_axis(right)
    right.set_xlim(min(0.4, float(edges.min()) - 0.02), 1.0)
    right.set_xlabel('AUC for the most important tenth (0.5 is chance)')
    right.set_title('What finds the important tokens', fontsize=10)
    return figure


def conditions_figure(result: Mapping[str, Any]) -> Figure:
    """Return the histograms of importance over redundancy, a row for each condition."""
    rows = [(value if group == 'all' else f'{group}: {value}', found['n'], found['tenths'])
            for group, values in result['conditions'].items() for value, found in values.items()]
    several = result.get('cameras')
    if several is not None:
        rows += [(f'cameras: {count}', several['n'], shares)
                 for count, shares in several['joint'].items()]
    figure = new_figure(9.0, 1.2 + 0.24 * len(rows))
    axis = figure.subplots()
    image = axis.imshow(100.0 * np.array([shares for _, _, shares in rows]), cmap='viridis',
                        vmin=0.0, vmax=30.0, aspect='auto')
    axis.set_yticks(range(len(rows)), [f'{name} (n={n})' for name, n, _ in rows], fontsize=8)
    axis.set_xticks(range(BINS), [str(tenth) for tenth in range(1, BINS + 1)])
    axis.set_xlabel('tenth of the tokens by redundancy, least redundant first')
    figure.colorbar(image, ax=axis, label='share of the importance, % (chance is 10)',
                    extend='max')
    return figure
