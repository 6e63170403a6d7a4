# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors of red things, small enough to be made in a test, and where a real one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import helper, numpy_helper, TensorProto
import pytest

STRIDES = (8, 16, 32)
#: Numbers in COCO of what the strides of the small YOLOX find.
CAR, BUS, PERSON = 2, 5, 0


def real_detector() -> Path:
    """Return the detector that this machine has; skip the test where it has none."""
    path = os.environ.get('VTS_TEST_DETECTOR')
    if not path:
        pytest.skip('VTS_TEST_DETECTOR is not set: no detector here')
    return Path(path)


def save(path: Path, nodes: Sequence[onnx.NodeProto], weights: Mapping[str, NDArray[Any]],
         inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]) -> Path:
    """Write a graph; its outputs have open dimensions, as many exports have them."""
    graph = helper.make_graph(
        list(nodes), 'detector',
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
         for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ['a', 'b', 'c'])
         for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def yolox(path: Path, size: tuple[int, int] = (64, 64), log_size: float = 0.0,
          classes: int = 80) -> Path:
    """
    Write a YOLOX whose cells are as sure as they are red, less blue, and one cell large.

    Stride 8 finds cars, stride 16 buses, stride 32 people.
    """
    nodes, weights, parts = [], dict[str, NDArray[Any]](), []
    for stride, number in zip(STRIDES, (CAR, BUS, PERSON)):
        kernel = np.zeros((1, 3, stride, stride), np.float32)
        # The pictures are BGR.
        kernel[0, 2], kernel[0, 0] = 1.0 / (255 * stride ** 2), -1.0 / (255 * stride ** 2)
        cells = (size[0] // stride) * (size[1] // stride)
        weights |= {f'kernel{stride}': kernel, f'shape{stride}': np.array([1, cells, 1]),
                    f'place{stride}': np.tile(np.array(
                        [0.5, 0.5, log_size, log_size], np.float32), (1, cells, 1)),
                    f'class{stride}': np.tile(np.eye(classes, dtype=np.float32)[
                        number % classes], (1, cells, 1))}
        nodes += [
            helper.make_node('Conv', ['images', f'kernel{stride}'], [f'red{stride}'],
                             strides=[stride, stride]),
            helper.make_node('Relu', [f'red{stride}'], [f'sure{stride}']),
            helper.make_node('Reshape', [f'sure{stride}', f'shape{stride}'], [f'object{stride}']),
            helper.make_node('Concat', [f'place{stride}', f'object{stride}', f'class{stride}'],
                             [f'grid{stride}'], axis=2)]
        parts.append(f'grid{stride}')
    nodes.append(helper.make_node('Concat', parts, ['output'], axis=1))
    return save(path, nodes, weights, {'images': [1, 3, *size]}, ['output'])


def detr(path: Path, boxes: NDArray[np.float32], numbers: Sequence[int], classes: int = 80,
         names: tuple[str, str] = ('logits', 'pred_boxes'), size: Sequence[Any] = (32, 32)
         ) -> Path:
    """
    Write a DETR with three boxes, whose logits are the means of the input's three channels.

    Parameters
    ----------
    boxes
        [3, 4], middle, width and height in shares of the picture.
    numbers
        The class of each box; the logits of others are -9.

    """
    mask = np.eye(classes, dtype=np.float32)[list(numbers)][None]
    weights = {'shape': np.array([1, 3, 1]), 'mask': mask, 'others': 9.0 * (mask - 1.0),
               'boxes': np.asarray(boxes, np.float32)[None]}
    nodes = [helper.make_node('GlobalAveragePool', ['pixel_values'], ['means']),
             helper.make_node('Reshape', ['means', 'shape'], ['column']),
             helper.make_node('Mul', ['column', 'mask'], ['known']),
             helper.make_node('Add', ['known', 'others'], [names[0]]),
             helper.make_node('Identity', ['boxes'], [names[1]])]
    return save(path, nodes, weights, {'pixel_values': [1, 3, *size]}, names)
