# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What evidence of the car is worth, and the section of a page about it."""

from __future__ import annotations

from collections import Counter
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vts_ros.lab.evaluation import signal_evidence
from vts_ros.lab.evaluation.generated_page import Run, write_section
from vts_ros.lab.evaluation.signal_evidence import (
    compare,
    drive_windows,
    FRAMES,
    GRID,
    INTERVAL_SEC,
    section,
    SignalWindow,
)
from vts_ros.lab.scenes.clips import SPLITS
from vts_ros.lab.scenes.drive import draw_drive
from vts_ros.pipeline.events import FADE_SEC
from vts_ros.sparsify import Proposal, Sparsifier
from vts_ros.sparsify.proposal_network import EMBEDDING_CHANNELS, MAP_SIZE

CELLS = GRID[0] * GRID[1]


@pytest.fixture(scope='module')
def sparsifier() -> Sparsifier:
    return Sparsifier()


def window(seed: int, frame: int, weights: list[float] | None) -> SignalWindow:
    """Return a window whose risk object is in one frame alone, and fills it."""
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(FRAMES, EMBEDDING_CHANNELS, *MAP_SIZE)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    tokens = np.zeros((FRAMES, CELLS), bool)
    tokens[frame] = True
    return SignalWindow(tuple(map(Proposal, rng.random((FRAMES, *MAP_SIZE), np.float32),
                                  embedding)),
                        tokens, None if weights is None else np.array(weights), 0.0)


def test_evidence_at_the_right_moment_helps_and_at_another_one_costs(
        sparsifier: Sparsifier) -> None:
    right, wrong = [0.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]
    for weights, sign in ((right, 1), (wrong, -1)):
        steps = Counter[str]()
        found = compare([[window(seed, 1, weights), window(seed, 1, None)] for seed in range(6)],
                        sparsifier, (0.1, 0.4), partial(steps.update, ['drive']))
        assert (found['drives'], found['windows'], found['noticed']) == (6, 12, 6)
        assert (found['absent'], found['uneven'], steps['drive']) == (0, 0, 6)
        for gains in found['budgets'].values():
            differences = [gains[gain]['all frames']['difference'] for gain in ('0.5', '2.0')]
            assert sign * differences[1] > sign * differences[0] >= 0.0
            low, high = gains['2.0']['all frames']['interval']
            assert low <= differences[1] <= high
            assert gains['1.0']['newest frame'] == {'n': 0}


@pytest.mark.slow
def test_a_rendered_drive_brakes_for_its_hazards(sparsifier: Sparsifier) -> None:
    windows = drive_windows(SPLITS['val'][0], sparsifier)
    noticed = [window for window in windows if window.weights is not None]
    assert 0 < len(noticed) < len(windows)
    for each in noticed:
        assert each.weights is not None
        assert each.weights.shape == (FRAMES,)
        assert each.weights[-1] == each.weights.max() > 0.0
    assert all(each.object.any() and each.object.shape == (FRAMES, CELLS) for each in windows)
    # What nobody had noticed yet is not known: the car brakes before the newest frame.
    ego = draw_drive(SPLITS['val'][0], INTERVAL_SEC).ego
    for each in noticed:
        before = np.arange(each.at_sec - FRAMES * INTERVAL_SEC - FADE_SEC, each.at_sec, 0.05)
        assert min(ego.at(at_sec)[2] for at_sec in before.tolist()) < -2.0


def test_a_section_is_written_between_its_marks(tmp_path: Path, sparsifier: Sparsifier) -> None:
    found = compare([[window(seed, 1, [0, 1, 0, 0, 1])] for seed in range(3)], sparsifier, (0.1,))
    found.update(split='val', seeds=[1, 3])
    lines = list(section(found, Run('vts eval signals --n 3', date(2026, 1, 2), 'a machine', 1)))
    assert sum(line.startswith('| 10% |') for line in lines) == 2 * len(signal_evidence.GAINS)
    assert any('1.0 (used)' in line for line in lines)
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- signals: made by the command below -->\nold\n'
                    '<!-- end of signals -->\nafter\n')
    for _ in range(2):
        write_section(page, 'signals', lines)
        text = page.read_text()
        assert text.startswith('before\n')
        assert text.endswith('<!-- end of signals -->\nafter\n')
        assert 'old' not in text
        assert text.count('vts eval signals --n 3') == 1
    with pytest.raises(ValueError, match='has no place for sounds'):
        write_section(page, 'sounds', [])
