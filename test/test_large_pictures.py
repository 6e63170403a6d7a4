# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures that are larger than anybody looks at are decoded smaller, and nobody can tell."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest
from vlm_maker import make, names

from vts_ros.errors import FrameError
from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.pipeline.compressed_images import decode_image, decode_reduced
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import Vlm

pytestmark = pytest.mark.slow


def saved(picture: NDArray[np.uint8], kind: str = 'JPEG', **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope='module')
def scene() -> list[NDArray[np.uint8]]:
    return list(render(next(balanced_scenes('val', 1, first=2))).frames)


def grown(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize('factor', [2, 4, 8])
@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'subsampling': 0}])
def test_a_smaller_picture_is_the_mean_of_the_large_one(
        scene: list[NDArray[np.uint8]], factor: int, options: dict[str, Any]) -> None:
    data = saved(grown(scene[-1], 1283, 719), quality=95, **options)
    asked: list[tuple[int, int]] = []

    def reduction(height: int, width: int) -> int:
        asked.append((height, width))
        return factor

    found = decode_reduced(data, reduction)
    assert asked == [(719, 1283)]
    assert found.size == (719, 1283)
    height, width = found.rgb.shape[:2]
    assert (height, width) == (-(-719 // factor), -(-1283 // factor))
    expected = cv2.resize(decode_image(data), (width, height), interpolation=cv2.INTER_AREA)
    assert np.abs(found.rgb.astype(int) - expected).mean() < 3.0


def test_a_turned_picture_is_asked_for_as_it_is_seen(scene: list[NDArray[np.uint8]]) -> None:
    large, exif = grown(scene[-1], 1280, 720), Image.Exif()
    for orientation, size in ((3, (720, 1280)), (6, (1280, 720))):
        exif[0x0112] = orientation
        data = saved(large, exif=exif, quality=95)
        turned = decode_reduced(data, lambda height, width: 4 if height == 1280 else 2)
        factor = 4 if size[0] == 1280 else 2
        assert turned.size == size
        assert turned.rgb.shape == (size[0] // factor, size[1] // factor, 3)
        small = cv2.resize(decode_image(data), turned.rgb.shape[1::-1],
                           interpolation=cv2.INTER_AREA)
        assert np.abs(turned.rgb.astype(int) - small).mean() < 3.0


def test_only_jpegs_are_made_smaller(scene: list[NDArray[np.uint8]]) -> None:
    png = decode_reduced(saved(grown(scene[-1], 1280, 720), 'PNG'), lambda *_: 4)
    assert (png.rgb.shape, png.size) == ((720, 1280, 3), (720, 1280))


def test_a_jpeg_that_lacks_a_fragment_is_refused_at_every_size(
        scene: list[NDArray[np.uint8]]) -> None:
    data = saved(grown(scene[-1], 1280, 720), quality=90)
    for factor in (1, 2, 8):
        with pytest.raises(FrameError, match='damaged JPEG'):
            decode_reduced(data[:len(data) // 2] + data[len(data) // 2 + 1400:],
                           lambda *_, factor=factor: factor)


@pytest.mark.parametrize('name', names())
def test_a_family_is_given_all_that_it_sees(name: str, tmp_path: Path) -> None:
    vlm = Vlm.load(make(name, tmp_path / name), device='cpu', tokens_per_frame=64)
    for height, width in ((4320, 7680), (720, 1280), (150, 90), (100, 1000)):
        factor = vlm.reduction(height, width)
        small = -(-height // factor), -(-width // factor)
        assert vlm.token_grid(*small) == vlm.token_grid(height, width)
        seen = vlm._family.seen_size(vlm.token_grid(height, width))
        assert factor == 1 or (small[1] >= seen[0] and small[0] >= seen[1])
        assert vlm.reduction(height, width, (height, width)) == 1
    assert vlm.reduction(4320, 7680) > 1


def test_an_answer_about_a_large_picture_is_that_about_the_whole_one(
        scene: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch) -> None:
    window = [Frame('front', index * 400_000_000, saved(grown(picture, 3840, 2160), quality=92))
              for index, picture in enumerate(scene)]
    pipeline = Pipeline.load(PipelineConfig(threads=1))
    seen: list[tuple[int, ...]] = []
    encode = pipeline.vlm.encode

    def noting(rgb: NDArray[np.uint8]) -> Any:
        seen.append(rgb.shape)
        return encode(rgb)

    monkeypatch.setattr(pipeline.vlm, 'encode', noting)
    found = pipeline.describe(window)
    # The proposal network takes 336 x 192 pixels, more than the language model.
    assert seen == [(270, 480, 3)] * 5
    assert found.size == (2160, 3840)
    monkeypatch.setattr(pipeline.cache, '_reduction', None)
    pipeline.clear()
    expected = pipeline.describe(window)
    assert seen[5:] == [(2160, 3840, 3)] * 5
    assert found.answer.risk == expected.answer.risk != 'unknown'
    assert found.answer.label == expected.answer.label
    assert found.grid == expected.grid
    assert len({*found.keep} & {*expected.keep}) > 0.9 * len(expected.keep)
