# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Object detectors of others as ONNX files: the forms of input and output that are understood.

The form follows from what a graph returns of a blank picture, so that its outputs may have any
names and open dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
import onnx

from vts_ros.engines import make_engine
from vts_ros.errors import VtsError

#: Height and width for graphs that take any.
_USUAL_SIZE = (640, 640)
#: The 80 classes of COCO, and at which of its 91 numbers there is one.
COCO = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat',
    'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog',
    'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella',
    'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite',
    'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich',
    'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch',
    'potted plant', 'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote',
    'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book',
    'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush')
_COCO_GAPS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)

#: Of the pictures of ImageNet, per channel of RGB from 0 to 1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Files of a checkpoint of Hugging Face, in the folder of the graph or the one above.
_PREPROCESSOR, _CONFIG = 'preprocessor_config.json', 'config.json'


class DetectorError(VtsError, ValueError):
    """A detector that cannot be used; the message is one line."""


class Detections(NamedTuple):
    """
    What a detector found in a picture, nothing left out.

    Attributes
    ----------
    boxes
        float32 [n, 4], left, top, right, bottom in shares of the picture, within it.
    scores
        float32 [n, classes], 0 to 1.

    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


class Form(Protocol):
    """A form of input and output."""

    @property
    def classes(self) -> Sequence[str]:
        """Return the names of the classes in the order of the scores."""

    def prepare(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the input [1, 3, H, W] for a picture."""

    def decode(self, outputs: Sequence[NDArray[Any]], shape: tuple[int, int]) -> Detections:
        """Return what the outputs say of a picture of this height and width."""


@dataclass(frozen=True)
class Yolox:
    """
    The form of YOLOX: one output [1, N, 5 + classes] of raw grids.

    The grids of strides 8, 16 and 32 follow each other in row order; centres are relative to
    their cells, sizes are logarithms, objectness and classes are from 0 to 1. The picture is
    scaled into the upper left corner, BGR from 0 to 255, and what is left over is 114.
    """

    size: tuple[int, int]
    classes: Sequence[str]

    STRIDES = (8, 16, 32)
    _PADDING = 114
    #: No logarithm of a size gets so large, and sizes in pixels do.
    _LARGEST_LOG = 20.0

    @classmethod
    def cells(cls, size: tuple[int, int]) -> int:
        """Return how many cells the grids of an input size have."""
        return sum((size[0] // stride) * (size[1] // stride) for stride in cls.STRIDES)

    def prepare(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the input [1, 3, H, W] for a picture."""
        scale = self._scale((rgb.shape[0], rgb.shape[1]))
        height, width = (max(1, int(side * scale)) for side in rgb.shape[:2])
        canvas = np.full((*self.size, 3), self._PADDING, np.float32)
        canvas[:height, :width] = cv2.resize(rgb, (width, height))[..., ::-1]
        return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None])

    def _scale(self, shape: tuple[int, int]) -> float:
        return min(self.size[0] / shape[0], self.size[1] / shape[1])

    def decode(self, outputs: Sequence[NDArray[Any]], shape: tuple[int, int]) -> Detections:
        """Return what the outputs say of a picture of this height and width."""
        raw = np.asarray(outputs[0][0], np.float32)
        if raw[:, 2:4].max(initial=0.0) > self._LARGEST_LOG:
            raise DetectorError('the detector has decoded its boxes itself: export YOLOX without '
                                '--decode_in_inference')
        cell, stride = self._grid()
        middle = (raw[:, :2] + cell) * stride
        half = 0.5 * np.exp(raw[:, 2:4]) * stride
        pixels = np.concatenate([middle - half, middle + half], axis=1) / self._scale(shape)
        return Detections(_within(pixels / np.tile((shape[1], shape[0]), 2)),
                          raw[:, 4:5] * raw[:, 5:])

    def _grid(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return column and row of each cell, and its stride."""
        cells, strides = [], []
        for stride in self.STRIDES:
            rows, columns = (side // stride for side in self.size)
            row, column = np.divmod(np.arange(rows * columns), columns)
            cells.append(np.stack([column, row], axis=1))
            strides.append(np.full((rows * columns, 1), stride))
        return (np.concatenate(cells).astype(np.float32),
                np.concatenate(strides).astype(np.float32))


@dataclass(frozen=True)
class Detr:
    """
    The form of DETR and what came after it: boxes [1, N, 4] and class logits [1, N, classes].

    Boxes are middle, width and height in shares of the picture. The picture is resized to the
    input, RGB from 0 to 1, less the mean and over the deviation of ImageNet; or as
    ``preprocessor_config.json`` beside the graph says.

    Attributes
    ----------
    boxes_at
        Which of the outputs has the boxes, and which the classes.
    no_object
        Whether the last class is that there is nothing: then the scores are a softmax.

    """

    size: tuple[int, int]
    classes: Sequence[str]
    boxes_at: tuple[int, int] = (0, 1)
    no_object: bool = False
    mean: Sequence[float] = _MEAN
    std: Sequence[float] = _STD

    def prepare(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the input [1, 3, H, W] for a picture."""
        small = cv2.resize(rgb, self.size[::-1]).astype(np.float32) / 255.0
        scaled = (small - np.array(self.mean)) / np.array(self.std)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], np.float32)

    def decode(self, outputs: Sequence[NDArray[Any]], shape: tuple[int, int]) -> Detections:
        """Return what the outputs say of a picture of this height and width."""
        boxes, logits = (np.asarray(outputs[at][0], np.float32) for at in self.boxes_at)
        middle, half = boxes[:, :2], 0.5 * boxes[:, 2:]
        return Detections(_within(np.concatenate([middle - half, middle + half], axis=1)),
                          _softmax(logits)[:, :-1] if self.no_object else _sigmoid(logits))


def _within(boxes: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.clip(boxes, 0.0, 1.0).astype(np.float32)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


@dataclass(frozen=True)
class _Beside:
    """What the files beside a graph say of it; all empty without them."""

    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> _Beside:
        return cls(*(_json_of(path, name) for name in (_PREPROCESSOR, _CONFIG)))

    @property
    def size(self) -> tuple[int, int] | None:
        size = self.preprocessor.get('size', {})
        known = isinstance(size, dict) and {'height', 'width'} <= size.keys()
        return (int(size['height']), int(size['width'])) if known else None

    @property
    def scaling(self) -> dict[str, Sequence[float]]:
        if self.preprocessor.get('do_normalize', True):
            return {'mean': self.preprocessor.get('image_mean', _MEAN),
                    'std': self.preprocessor.get('image_std', _STD)}
        return {'mean': (0.0,) * 3, 'std': (1.0,) * 3}

    def classes(self, count: int) -> list[str] | None:
        names = self.config.get('id2label')
        return [names.get(str(number), '') for number in range(count)] if names else None


def _json_of(path: Path, name: str) -> dict[str, Any]:
    absolute = path.absolute()
    for folder in (absolute.parent, absolute.parent.parent):
        if (folder / name).is_file():
            try:
                found = json.loads((folder / name).read_text(encoding='utf-8'))
            except ValueError as error:
                raise DetectorError(f'{folder / name} is no JSON: {error}') from error
            return found if isinstance(found, dict) else {}
    return {}


class Detector:
    """
    A detector of any form that is known, on the CPU.

    Parameters
    ----------
    path
        The ONNX file. ``preprocessor_config.json`` and ``config.json`` beside it or a folder
        above, as Hugging Face has them, say how pictures are scaled and what the classes are.
    threads
        Within an operator; 0 for one per core.

    Raises
    ------
    EngineError
        If the file cannot be run.
    DetectorError
        If it is of another form.

    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._engine = make_engine('onnxruntime', path, threads)
        beside = _Beside.of(path)
        self._input, self._dtype, size = _picture_input(path, beside)
        blank = np.zeros((1, 3, *size), np.float32)
        outputs = self._engine.run({self._input: blank.astype(self._dtype)})
        self.form = _form_of(path, outputs, size, beside)

    @property
    def classes(self) -> Sequence[str]:
        """Return the names of the classes in the order of the scores."""
        return self.form.classes

    def detect(self, rgb: NDArray[np.uint8]) -> Detections:
        """Return all that is found in a picture, uint8 [H, W, 3]; boxes overlap each other."""
        picture = self.form.prepare(rgb).astype(self._dtype, copy=False)
        outputs = list(self._engine.run({self._input: picture}).values())
        return self.form.decode(outputs, (rgb.shape[0], rgb.shape[1]))


def _picture_input(path: Path, beside: _Beside) -> tuple[str, Any, tuple[int, int]]:
    """Return name and type of the input of a graph, and height and width for it."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    shape = inputs[0].type.tensor_type.shape.dim if inputs else []
    if len(inputs) != 1 or len(shape) != 4 or shape[1].dim_value not in (0, 3):
        named = ', '.join(value.name for value in inputs)
        raise DetectorError(f'{path} takes {named or "nothing"}: a detector must take pictures '
                            '[1, 3, height, width] alone')
    fixed = shape[2].dim_value, shape[3].dim_value
    return (inputs[0].name, onnx.helper.tensor_dtype_to_np_dtype(
        inputs[0].type.tensor_type.elem_type), fixed if all(fixed) else beside.size or _USUAL_SIZE)


def _form_of(path: Path, outputs: Mapping[str, NDArray[Any]], size: tuple[int, int],
             beside: _Beside) -> Form:
    """Return the form of what a graph returns; see ``Detector`` for the errors."""
    shapes = {name: value.shape for name, value in outputs.items()}
    values = list(shapes.values())
    if len(values) == 1 and len(values[0]) == 3 and values[0][1] == Yolox.cells(size) and \
            values[0][2] > 5:
        return Yolox(size, _classes(path, values[0][2] - 5, beside))
    if found := _detr_outputs(shapes):
        names, width = list(shapes), shapes[found[1]][2]
        no_object = width == len(COCO) + len(_COCO_GAPS) + 1 or (
            width == len(beside.config.get('id2label', ())) + 1)
        return Detr(size, _classes(path, width - no_object, beside),
                    (names.index(found[0]), names.index(found[1])), no_object, **beside.scaling)
    told = ', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())
    raise DetectorError(
        f'{path} returns {told}: known are YOLOX, [1, {Yolox.cells(size)}, 5 + classes] of raw '
        'grids, and DETR, boxes [1, N, 4] and class logits [1, N, classes]')


def _detr_outputs(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """Return the names of the outputs with boxes and with classes; None if there are no such."""
    # Checkpoints of Hugging Face return their features, too.
    shapes = {name: shapes[name] for name in ('pred_boxes', 'logits')
              if {'pred_boxes', 'logits'} <= shapes.keys()} or shapes
    if len(shapes) != 2 or any(len(shape) != 3 for shape in shapes.values()):
        return None
    (first, boxes), (second, classes) = sorted(shapes.items(), key=lambda item: item[1][2] != 4)
    return (first, second) if boxes[2] == 4 and boxes[1] == classes[1] else None


def _classes(path: Path, count: int, beside: _Beside) -> list[str]:
    """Return the names of so many classes."""
    if names := beside.classes(count):
        return names
    if count == len(COCO):
        return list(COCO)
    if count == len(COCO) + len(_COCO_GAPS):
        names_left = iter(COCO)
        return ['' if number in _COCO_GAPS else next(names_left) for number in range(count)]
    raise DetectorError(f'{path} has {count} classes, which are not those of COCO: name them in '
                        f'{_CONFIG} beside it, {{"id2label": {{"0": "car", ...}}}}')
