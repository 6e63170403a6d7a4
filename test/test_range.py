# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From the points of a sensor to what matters in a picture."""

from __future__ import annotations

import math
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
import torch

from vts_ros.errors import RangeError, SparsifierError
from vts_ros.lab.ranges.closeness import (
    CLOSE_SEC,
    closing_speed,
    FAR_SEC,
    in_path,
    time_to_collision,
    urgency,
)
from vts_ros.lab.ranges.ground import above_ground
from vts_ros.lab.ranges.point_clouds import points_of
from vts_ros.lab.ranges.range_channel import WEIGHT, with_closeness
from vts_ros.lab.ranges.range_projection import in_camera, Lens, nearest_range
from vts_ros.lab.ranges.range_sense import RangeSense
from vts_ros.lab.ranges.transform_tree import TransformTree
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import Proposal
from vts_ros.sparsify.proposal_network import EMBEDDING_CHANNELS, MAP_SIZE

INF = np.inf
#: A camera of 200 x 100 pixels whose axis is at the corner of four of its 4 x 8 cells, each of
#: 25 x 25 pixels: the centre of the first pixel is 0.
LENS = Lens.of([100.0, 0.0, 99.5, 0.0, 100.0, 49.5, 0.0, 0.0, 1.0], (), 200, 100)
CELLS = (4, 8)
#: From x ahead, y left, z up to x right, y down, z ahead.
TO_OPTICAL = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0],
                       [0.0, 0.0, 0.0, 1.0]])


def at(*cells: tuple[int, int, float]) -> NDArray[np.float32]:
    """Return a map with ranges in some cells."""
    found = np.full(CELLS, INF, np.float32)
    for row, column, value in cells:
        found[row, column] = value
    return found


@pytest.mark.parametrize(('point', 'expected'), [
    # 10 m ahead, a little right of and below the axis: pixel (100.5, 50.5).
    ((0.1, 0.1, 10.0), at((2, 4, math.sqrt(100.02)))),
    ((-0.1, -0.1, 10.0), at((1, 3, math.sqrt(100.02)))),
    # 100 pixels to the right are at 45 degrees: the range is along the ray.
    ((9.9, 0.1, 10.0), at((2, 7, math.sqrt(9.9 ** 2 + 0.01 + 100.0)))),
    # The edge of the picture is half a pixel after the centre of its last.
    ((9.99, 0.1, 10.0), at((2, 7, math.sqrt(9.99 ** 2 + 0.01 + 100.0)))),
    ((10.01, 0.1, 10.0), at()),
    ((-9.99, 4.99, 10.0), at((3, 0, math.sqrt(9.99 ** 2 + 4.99 ** 2 + 100.0)))),
    ((-10.01, 4.99, 10.0), at()),
    ((0.1, 5.01, 10.0), at()),
    # Behind the camera, where a pinhole would show it upside down; in its plane; far off.
    ((0.1, 0.1, -10.0), at()),
    ((0.1, 0.1, 0.0), at()),
    ((500.0, 0.1, 1.0), at()),
])
def test_a_point_is_where_it_is_computed_by_hand(
        point: tuple[float, float, float], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(nearest_range(np.array([point]), LENS, CELLS), expected, rtol=1e-6)


def test_the_nearest_point_of_a_cell_counts_and_none_is_far() -> None:
    points = np.array([(0.2, 0.2, 30.0), (0.1, 0.1, 10.0), (0.3, 0.3, 20.0), (-1.0, 0.1, 10.0)])
    np.testing.assert_allclose(
        nearest_range(points, LENS, CELLS),
        at((2, 4, math.sqrt(100.02)), (2, 3, math.sqrt(101.01))), rtol=1e-6)
    assert (nearest_range(np.zeros((0, 3)), LENS) == np.full(MAP_SIZE, INF)).all()


@pytest.mark.parametrize(('mounted', 'point', 'expected'), [
    # A sensor at the camera, which looks ahead: 1 m to the left is pixel 89.5.
    ((0.0, 0.0, 0.0, 0.0), (10.0, 1.0, -0.1), at((2, 3, math.sqrt(101.01)))),
    # 2 m behind the camera and 1 m above it.
    ((-2.0, 0.0, 1.0, 0.0), (12.0, 1.0, -1.1), at((2, 3, math.sqrt(101.01)))),
    # Turned a quarter to the left: what it has ahead is beside the car, its right is ahead.
    ((0.0, 0.0, 0.0, 90.0), (1.0, -10.0, -0.1), at((2, 3, math.sqrt(101.01)))),
    ((0.0, 0.0, 0.0, 90.0), (10.0, 1.0, -0.1), at()),
    # It looks back: what it has behind is before the camera.
    ((0.0, 0.0, 0.0, 180.0), (-10.0, -1.0, -0.1), at((2, 3, math.sqrt(101.01)))),
    ((0.0, 0.0, 0.0, 180.0), (10.0, 1.0, -0.1), at()),
])
def test_points_are_moved_into_the_frame_of_the_camera(
        mounted: tuple[float, float, float, float], point: tuple[float, float, float],
        expected: NDArray[np.float32]) -> None:
    x, y, z, degrees = mounted
    tree = TransformTree()
    half = math.radians(degrees) / 2.0
    tree.add('base_link', 'lidar', (x, y, z), (0.0, 0.0, math.sin(half), math.cos(half)))
    tree.add('base_link', 'camera_link', (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 2.0))
    # As every optical frame is mounted, by REP 103.
    tree.add('camera_link', '/camera_optical', (0.0, 0.0, 0.0), (-0.5, 0.5, -0.5, 0.5))
    transform = tree.between('/lidar', 'camera_optical')
    assert transform is not None
    found = nearest_range(in_camera(np.array([point, (np.nan, 0.0, 0.0)]), transform), LENS, CELLS)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_frames_that_do_not_meet_have_no_transform_and_circles_end() -> None:
    tree = TransformTree()
    rest = (0.0, 0.0, 0.0, 1.0)
    tree.add('base_link', 'lidar', (1.0, 0.0, 0.0), rest)
    tree.add('other', 'camera', (0.0, 0.0, 0.0), rest)
    assert tree.between('lidar', 'camera') is None
    back = tree.between('base_link', 'lidar')
    assert back is not None
    assert back[0, 3] == -1.0
    tree.add('lidar', 'base_link', (0.0, 0.0, 0.0), rest)
    assert tree.between('lidar', 'camera') is None
    with pytest.raises(RangeError, match='is none'):
        tree.add('base_link', 'lidar', (1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))


def test_distortion_is_that_of_opencv_and_does_not_come_back() -> None:
    bent = Lens.of(LENS.matrix, (-0.3, 0.0, 0.0, 0.0, 0.0), 200, 100, 'plumb_bob')
    # x / z = 0.5: r2 = 0.25, so 100 * 0.5 * (1 - 0.3 * 0.25) = 46.25 pixels from the middle.
    # The cell begins at 50.
    point = np.array([(5.2, 0.1, 10.0)])
    assert np.isfinite(nearest_range(point, LENS, CELLS)[2, 6])
    assert np.isfinite(nearest_range(point, bent, CELLS)[2, 5])
    # At x / z = 1.8 the polynomial is back in the picture: 100 * 1.8 * (1 - 0.3 * 3.24).
    assert not np.isfinite(nearest_range(np.array([(18.0, 0.1, 10.0)]), bent, CELLS)).any()


@pytest.mark.parametrize(('matrix', 'distortion', 'model', 'said'), [
    (np.zeros(9), (), '', 'not calibrated'),
    (np.zeros(4), (), '', '9 numbers'),
    (LENS.matrix, np.full(4, 0.1), 'equidistant', "'equidistant' is not understood"),
    (LENS.matrix, np.full(3, 0.1), 'plumb_bob', 'has 3 numbers'),
])
def test_a_camera_without_a_calibration_is_refused(
        matrix: Any, distortion: Any, model: str, said: str) -> None:
    with pytest.raises(RangeError, match=said):
        Lens.of(matrix, distortion, 200, 100, model)


def test_closing_speed_and_time_to_collision() -> None:
    before = at((1, 1, 20.0), (2, 5, 30.0), (3, 3, 10.0))
    now = at((1, 1, 18.0), (2, 4, 27.0), (3, 3, 11.0), (0, 7, 5.0))
    speed = closing_speed(before, now, 0.2)
    # The second has moved by a cell, the third goes away; of the last nothing is known.
    assert [round(float(speed[cell]), 3) for cell in ((1, 1), (2, 4), (3, 3))] == [
        10.0, 15.0, -5.0]
    assert np.isnan(speed[0, 7])
    ttc = time_to_collision(now, speed)
    assert [round(float(ttc[cell]), 3) for cell in ((1, 1), (2, 4), (3, 3), (0, 7), (0, 0))] == [
        1.8, 1.8, INF, INF, INF]
    with pytest.raises(ValueError, match='needs time'):
        closing_speed(before, now, 0.0)


def test_what_comes_from_the_side_is_not_fast() -> None:
    # A pole at 8 m comes before a wall at 40 m: 160 m/s, if it were the wall.
    wall = np.full(CELLS, 40.0, np.float32)
    now = wall.copy()
    now[1, 3] = 8.0
    speed = closing_speed(wall, now, 0.2)
    assert np.isnan(speed[1, 3])
    assert (np.nan_to_num(speed) == 0.0).all()


def test_what_is_beside_the_path_is_not_in_it() -> None:
    # The middle of the first cell is 87.5 pixels to the left: 0.875 / sqrt(1 + 0.875^2) = 0.6585
    # of the range is to the side; of the fourth, 12.5 pixels, 0.124.
    found = in_path(at((0, 0, 2.0), (1, 0, 3.417), (2, 0, 5.0), (0, 3, 12.0), (1, 4, 30.0)), LENS)
    assert [round(float(found[cell]), 2) for cell in (
        (0, 0), (1, 0), (2, 0), (0, 3), (1, 4), (3, 3))] == [1.0, 0.5, 0.0, 1.0, 0.0, 1.0]


def test_urgency_is_one_when_it_is_late_and_zero_when_there_is_time() -> None:
    middle = (CLOSE_SEC + FAR_SEC) / 2.0
    found = urgency(np.array([0.0, CLOSE_SEC, middle, FAR_SEC, INF]))
    assert found.tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert found.dtype == np.float32


def road_and_child() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points of a road that rises by 2 degrees 1.5 m below, and of a child on it."""
    x, z = np.meshgrid(np.linspace(-5.0, 5.0, 40), np.linspace(4.0, 40.0, 80))
    road = np.stack([x, 1.5 - math.tan(math.radians(2.0)) * z, z], axis=-1).reshape(-1, 3)
    heights = np.linspace(0.4, 1.1, 15)
    child = np.stack([np.full(15, 0.3), 1.5 - math.tan(math.radians(2.0)) * 12.0 - heights,
                      np.full(15, 12.0)], axis=-1)
    return road, child


def test_the_road_is_left_out_and_what_stands_on_it_stays() -> None:
    road, child = road_and_child()
    road += np.random.default_rng(3).normal(0.0, 0.03, road.shape)
    found = above_ground(np.concatenate([road, child]))
    assert len(found) == len(child)
    np.testing.assert_array_equal(found, child)
    # Without a road all points stay: a wall, and nothing.
    wall = np.stack([*np.meshgrid(np.linspace(-5, 5, 30), np.linspace(-3, 2, 30)),
                     np.full((30, 30), 9.0)], axis=-1).reshape(-1, 3)
    np.testing.assert_array_equal(above_ground(wall), wall)
    assert above_ground(np.zeros((0, 3))).shape == (0, 3)


# --- messages ---------------------------------------------------------------------------------

def field(name: str, offset: int, datatype: int = 7, count: int = 1) -> SimpleNamespace:
    return SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count)


def cloud_message(**changes: Any) -> SimpleNamespace:
    """Return an organised cloud of 2 x 2 points with a padding after each point and row."""
    fields = [field('intensity', 0, 2), field('z', 1), field('x', 5, 8), field('y', 13, 4)]
    order = '>' if changes.get('is_bigendian') else '<'
    rows = [b''.join(struct.pack(f'{order}BfdH', 9, z, x, y) + b'\xff' * 3 for x, y, z in row)
            + b'\xee' * 5 for row in (((1.5, 2, 3.5), (4.5, 5, 6.5)),
                                      ((7.5, 8, 9.5), (math.nan, 11, 12.5)))]
    values = {'fields': fields, 'is_bigendian': False, 'width': 2, 'height': 2, 'point_step': 18,
              'row_step': 41, 'data': b''.join(rows), 'is_dense': False}
    return SimpleNamespace(**{**values, **changes})


@pytest.mark.parametrize('is_bigendian', [False, True])
def test_a_cloud_is_read_whatever_its_layout(is_bigendian: bool) -> None:
    # The last is no number, and left out.
    assert points_of(cloud_message(is_bigendian=is_bigendian)).tolist() == [
        [1.5, 2.0, 3.5], [4.5, 5.0, 6.5], [7.5, 8.0, 9.5]]


def test_a_cloud_of_a_usual_driver_is_read() -> None:
    points = np.arange(12, dtype='<f4').reshape(4, 3)
    message = cloud_message(
        fields=[field(name, 4 * k, count=0) for k, name in enumerate('xyz')], width=4, height=1,
        point_step=12, row_step=0, data=np.frombuffer(points.tobytes(), np.uint8))
    np.testing.assert_array_equal(points_of(message), points)
    assert points_of(cloud_message(width=0, data=b'')).shape == (0, 3)


@pytest.mark.parametrize(('changes', 'said'), [
    ({'fields': [field('x', 0), field('range', 4)]}, 'without y, z; it has x, range'),
    ({'fields': []}, 'has no fields'),
    ({'fields': [field(name, 0, 99) for name in 'xyz']}, 'x of a cloud is no single number'),
    ({'fields': [field(name, 0, 7, 3) for name in 'xyz']}, 'x of a cloud is no single number'),
    ({'fields': [field(name, 16) for name in 'xyz']}, 'fields that end at 20'),
    ({'data': bytes(40)}, 'does not fit 40 bytes'),
    ({'row_step': 30}, 'rows of 30 bytes'),
])
def test_a_cloud_that_cannot_be_read_says_why(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RangeError, match=said):
        points_of(cloud_message(**changes))


# --- the channel ------------------------------------------------------------------------------

def proposal(seed: int = 0) -> Proposal:
    rng = np.random.default_rng(seed)
    return Proposal(rng.random(MAP_SIZE, np.float32),
                    rng.random((EMBEDDING_CHANNELS, *MAP_SIZE), np.float32))


def test_a_cell_matters_by_what_is_seen_and_by_how_close_it_is() -> None:
    seen = proposal()
    close = np.zeros(MAP_SIZE, np.float32)
    close[3, 4] = 1.0
    found = with_closeness(seen, close)
    assert found.saliency[3, 4] == pytest.approx(
        1.0 - (1.0 - seen.saliency[3, 4]) * (1.0 - WEIGHT))
    assert found.saliency.dtype == np.float32
    assert with_closeness(seen, close, 1.0).saliency[3, 4] == 1.0
    changed = found.saliency != seen.saliency
    assert changed.sum() == 1
    assert found.embedding is seen.embedding
    on_device = with_closeness(seen._replace(saliency=torch.from_numpy(seen.saliency)), close)
    np.testing.assert_array_equal(on_device.saliency.numpy(), found.saliency)
    assert with_closeness(seen, None) is seen
    with pytest.raises(SparsifierError, match='maps of'):
        with_closeness(seen, np.zeros((2, 2), np.float32))


SEC = 1_000_000_000
PICTURE = Frame('front', 10 * SEC, np.zeros((4, 4, 3), np.uint8))


def sense(lines: list[str] | None = None, **without: bool) -> RangeSense:
    """Return a sense with a camera and, between both frames, a transform."""
    found = RangeSense((lines if lines is not None else []).append)
    if 'camera' not in without:
        found.add_camera('front', LENS, 'camera_optical')
    if 'transform' not in without:
        found.transforms.add_matrix('camera_optical', 'lidar', TO_OPTICAL)
    return found


def obstacle(ahead_m: float) -> NDArray[np.float64]:
    """Return points of something 1 m wide and 0.6 m high, in the frame of the sensor."""
    y, z = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(-0.3, 0.3, 7))
    return np.stack([np.full_like(y, ahead_m), y, z], axis=-1).reshape(-1, 3)


def test_what_comes_nearer_is_close_in_its_cells_alone() -> None:
    range_sense = sense()
    range_sense.add_cloud(PICTURE.stamp_ns - 3 * SEC // 10, 'lidar', obstacle(13.0))
    range_sense.add_cloud(PICTURE.stamp_ns + SEC // 50, 'lidar', obstacle(10.0))
    found = range_sense(PICTURE)
    assert found is not None
    assert found.shape == MAP_SIZE
    # 3 m in 0.32 s, 10 m away: 1.07 s.
    assert found.max() == 1.0
    rows, columns = np.nonzero(found)
    assert set(rows) <= {5, 6}
    assert set(columns) <= {9, 10, 11}
    assert range_sense.counters == {'with_range': 1}
    # What stands still is not.
    standing = sense()
    for ago in (3, 0):
        standing.add_cloud(PICTURE.stamp_ns - ago * SEC // 10, 'lidar', obstacle(10.0))
    calm = standing(PICTURE)
    assert calm is not None
    assert not calm.any()


@pytest.mark.parametrize(('without', 'stamps_sec', 'kind', 'said'), [
    ({'camera': True}, (9.7, 10.0), 'no_camera_info', 'no camera_info of front'),
    ({'transform': True}, (9.7, 10.0), 'no_transform', 'from lidar to camera_optical'),
    ({}, (), 'no_cloud', 'no cloud within'),
    ({}, (9.7, 9.88), 'no_cloud', 'see that their clocks are the same'),
    ({}, (10.0, 10.05), 'no_change', 'shortly before'),
    ({}, (9.2, 10.0), 'no_change', 'shortly before'),
])
def test_what_is_missing_is_counted_and_said_once(
        without: dict[str, bool], stamps_sec: tuple[float, ...], kind: str, said: str) -> None:
    lines: list[str] = []
    range_sense = sense(lines, **without)
    for at_sec in stamps_sec:
        range_sense.add_cloud(round(at_sec * SEC), 'lidar', obstacle(13.0 - at_sec % 1.0))
    for _ in range(2):
        assert range_sense(PICTURE) is None
    assert range_sense.counters == {kind: 2}
    line, = lines
    assert said in line
    assert 'the pictures are described without it' in line


def test_an_empty_cloud_is_counted_and_a_drive_that_begins_anew_is_another() -> None:
    lines: list[str] = []
    range_sense = sense(lines)
    for ago in (3, 0):
        range_sense.add_cloud(PICTURE.stamp_ns - ago * SEC // 10, 'lidar', np.zeros((0, 3)))
    assert range_sense(PICTURE) is None
    assert range_sense.counters == {'empty': 2, 'no_cloud': 1}
    assert len(lines) == 2
    for stamp_sec in (9.7, 10.0, 3.0):
        range_sense.add_cloud(round(stamp_sec * SEC), 'lidar', obstacle(10.0))
    assert range_sense(PICTURE) is None
    assert range_sense.counters['no_cloud'] == 2


def test_messages_are_taken_and_those_that_cannot_be_used_are_counted() -> None:
    space, lines = SimpleNamespace, list[str]()
    range_sense = RangeSense(lines.append)

    def header(frame_id: str, stamp_ns: int = 0) -> SimpleNamespace:
        sec, nanosec = divmod(stamp_ns, SEC)
        return space(frame_id=frame_id, stamp=space(sec=sec, nanosec=nanosec))

    def turned(w: float) -> SimpleNamespace:
        # As every optical frame is mounted, by REP 103.
        rotation = space(x=-w, y=w, z=-w, w=w)
        return space(transforms=[space(
            header=header('lidar'), child_frame_id='camera_optical', transform=space(
                translation=space(x=0.0, y=0.0, z=0.0), rotation=rotation))])

    info = space(header=header('camera_optical'), k=LENS.matrix.ravel(), d=np.zeros(5),
                 width=200, height=100, distortion_model='plumb_bob')
    range_sense.take_camera('front', info)
    range_sense.take_transforms(turned(0.5))
    for ago, ahead_m in ((3, 13.0), (0, 10.0)):
        points = obstacle(ahead_m).astype('<f4')
        message = cloud_message(
            fields=[field(name, 4 * k) for k, name in enumerate('xyz')], width=len(points),
            height=1, point_step=12, row_step=12 * len(points), data=points.tobytes())
        message.header = header('lidar', PICTURE.stamp_ns - ago * SEC // 10)
        range_sense.take_cloud(message, 0)
    found = range_sense(PICTURE)
    assert found is not None
    assert found.max() == 1.0
    assert not lines
    range_sense.take_camera('front', space(**{**vars(info), 'distortion_model': 'equidistant'}))
    range_sense.take_transforms(turned(0.0))
    range_sense.take_cloud(cloud_message(fields=[]), 0)
    assert range_sense.counters == {'with_range': 1, 'refused': 3}
    assert len(lines) == 3
