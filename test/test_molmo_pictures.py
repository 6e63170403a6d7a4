# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures for Molmo2, whose image processor needs torchvision, against OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from vlm_maker import make

from vts_ros.vlm import Vlm
from vts_ros.vlm.families.molmo_pictures import MolmoPictures

pytestmark = pytest.mark.slow

#: Of the published checkpoints: sides of a crop and of a patch, and how far crops lie apart.
CROP_PX, PATCH_PX, WINDOW_PX = 378, 14, 266
#: Crops of a picture of 1280x720 px, and what they are cut out of.
ROWS, COLUMNS, CANVAS = 2, 4, (644, 1176)
#: Between black and white, which is -1 to 1: values are rounded to whole ones of 255.
CLOSE = 1.01 * 2 / 255


@pytest.fixture(scope='module')
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)


def scaled(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Return a picture as the vision encoder is to see it [H, W, 3]."""
    small = cv2.resize(picture.astype(np.float32), (width, height),
                       interpolation=cv2.INTER_LINEAR)
    return np.asarray(small.round() / 127.5 - 1.0, np.float32)


def patches(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return patches [N, P], row by row, of a picture [H, W, 3]."""
    rows, columns = (side // PATCH_PX for side in picture.shape[:2])
    cut = picture.reshape(rows, PATCH_PX, columns, PATCH_PX, 3).transpose(0, 2, 1, 3, 4)
    return cut.reshape(rows * columns, -1)


def test_a_picture_is_seen_as_a_whole_and_in_crops(picture: NDArray[np.uint8]) -> None:
    made = MolmoPictures()([picture], input_data_format='channels_last')
    assert made['image_grids'].tolist() == [[14, 14, 23, 42]]
    canvas = scaled(picture, *CANVAS)
    views = [scaled(picture, CROP_PX, CROP_PX)]
    for row in range(ROWS):
        for column in range(COLUMNS):
            top, left = WINDOW_PX * row, WINDOW_PX * column
            views.append(canvas[top:top + CROP_PX, left:left + CROP_PX])
    expected = np.stack([patches(view) for view in views])
    np.testing.assert_allclose(made['pixel_values'].numpy(), expected, atol=CLOSE)
    # What becomes a token in detail are four patches that lie together in the picture.
    whole = patches(canvas).reshape(46, 84, -1)
    flat = made['pixel_values'].numpy().reshape(9 * 729, -1)
    places = made['image_token_pooling'][196:].reshape(23, 42, 2, 2).numpy()
    for cell in ((0, 0), (0, 41), (10, 13), (11, 20), (22, 41)):
        row, column = (2 * place for place in cell)
        np.testing.assert_allclose(
            flat[places[cell]], whole[row:row + 2, column:column + 2], atol=CLOSE)


def test_a_frame_of_a_video_is_seen_as_a_whole(picture: NDArray[np.uint8]) -> None:
    made = MolmoPictures()([picture, picture[:, ::-1].copy()], as_video=True,
                           input_data_format='channels_last')
    assert made['image_grids'].tolist() == [[9, 9, 0, 0]] * 2
    view = scaled(picture, CROP_PX, CROP_PX)
    expected = np.stack([patches(view), patches(view[:, ::-1])])
    np.testing.assert_allclose(made['pixel_values'].numpy(), expected, atol=CLOSE)
    places = made['image_token_pooling'].reshape(2, 9, 9, 9)
    assert places[1, 0, 1].tolist() == [729 + 27 * row + column for row in range(3)
                                        for column in range(3, 6)]


@pytest.mark.parametrize(('most', 'grid'), [
    (0, (23, 42)), (966, (23, 42)), (965, (23, 33)), (529, (23, 23)), (400, (14, 23)),
    (256, (14, 14)), (1, (14, 14))])
def test_a_picture_has_as_many_crops_as_its_tokens_allow(
        picture: NDArray[np.uint8], most: int, grid: tuple[int, int]) -> None:
    made = MolmoPictures()([picture], input_data_format='channels_last', max_tokens=most)
    assert tuple(made['image_grids'][0, 2:].tolist()) == grid


def test_the_settings_of_the_checkpoint_count(tmp_path: Path) -> None:
    folder = make('molmo2', tmp_path / 'molmo2')
    assert not MolmoPictures.load(folder).marks.use_single_crop_col_tokens
    grids = []
    for pooling in ('[3, 3]', '[4, 2]'):
        (folder / 'video_preprocessor_config.json').write_text(
            f'{{"pooling_size": {pooling}}}', encoding='utf-8')
        vlm = Vlm.load(folder, device='cpu', frames_as='video')
        grids.append(vlm.token_grid(90, 150))
    assert grids == [(3, 3), (2, 4)]
    (folder / 'processor_config.json').unlink()
    images: Any = Vlm.load(folder, device='cpu').images
    # As the processor of transformers, unless it is told otherwise.
    assert images.marks.use_single_crop_col_tokens is None
