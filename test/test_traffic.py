# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is kept of recordings follows the traffic in them."""

import json
from pathlib import Path
from typing import Any

from bag_maker import compressed, drive, jpeg, picture, real_bags, times, write
import cv2
import numpy as np
import pytest
from test_cli import vts

from vts_ros.lab.evaluation.box_coverage import (
    DATA,
    draw_kept,
    PAGE,
    PICTURE,
    picture_size,
    read_tracks,
    Track,
    traffic_kept,
    TrafficError,
)
from vts_ros.sparsify import Sparsifier
from vts_ros.tools.bags import COMPRESSED_IMAGE, read_windows

#: Drawn by hand.
BOXES = Path(__file__).parent / 'data' / 'vehicles.json'
GRID = (4, 7)


def test_a_vehicle_moves_evenly_between_its_boxes() -> None:
    track = Track(np.array([1.0, 2.0]), np.array([[0.0, 0.2, 0.1, 0.4], [0.4, 0.4, 0.5, 0.6]]))
    assert track.at(1.0) == (0.0, 0.2, 0.1, 0.4)
    assert track.at(1.25) == pytest.approx((0.1, 0.25, 0.2, 0.45))
    # Half a frame beyond is the same picture; more is not known.
    assert track.at(2.05) == (0.4, 0.4, 0.5, 0.6)
    assert track.at(0.9) is None
    assert track.at(2.1) is None


def test_the_share_is_that_of_the_area(tmp_path: Path) -> None:
    bag, sparsifier = drive(tmp_path / 'bag', 24), Sparsifier()
    # Whole tokens, so that each counts the same: all of the picture.
    everything = {'all': Track(np.array([0.0, 9.0]), np.array([[0.0, 0.0, 1.0, 1.0]] * 2))}
    found = traffic_kept(sparsifier, bag, everything, GRID, (1.0, 0.5))
    assert found['windows'] >= 4
    assert found['boxes'] == 5 * found['windows']
    assert found['budgets']['1'] == {'kept': 1.0, 'older': 1.0}
    # Exactly half of all tokens are kept, and less of the older frames, which have no reserve.
    assert found['budgets']['0.5']['kept'] == 0.5
    assert found['budgets']['0.5']['older'] < 0.5
    # Nothing was drawn in the time of the recording.
    later = {'late': Track(np.array([90.0]), np.array([[0.0, 0.0, 1.0, 1.0]]))}
    assert traffic_kept(sparsifier, bag, later, GRID, (0.5,))['budgets'] == {
        '0.5': {'kept': None, 'older': None}}


@pytest.mark.parametrize('content', [
    '{', '[]', '{"recordings": 3}', '{"recordings": {"a": {"b": []}}}',
    '{"recordings": {"a": {"b": [[0, 0, 0, 1]]}}}',
    '{"recordings": {"a": {"b": [[0, 0.5, 0, 0.4, 1]]}}}',
    '{"recordings": {"a": {"b": [[0, 0, 0, 960, 540]]}}}',
    '{"recordings": {"a": {"b": [[1, 0, 0, 1, 1], [0, 0, 0, 1, 1]]}}}',
    '{"recordings": {"a": {"b": [[NaN, 0, 0, 1, 1]]}}}',
    '{"recordings": {"a": {"b": [["x", 0, 0, 1, 1]]}}}'])
def test_a_file_that_holds_no_boxes_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / 'boxes.json'
    path.write_text(content)
    with pytest.raises(TrafficError, match=r'boxes\.json does not hold boxes') as caught:
        read_tracks(path)
    assert '\n' not in str(caught.value)


def test_broken_pictures_cost_their_windows_and_several_cameras_are_refused(tmp_path: Path
                                                                            ) -> None:
    sparsifier = Sparsifier()
    everything = {'all': Track(np.array([0.0, 9.0]), np.array([[0.0, 0.0, 1.0, 1.0]] * 2))}
    sound = traffic_kept(sparsifier, drive(tmp_path / 'sound', 24), everything, GRID, (0.5,))
    bag = drive(tmp_path / 'broken', 24, broken=0)
    assert picture_size(bag) == (96, 160)
    broken = traffic_kept(sparsifier, bag, everything, GRID, (0.5,))
    assert broken['windows'] == sound['windows'] - 1
    times_ns = times(24)
    both = write(tmp_path / 'both', [
        (f'/{name}/image_raw/compressed', COMPRESSED_IMAGE, stamp,
         compressed(stamp, jpeg(picture(number)), name))
        for number, stamp in enumerate(times_ns) for name in ('left', 'right')])
    with pytest.raises(TrafficError, match='several cameras'):
        traffic_kept(sparsifier, both, everything, GRID, (0.5,))
    # Each moment gives one window, however many cameras it has.
    assert len(list(read_windows(both))) == len(list(read_windows(tmp_path / 'sound')))


@pytest.mark.slow
def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    bag = drive(tmp_path / 'unknown', 6)
    done = vts('eval', 'proposal', '--bag', bag)
    assert done.returncode != 0
    assert '--boxes' in done.stderr
    done = vts('eval', 'proposal', '--bag', bag, '--boxes', BOXES)
    assert done.returncode == 1
    assert done.stderr.strip().endswith('knows no unknown')


@pytest.mark.slow
def test_what_is_kept_of_recordings_follows_the_traffic(tmp_path: Path) -> None:
    bags = {bag.name: bag for bag in real_bags()}
    known = sorted(bags.keys() & read_tracks(BOXES).keys())
    if not known:
        pytest.skip('no recording with boxes here')
    arguments = [part for name in known for part in ('--bag', bags[name])]
    done = vts('eval', 'proposal', *arguments, '--boxes', BOXES, '--budgets', '0.6,0.4,0.2',
               '--report', tmp_path, '--json', timeout_sec=500.0)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert sorted(result) == known
    for name, found in result.items():
        assert found['windows'] >= 5, name
        assert found['boxes'] >= 20, name
        for budget, shares in found['budgets'].items():
            # Chance keeps the budget.
            assert shares['kept'] > 1.3 * float(budget), (name, budget, shares)
            assert shares['older'] > 1.3 * float(budget), (name, budget, shares)
        assert f'| `{name}` | {found["boxes"]} | all |' in (tmp_path / PAGE).read_text()
    assert json.loads((tmp_path / DATA).read_text())['result'] == result
    picture = cv2.imread(str(tmp_path / PICTURE))
    assert picture is not None
    assert picture.shape == (136 * len(known), 1200, 3)


def test_the_picture_shows_what_is_kept(tmp_path: Path) -> None:
    bag, sparsifier = drive(tmp_path / 'bag', 24), Sparsifier()
    with pytest.raises(TrafficError, match='no box lies in any full window'):
        draw_kept(sparsifier, bag, {}, GRID)
    box = {'one': Track(np.array([0.0, 9.0]), np.array([[0.25, 0.25, 0.75, 0.75]] * 2))}
    drawn = draw_kept(sparsifier, bag, box, GRID)
    # 60 % of the area of five frames are grey, and of the rest what is so by itself.
    coloured = np.ptp(drawn.astype(int), axis=2) > 8
    assert 0.1 < coloured.mean() < 0.42
    # The upper edge of the box, in the oldest frame.
    assert (drawn[34, 70:170] == (255, 210, 60)).all()
