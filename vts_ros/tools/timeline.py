# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Risk, tokens and latency of a drive over its time, as one picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.pictures import Picture
from vts_ros.vlm.answers import RiskLevel


def draw_timeline(reports: Sequence[SceneReport], start_ns: int) -> Picture:
    """Draw risk, tokens and latency over the time of the drive as one picture."""
    # Margins that fit: to find them takes half as long as the rest of the picture.
    figure = Figure(figsize=(10, 6.6), dpi=110, facecolor='white')
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=(1.2, 1, 1.2), gridspec_kw={
        'left': 0.09, 'right': 0.985, 'bottom': 0.08, 'top': 0.95, 'hspace': 0.3})
    times = [1e-9 * (report.stamp - start_ns) for report in reports]
    _plot_risk(axes[0], times, reports)
    _plot_tokens(axes[1], times, reports)
    _plot_latency(axes[2], times, reports)
    axes[2].set_xlabel('time in the drive, s')
    for axis in axes:
        axis.spines[['top', 'right']].set_visible(False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3].copy()


def _shade(report: SceneReport) -> tuple[float, float, float]:
    red, green, blue = report.colour
    return red / 255, green / 255, blue / 255


def _plot_risk(axis: Axes, times: Sequence[float], reports: Sequence[SceneReport]) -> None:
    order: tuple[RiskLevel, ...] = ('unknown', 'none', 'low', 'medium', 'high')
    heights = [order.index(report.answer.risk) for report in reports]
    axis.step(times, heights, where='post', color='0.55', linewidth=1.2, zorder=1)
    axis.scatter(times, heights, s=52, zorder=2, edgecolors='0.2', linewidths=0.6,
                 color=[_shade(report) for report in reports])
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.grid(axis='y', color='0.92')
    axis.set_title('Risk, as the model sees it', loc='left', fontsize=11)


def _bar_width(times: Sequence[float]) -> float:
    gaps = np.diff(times)
    gaps = gaps[gaps > 0.0]
    return max(0.85 * float(gaps.min()), 0.3 * float(np.median(gaps))) if len(gaps) else 0.3


def _legend_above(axis: Axes) -> None:
    axis.legend(loc='lower right', bbox_to_anchor=(1.0, 0.98), ncols=8, frameon=False, fontsize=9,
                columnspacing=1.2, handlelength=1.2)


def _plot_tokens(axis: Axes, times: Sequence[float], reports: Sequence[SceneReport]) -> None:
    width = _bar_width(times)
    axis.bar(times, [report.tokens_total for report in reports], width, color='0.88',
             label='in the window')
    axis.bar(times, [len(report.keep) for report in reports], width, color='#0072B2',
             label='kept for the language model')
    _legend_above(axis)
    axis.set_title('Visual tokens', loc='left', fontsize=11)


def _plot_latency(axis: Axes, times: Sequence[float], reports: Sequence[SceneReport]) -> None:
    width = _bar_width(times)
    stages = list(dict.fromkeys(
        name for report in reports for name in report.latency_ms if name != 'total'))
    base = np.zeros(len(reports))
    shades = ('#56B4E9', '#E69F00', '#009E73', '#CC79A7', '#0072B2', '#D55E00', '#F0E442', '0.5')
    for number, stage in enumerate(stages):
        values = np.array([report.latency_ms.get(stage, 0.0) for report in reports])
        axis.bar(times, values, width, bottom=base, label=stage, color=shades[number % 8])
        base += values
    axis.plot(times, [report.latency_ms.get('total', 0.0) for report in reports], color='0.2',
              linewidth=1.2, marker='.', label='total')
    axis.set_ylabel('ms')
    _legend_above(axis)
    axis.set_title('Time per answer', loc='left', fontsize=11)
