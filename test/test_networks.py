# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison of proposal networks, and the page that it was made into."""

from __future__ import annotations

from datetime import date
import json
from pathlib import Path
import shutil
from typing import Any

from all_commands import app
import numpy as np
import onnx
from onnx import numpy_helper
import pytest
from typer.testing import CliRunner

from vts_ros.lab.evaluation.difficulty import object_area, risk_object
from vts_ros.lab.evaluation.generated_page import Run
from vts_ros.lab.evaluation.proposal_networks import compare_networks, DATA, PAGE, page, PLOT
from vts_ros.lab.evaluation.proposal_recall import find_rate, RecallTarget
from vts_ros.lab.scenes.cells import claimed
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.paths import model_path
from vts_ros.sparsify import Sparsifier

pytestmark = pytest.mark.slow

N, BUDGETS = 8, ('1', '0.4', '0.1')
SHIPPED = model_path('proposal/frame.onnx').parent


def _turn_saliency(path: Path) -> None:
    """Make a network find salient what is not."""
    network = onnx.load(path)
    for weight in network.graph.initializer:
        if weight.name.startswith('seen_head.'):
            # So much that the place cannot make up for it.
            turned = -5 * numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array(turned, weight.name))
    onnx.save(network, path)


@pytest.fixture(scope='module')
def written(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Return the JSON that the command prints, and the folder of its page."""
    folder = tmp_path_factory.mktemp('docs')
    copy = folder / 'copy'
    shutil.copytree(SHIPPED, copy)
    (copy / 'holdout.json').write_text(json.dumps({'train': 320, 'settings': {
        'bags': [], 'model': 'teacher', 'passes': 96, 'steps': 600, 'batch': 16,
        'targets': 'use', 'anew': True}}))
    blind = folder / 'blind'
    shutil.copytree(SHIPPED, blind)
    _turn_saliency(blind / 'frame.onnx')
    done = CliRunner().invoke(app, [
        'eval', 'proposal', '--model', model, '--against', f'copy={copy}', '--against',
        f'blind={blind}', '--n', str(N), '--budgets', ','.join(BUDGETS), '--report', str(folder),
        '--json'])
    assert done.exit_code == 0, done.output
    return json.loads(done.output.splitlines()[-1]), folder


def test_figures_are_those_of_the_same_windows(written: tuple[dict[str, Any], Path]) -> None:
    result, _ = written
    sparsifier, grid = Sparsifier.load(SHIPPED), tuple(result['grid'])
    windows = []
    for scene in balanced_scenes('test', N):
        clip = render(scene)
        tokens = [np.zeros(grid, bool) if actor is None else claimed(actor, *grid)
                  for actor in risk_object(clip.truths)]
        windows.append(RecallTarget(tuple(map(sparsifier.propose, clip.frames)),
                              object_area(clip.truths), np.stack(tokens).reshape(5, -1)))
    expected = find_rate(sparsifier, windows, grid, [float(budget) for budget in BUDGETS])
    shipped = result['rows']['shipped']['budgets']
    for budget in BUDGETS:
        assert shipped[budget]['object_recall'] == expected['object_recall'][budget]
    assert result['keys']['shipped']['good'] == expected['key_frame_hit_rate']
    areas = np.stack([window.worth for window in windows if window.object.any()])
    assert result['objects'] == len(areas) == 6
    good = areas >= 0.9 * areas.max(axis=1, keepdims=True)
    assert result['keys']['newest']['good'] == pytest.approx(good[:, -1].mean(), abs=1e-4)
    assert result['keys']['at random']['good'] == pytest.approx(good.mean(), abs=1e-4)


def test_rows_are_what_they_say(written: tuple[dict[str, Any], Path]) -> None:
    result, _ = written
    rows = result['rows']
    assert list(rows) == ['shipped', 'copy', 'blind', 'oracle saliency', 'newest key frame',
                          'oracle key frame', 'random']
    # The same network finds the same, so nothing is ahead.
    assert rows['copy']['budgets'] == rows['shipped']['budgets']
    for metrics in result['ahead']['copy'].values():
        assert set(map(str, metrics.values())) == {'0.0', '[0.0, 0.0]'}
    for name, row in rows.items():
        for metric, value in row['budgets']['1'].items():
            assert value == result['dense'][metric], (name, metric)
        for metrics in row['budgets'].values():
            for metric in ('risk_accuracy', 'object_accuracy', 'object_recall'):
                low, high = metrics[f'{metric}_ci']
                assert 0.0 <= low <= metrics[metric] <= high <= 1.0
    recall = {name: row['budgets']['0.1']['object_recall'] for name, row in rows.items()}
    assert recall['random'] < 0.4 < recall['shipped']
    assert recall['oracle saliency'] > recall['random'] + 0.3
    # Each network looks for itself.
    assert recall['blind'] < recall['shipped'] - 0.2
    assert result['keys']['blind'] != result['keys']['shipped']
    random = result['ahead']['random']['0.1']['object_recall']
    assert random == pytest.approx(recall['shipped'] - recall['random'], abs=2e-4)


def test_the_page_is_made_of_its_data(written: tuple[dict[str, Any], Path]) -> None:
    result, folder = written
    data = json.loads((folder / DATA).read_text(encoding='utf-8'))
    assert data['result'] == result
    run = Run(**{**data['run'], 'day': date.fromisoformat(data['run']['day'])})
    text = (folder / PAGE).read_text(encoding='utf-8')
    assert text == page(result, run)
    assert ('| `copy` | what `teacher` uses of 320 rendered windows, each hidden by halves 96 '
            'times; 600 steps of 16 frames, its saliency begun anew |') in text
    assert (folder / PLOT).read_bytes().startswith(b'\x89PNG')
    result = json.loads(json.dumps(result))
    result['ahead']['copy']['0.1'].update(risk_accuracy=-0.1, risk_accuracy_ci=[-0.15, -0.05])
    assert '| `copy` | 10% | -10.0 [-15.0, -5.0] | behind |' in page(result, run)


def test_names_are_given_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='name of a reference'):
        compare_networks(None, {'random': SHIPPED})  # type: ignore[arg-type]
    done = CliRunner().invoke(app, ['eval', 'proposal', '--against', f'shipped={tmp_path}'])
    assert done.exit_code == 2
    assert 'two networks are called shipped' in done.output
