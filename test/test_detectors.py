# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors of every form that is known, and what is said about others."""

import json
from pathlib import Path
from typing import Any

from detector_maker import detr, save, yolox
import numpy as np
from numpy.typing import NDArray
from onnx import helper
import pytest

from vts_ros.lab.detectors import COCO, Detector, DetectorError

BOXES = np.array([[0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.4, 0.2], [0.9, 0.9, 0.1, 0.1]], np.float32)
#: The same by their edges, cut at the edge of the picture.
EDGES = [[0.25, 0.25, 0.75, 0.75], [0.0, 0.1, 0.3, 0.3], [0.85, 0.85, 0.95, 0.95]]


def found(detector: Detector, rgb: NDArray[np.uint8]) -> dict[tuple[str, ...], float]:
    """Return what is surer than 0.9, by name and box in sixteenths of the picture."""
    boxes, scores = detector.detect(rgb)
    return {(detector.classes[int(score.argmax())],
             *(f'{16 * side:g}' for side in box)): float(score.max())
            for box, score in zip(boxes, scores) if score.max() > 0.9}


def test_yolox_is_decoded_from_its_raw_grids(tmp_path: Path) -> None:
    detector = Detector(yolox(tmp_path / 'yolox.onnx'))
    # Twice as wide as high: half as large in the upper half of the input, grey below.
    rgb = np.zeros((64, 128, 3), np.uint8)
    rgb[32:64, 32:64] = (255, 0, 0)
    assert found(detector, rgb).keys() == {
        ('bus', '4', '8', '8', '16'), ('car', '4', '8', '6', '12'), ('car', '6', '8', '8', '12'),
        ('car', '4', '12', '6', '16'), ('car', '6', '12', '8', '16')}
    # RGB and not BGR.
    assert not found(detector, rgb[..., ::-1])
    # Higher than wide: the right half of the input is grey.
    assert found(detector, np.ascontiguousarray(rgb.transpose(1, 0, 2))).keys() == {
        ('bus', '8', '4', '16', '8'), ('car', '8', '4', '12', '6'), ('car', '8', '6', '12', '8'),
        ('car', '12', '4', '16', '6'), ('car', '12', '6', '16', '8')}


def test_sizes_of_yolox_are_logarithms(tmp_path: Path) -> None:
    detector = Detector(yolox(tmp_path / 'yolox.onnx', (32, 64), np.log(2.0)))
    rgb = np.zeros((32, 64, 3), np.uint8)
    rgb[16:24, 32:40] = (255, 0, 0)
    # Twice a cell of 8 pixels around its middle.
    assert list(found(detector, rgb)) == [('car', '7', '6', '11', '14')]


def test_yolox_that_has_decoded_itself_is_named(tmp_path: Path) -> None:
    detector = Detector(yolox(tmp_path / 'yolox.onnx', log_size=120.0))
    with pytest.raises(DetectorError, match='without --decode_in_inference'):
        detector.detect(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(('classes', 'numbers'), [(80, (2, 0, 7)), (91, (3, 1, 8))])
@pytest.mark.parametrize('names', [('logits', 'pred_boxes'), ('labels', 'dets')])
def test_detr_is_decoded_with_the_classes_of_coco(
        classes: int, numbers: tuple[int, ...], names: tuple[str, str], tmp_path: Path) -> None:
    detector = Detector(detr(tmp_path / 'detr.onnx', BOXES, numbers, classes, names))
    boxes, scores = detector.detect(np.full((48, 96, 3), (255, 51, 0), np.uint8))
    np.testing.assert_allclose(boxes, EDGES, atol=1e-6)
    assert [detector.classes[number] for number in numbers] == ['car', 'person', 'truck']
    logits = (np.array([1.0, 0.2, 0.0]) - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert scores[range(3), numbers] == pytest.approx(1.0 / (1.0 + np.exp(-logits)), abs=1e-4)
    others = np.delete(scores[0], numbers[0])
    assert others == pytest.approx(1.0 / (1.0 + np.exp(9.0)), abs=1e-6)


def test_the_last_class_of_the_first_detr_is_nothing(tmp_path: Path) -> None:
    detector = Detector(detr(tmp_path / 'detr.onnx', BOXES, (3, 91, 8), 92))
    _, scores = detector.detect(np.full((32, 32, 3), 255, np.uint8))
    assert scores.shape == (3, 91)
    # A softmax: what the second box has most of is that there is nothing.
    assert scores[0, 3] > 0.99
    assert scores[1].max() < 0.01


def test_files_beside_the_graph_say_scaling_size_and_classes(tmp_path: Path) -> None:
    (tmp_path / 'onnx').mkdir()
    path = detr(tmp_path / 'onnx' / 'model.onnx', BOXES, (1, 0, 1), 2, size=('h', 'w'))
    with pytest.raises(DetectorError, match=r'2 classes, .*id2label'):
        Detector(path)
    (tmp_path / 'config.json').write_text(json.dumps({'id2label': {'0': 'cow', '1': 'tram'}}))
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(
        {'do_normalize': False, 'size': {'height': 48, 'width': 80}}))
    detector = Detector(path)
    assert list(detector.classes) == ['cow', 'tram']
    assert detector.form.prepare(np.zeros((10, 10, 3), np.uint8)).shape == (1, 3, 48, 80)
    _, scores = detector.detect(np.full((32, 32, 3), (255, 51, 0), np.uint8))
    assert scores[0, 1] == pytest.approx(1.0 / (1.0 + np.exp(-1.0)), abs=1e-5)
    # In the order red, green, blue.
    assert scores[1, 0] == pytest.approx(1.0 / (1.0 + np.exp(-0.2)), abs=1e-5)
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(DetectorError, match=r'config\.json is no JSON'):
        Detector(path)


def other(path: Path, shape: list[int], inputs: dict[str, Any]) -> Path:
    """Write a graph that returns zeros of a shape."""
    node = helper.make_node('Identity', ['zeros'], ['output0'])
    return save(path, [node], {'zeros': np.zeros(shape, np.float32)}, inputs, ['output0'])


@pytest.mark.parametrize(('shape', 'inputs', 'message'), [
    ([1, 86, 8400], {'images': [1, 3, 64, 64]}, r'returns output0 \[1, 86, 8400\]: known are'),
    ([1, 100, 85], {'images': [1, 3, 64, 64]}, r'YOLOX, \[1, 84, 5 \+ classes\]'),
    ([1, 300, 4], {'images': [1, 3, 64, 64]}, 'known are YOLOX'),
    ([1, 84, 85], {'images': [1, 64, 64, 3]}, 'takes images: a detector must take pictures'),
    ([1, 84, 85], {'images': [1, 3, 64, 64], 'orig_target_sizes': [1, 2]},
     'takes images, orig_target_sizes'),
    ([1, 84, 12], {'images': [1, 3, 64, 64]}, '7 classes, which are not those of COCO')])
def test_other_forms_are_named_in_a_line(shape: list[int], inputs: dict[str, Any], message: str,
                                         tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=message) as caught:
        Detector(other(tmp_path / 'other.onnx', shape, inputs))
    assert '\n' not in str(caught.value)


def test_the_classes_of_coco_are_eighty() -> None:
    assert len(set(COCO)) == 80
