# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Motion vectors of H.264: by a picture that is shifted, and what moves by itself in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from all_commands import app
from conftest import ROOT
import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from typer.testing import CliRunner

from vts_ros.lab.evaluation.vector_evaluation import at_camera_rate, RATE
from vts_ros.lab.rivals.coded_motion import decoded, encoded, flow_of, vector_residual
from vts_ros.lab.scenes.clips import make_scene, render


def ground(offset: int, body: int | None = None) -> NDArray[np.uint8]:
    """Return a textured picture moved to the right by an offset, with a body on it."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (128, 320, 3), np.uint8)
    texture: NDArray[Any] = cv2.GaussianBlur(noise, (0, 0), 2.0)
    texture = np.asarray(cv2.normalize(texture, texture, 0, 255, cv2.NORM_MINMAX), np.uint8)
    picture: NDArray[np.uint8] = np.array(texture[:, 48 - offset:48 - offset + 224], np.uint8)
    if body is not None:
        picture[40:72, body:body + 32] = texture[:32, 288:320]
    return picture


def test_vectors_point_to_where_a_block_was() -> None:
    """To the right by 4 pixels from picture to picture: each block was 4 to the left."""
    frames = decoded(encoded([ground(4 * number) for number in range(4)]))
    assert len(frames) == 4
    assert np.isnan(flow_of(frames[0])).all()
    inner = flow_of(frames[3])[1:-1, 2:-1].reshape(-1, 2)
    known = inner[np.isfinite(inner).all(axis=1)]
    assert len(known) > 0.8 * len(inner)
    np.testing.assert_allclose(np.median(known, axis=0), (-4.0, 0.0), atol=0.25)


def test_without_being_asked_a_decoder_gives_none() -> None:
    frames = decoded(encoded([ground(0), ground(4)]), with_vectors=False)
    assert np.isnan(flow_of(frames[1])).all()


def test_what_moves_by_itself_is_found() -> None:
    """All moves by 2 pixels, and a body by 8 the other way."""
    frames = decoded(encoded([ground(2 * number, 160 - 8 * number) for number in range(4)]))
    residual = vector_residual(flow_of(frames[3]), (4, 7)).reshape(4, 7)
    # The body is at 136 to 168, 40 to 72.
    assert residual[1, 4] == residual.max() > 0.3
    still = np.delete(residual.ravel(), [4 + 7, 3 + 7, 5 + 7, 4 + 14, 5 + 14, 3 + 14])
    assert still.max() < 0.1


def test_the_camera_is_faster_than_the_window_and_sees_the_same() -> None:
    scene = make_scene(3)
    fine = at_camera_rate(scene)
    assert len(fine.times) == RATE * (len(scene.times) - 1) + 1
    np.testing.assert_allclose(fine.times[::RATE], scene.times)
    seen, expected = (render(shown, 112, 64).frames.astype(int) for shown in (fine, scene))
    # But for the grain of a picture.
    assert np.abs(seen[-1] - expected[-1]).max() < 20
    assert np.abs(seen[-2] - expected[-1]).max() > 60


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / 'models' / 'embedded').is_dir(),
                    reason='the language model is not in this checkout')
def test_the_command_measures_and_writes_its_section(tmp_path: Path) -> None:
    page = tmp_path / 'method.md'
    page.write_text('a\n<!-- vectors: made by the command below -->\n<!-- end of vectors -->\nb\n')
    result = CliRunner().invoke(app, ['eval', 'vectors', '--n', '3', '--budgets', '0.6,0.1',
                                      '--report', str(tmp_path), '--json'])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output.splitlines()[-1])
    kept = found['methods']
    assert found['n'] == 3
    assert kept['vts-score-importance']['0.6']['ahead'] == 0.0
    # A heavy weight of what moves is worse than chance would have it.
    assert kept['saliency + 1 vectors']['0.1']['mean'] < kept['vts-score-importance'][
        '0.1']['mean']
    assert found['cost'].keys() == {'decode', 'vectors'}
    text = page.read_text()
    assert text.startswith('a\n')
    assert '| saliency + 1 vectors | ' in text
    assert text.endswith('<!-- end of vectors -->\nb\n')
