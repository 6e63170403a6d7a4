# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The teacher that finds road users, in single pictures and in recordings."""

from collections import Counter
from pathlib import Path
import time

from bag_maker import (
    compressed,
    COMPRESSED_TOPIC,
    drive,
    jpeg,
    picture,
    real_bags,
    START_NS,
    write,
)
import cv2
from detector_maker import detr, real_detector, yolox
import numpy as np
import pytest

from vts_ros.errors import BagError
from vts_ros.lab.detectors import DetectorError
from vts_ros.lab.evaluation.drawn_boxes import read_tracks
from vts_ros.lab.recordings import every_window, frames_of, name_of
from vts_ros.lab.teacher import LEAST, RoadUser, SURE, Teacher, without_own_car
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE

pytestmark = pytest.mark.slow

DRAWN = Path(__file__).parent / 'data' / 'vehicles.json'
CARS = (2, 2, 17)


@pytest.fixture(scope='module')
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a detector of red things."""
    return yolox(tmp_path_factory.mktemp('detector') / 'yolox.onnx')


def test_boxes_are_road_users_and_each_is_there_once(tmp_path: Path) -> None:
    boxes = np.array([[0.5, 0.5, 0.4, 0.4], [0.52, 0.5, 0.4, 0.4], [0.2, 0.2, 0.1, 0.1]],
                     np.float32)
    teacher = Teacher(detr(tmp_path / 'detr.onnx', boxes, CARS))
    # The more green, the surer is the second box.
    users = teacher.boxes(np.full((48, 64, 3), (255, 160, 192), np.uint8))
    assert [user.kind for user in users] == ['car', 'animal']
    assert users[0].box == pytest.approx((0.3, 0.3, 0.7, 0.7), abs=1e-3)
    assert users[0].confidence >= users[1].confidence > SURE
    # A chair is no road user, and a detector of nothing else is no teacher.
    chairs = Teacher(detr(tmp_path / 'chairs.onnx', boxes, (56, 56, 2)))
    assert [user.kind for user in chairs.boxes(np.full((48, 64, 3), 255, np.uint8))] == ['car']
    detr(tmp_path / 'trees.onnx', boxes, (0, 0, 1), 2)
    (tmp_path / 'config.json').write_text('{"id2label": {"0": "tree", "1": "house"}}')
    with pytest.raises(DetectorError, match=r'trees\.onnx knows no road users'):
        Teacher(tmp_path / 'trees.onnx')


def test_tiles_find_what_is_small(detector: Path) -> None:
    rgb = np.zeros((64, 128, 3), np.uint8)
    # A cell of a tile, and a quarter of a cell of the whole picture; the second one lies at the
    # edge of the first tile, and within the next.
    rgb[8:16, 40:48] = rgb[32:40, 56:64] = (255, 0, 0)
    assert not Teacher(detector).boxes(rgb)
    found = Teacher(detector, tiles=True).boxes(rgb)
    assert sorted(user.box for user in found) == [
        (40 / 128, 8 / 64, 48 / 128, 16 / 64), (56 / 128, 32 / 64, 64 / 128, 40 / 64)]


def test_what_the_edge_of_a_tile_cuts_is_left_out(tmp_path: Path) -> None:
    # In every view the same: a box in the middle, and one that the right edge cuts.
    boxes = np.array([[0.3, 0.5, 0.1, 0.2], [0.95, 0.5, 0.1, 0.2], [0.3, 0.5, 0.1, 0.2]],
                     np.float32)
    teacher = Teacher(detr(tmp_path / 'detr.onnx', boxes, CARS), tiles=True)
    ends = {round(user.box[2], 3) for user in teacher.boxes(np.full((48, 64, 3), 255, np.uint8))}
    # The whole picture and three tiles; the right edge of the picture itself cuts nothing.
    assert ends == {0.35, 0.175, 0.425, 0.675, 1.0}


def test_a_recording_is_looked_at_once(detector: Path, tmp_path: Path) -> None:
    bag, cache = drive(tmp_path / 'bag', 12, broken=3), tmp_path / 'cache'
    told: list[int] = []
    found = Teacher(detector).boxes_of(bag, cache, told.append)
    assert len(found) == sum(told) == 11
    assert {user.kind for users in found.values() for user in users} <= {
        'car', 'heavy vehicle', 'person'}
    # The red box of the pictures moves to the right.
    left = [users[0].box[0] for users in found.values()]
    assert left == sorted(left)
    assert left[-1] > left[0]
    again = Teacher(detector).boxes_of(bag, cache, told.append)
    assert (again, len(told)) == (found, 11)
    # Other settings, another recording: looked at anew.
    Teacher(detector, tiles=True).boxes_of(bag, cache, told.append)
    assert len(told) == 22
    Teacher(detector).boxes_of(drive(tmp_path / 'other', 6), cache, told.append)
    assert len(told) == 28


def test_the_own_car_is_no_road_user() -> None:
    bonnet = RoadUser('car', 0.8, (0.1, 0.9, 0.9, 1.0))
    frames = {('front', stamp): [bonnet._replace(box=(0.1, 0.9, 0.9, 0.98 + 0.002 * stamp)),
                                 RoadUser('car', 0.7, (0.08 * stamp, 0.8, 0.08 * stamp + 0.1, 1))]
              for stamp in range(10)}
    # What moves along the lower edge stays, and so does what stands still above it.
    for users in frames.values():
        users.append(RoadUser('car', 0.9, (0.4, 0.4, 0.6, 0.6)))
    left = without_own_car(frames)
    assert Counter(len(users) for users in left.values()) == {2: 10}
    assert not any(user.box[2] - user.box[0] > 0.5 for users in left.values() for user in users)
    # Of a few frames nobody knows.
    few = {key: users for key, users in frames.items() if key[1] < 5}
    assert without_own_car(few) == few


def test_the_own_car_is_found_in_a_long_recording_too() -> None:
    """Not every box with every other one by itself: an hour has tens of thousands."""
    frames = {('front', stamp): [RoadUser('car', 0.8, (0.1, 0.9, 0.9, 1.0)),
                                 RoadUser('car', 0.7, (0.4, 0.4, 0.6, 0.6))]
              for stamp in range(6000)}
    start_sec = time.process_time()
    left = without_own_car(frames)
    assert {len(users) for users in left.values()} == {1}
    # Against hanging: seconds, and minutes box by box.
    assert time.process_time() - start_sec < 30.0


def test_a_picture_shows_what_is_found(detector: Path, tmp_path: Path) -> None:
    path = Teacher(detector).show([drive(tmp_path / 'bag', 12)], tmp_path / 'boxes')
    shown = cv2.imread(str(path))
    assert shown is not None
    assert shown.shape == (576, 960, 3)
    # The frames of the boxes of cars, in BGR.
    assert (abs(shown.astype(int) - (255, 200, 80)).max(axis=2) < 40).sum() > 200


def test_a_folder_of_pictures_is_a_recording(tmp_path: Path) -> None:
    folder = tmp_path / 'drive'
    folder.mkdir()
    with pytest.raises(BagError):
        list(frames_of(folder))
    for number in reversed(range(30)):
        cv2.imwrite(str(folder / f'{number:03d}.png'), picture(number)[..., ::-1])
    (folder / 'notes.txt').write_text('not a picture')
    frames = list(frames_of(folder))
    assert len(frames) == 30
    assert name_of(folder) == 'drive'
    assert all((frame.rgb() == picture(number)).all() for number, frame in enumerate(frames))
    windows = list(every_window(folder))
    # The pipeline sees every fourth frame; each of the four ways to begin gives its windows.
    assert all([frame.stamp_ns - window[0].stamp_ns for frame in window]
               == [step * 400_000_000 for step in range(5)] for window in windows)
    assert sorted(window[0].stamp_ns // 100_000_000 for window in windows) == list(range(10, 24))


def test_frames_that_show_the_same_again_are_left_out(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [
        (COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp, compressed(stamp, jpeg(picture(number))))
        for number in range(31) for stamp in [START_NS + 20_000_000 * number]])
    stamps = [frame.stamp_ns - START_NS for frame in frames_of(bag)]
    assert stamps == list(range(0, 600_000_001, 60_000_000))


def test_a_real_detector_finds_the_vehicles_that_a_person_drew() -> None:
    teacher, recordings = Teacher(real_detector()), read_tracks(DRAWN)
    hits: list[bool] = []
    for bag in real_bags():
        frames = list(frames_of(bag)) if bag.name in recordings else []
        for frame in frames[::5]:
            drawn = [box for track in recordings[bag.name].values() if (
                box := track.at(1e-9 * (frame.stamp_ns - frames[0].stamp_ns)))
                and box[3] - box[1] > 0.1 and box[0] > 0.02 and box[2] < 0.98]
            middles = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
                       for _, _, box in teacher.boxes(frame.rgb())]
            hits += [any(left < x < right and top < y < bottom for x, y in middles)
                     for left, top, right, bottom in drawn]
    if not hits:
        pytest.skip('no recording with boxes here')
    assert len(hits) > 10
    assert np.mean(hits) > 0.85
    assert LEAST < SURE
