# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs in the precision and with the shapes that they are compiled for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import hashlib
from pathlib import Path
import tempfile

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import helper, numpy_helper, TensorProto

from vts_ros.engines.engine_cache import Shapes
from vts_ros.engines.names import Precision, PRECISIONS
from vts_ros.errors import EngineError

#: What a network computes between its first convolution and its last one. What comes before and
#: after (pixel positions, norms) needs the range and the bits of FP32.
_NETWORK_OPERATORS = ('Conv', 'Relu', 'Add')
#: An axis of this name may have any size up to the one an engine was built for.
GROWING_AXIS = 'frames'
#: Smallest upper bound of such an axis; above it powers of two, so that few engines are built.
_SMALLEST_BOUND = 8


@dataclass(frozen=True)
class Graph:
    """
    A graph that is ready to run or to be compiled.

    Attributes
    ----------
    name
        Of the file it comes from, without suffix.
    content
        The ONNX file.
    precision
        What it computes in; a graph without convolutions stays FP32, whatever was asked for.

    """

    name: str
    content: bytes
    precision: Precision = 'fp32'

    @property
    def sha256(self) -> str:
        """Return the hash of the content."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def model(self) -> onnx.ModelProto:
        """Return the graph, to be changed at will."""
        return onnx.load_from_string(self.content)


def load_graph(path: Path, precision: Precision = 'fp32', int8_directory: Path | None = None
               ) -> Graph:
    """
    Read a graph and bring it into a precision.

    Parameters
    ----------
    path
        ONNX file in FP32.
    precision
        ``int8`` takes the graph that :func:`store_int8` has put into ``int8_directory``.

    Raises
    ------
    EngineError
        If there is no such file, it is not a graph, or it has not been calibrated for INT8.

    """
    if precision not in PRECISIONS:
        raise EngineError(f'unknown precision {precision!r}, expected one of '
                          f'{", ".join(PRECISIONS)}')
    if not path.is_file():
        raise EngineError(f'no such model file: {path}')
    graph = Graph(path.stem, path.read_bytes())
    if precision == 'fp32':
        return graph
    try:
        model = graph.model
        if not _convolutions(model):
            return graph
    # protobuf has one error for whatever is no message of it.
    except Exception as error:
        raise EngineError.of(f'{path} cannot be loaded', error) from error
    if precision == 'fp16':
        return Graph(path.stem, to_fp16(model).SerializeToString(), precision)
    stored = _int8_path(graph, int8_directory or Path())
    if not stored.is_file():
        raise EngineError(
            f'{path.name} has not been calibrated for int8 ({stored} is not there): '
            'vts compile --precision int8 --calibrate BAG does that')
    return Graph(path.stem, stored.read_bytes(), precision)


def store_int8(path: Path, frames: Iterable[NDArray[np.uint8]], directory: Path) -> Path:
    """
    Quantise a graph with the frames it will see and store it where :func:`load_graph` looks.

    Raises
    ------
    EngineError
        If there are no frames or the graph cannot be quantised.

    """
    graph = load_graph(path)
    target = _int8_path(graph, directory)
    model = to_int8(graph.model, frames)
    directory.mkdir(parents=True, exist_ok=True)
    target.write_bytes(model.SerializeToString())
    return target


def _int8_path(graph: Graph, directory: Path) -> Path:
    return directory / f'{graph.name}-int8-{graph.sha256[:16]}.onnx'


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """
    Return a graph with its network in FP16; inputs and outputs stay what they are.

    The type of every value is written out, as strongly typed compilers want it. (The converters
    that were tried also rewrite the casts of pixel positions, which FP16 cannot hold.)
    """
    network = _network(model)
    inside = {name for node in model.graph.node if node.name in network for name in node.output}
    wanted = {name for node in model.graph.node if node.name not in network
              for name in node.input} | {output.name for output in model.graph.output}
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    halves: set[str] = set()

    def half(name: str) -> str:
        """Return the name of a value in FP16, after making it once if it comes from outside."""
        made = f'{name}_fp16'
        if name and name not in inside and name not in halves:
            halves.add(name)
            if name in weights:
                model.graph.initializer.append(numpy_helper.from_array(
                    numpy_helper.to_array(weights[name]).astype(np.float16), made))
            else:
                nodes.append(helper.make_node('Cast', [name], [made], f'to_{made}',
                                              to=TensorProto.FLOAT16))
        return made if name else name

    for node in model.graph.node:
        if node.name in network:
            outputs = list(node.output)
            node.input[:] = [half(name) for name in node.input]
            node.output[:] = [f'{name}_fp16' for name in outputs]
            nodes.append(node)
            nodes += [helper.make_node('Cast', [f'{name}_fp16'], [name], f'to_{name}_fp32',
                                       to=TensorProto.FLOAT) for name in outputs if name in wanted]
        else:
            nodes.append(node)
    graph = helper.make_graph(
        nodes, model.graph.name, model.graph.input, model.graph.output,
        [weight for weight in model.graph.initializer
         if weight.name not in halves or weight.name in wanted])
    model.graph.CopyFrom(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Frames:
    """What the calibration of ONNX Runtime reads from."""

    def __init__(self, name: str, frames: Iterable[NDArray[np.uint8]]) -> None:
        self._name, self._frames = name, iter(frames)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next inputs, or None at the end."""
        frame = next(self._frames, None)
        return None if frame is None else {self._name: frame[np.newaxis]}


def to_int8(model: onnx.ModelProto, frames: Iterable[NDArray[np.uint8]]) -> onnx.ModelProto:
    """
    Return the graph with quantisation around its convolutions, as compilers want it.

    Weights and activations are symmetric (TensorRT knows no zero points), weights per channel.

    Parameters
    ----------
    frames
        Pictures like those it will see, uint8 [H, W, 3].

    Raises
    ------
    EngineError
        If there are no frames.

    """
    try:
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            quantize_static,
            QuantType,
        )
    except ImportError as error:
        raise EngineError.of('int8 needs ONNX Runtime to calibrate the graph', error) from error
    pictures = list(frames)
    if not pictures:
        raise EngineError('int8 needs pictures to calibrate with, and there are none')
    network = _network(model)
    # What the tool would do before: the export has folded and named everything already.
    helper.set_model_props(model, {
        **{entry.key: entry.value for entry in model.metadata_props},
        'onnx.quant.pre_process': 'onnxruntime.quant'})
    with tempfile.TemporaryDirectory(prefix='vts_int8_') as folder:
        target = Path(folder, 'int8.onnx')
        quantize_static(
            model, target, _Frames(model.graph.input[0].name, pictures),
            quant_format=QuantFormat.QDQ, op_types_to_quantize=['Conv'],
            nodes_to_quantize=[name for name, kind in network.items() if kind == 'Conv'],
            per_channel=True, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={'ActivationSymmetric': True, 'WeightSymmetric': True,
                           # TensorRT adds biases in FP32.
                           'QuantizeBias': False})
        return onnx.load(target)


def _convolutions(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == 'Conv']


def _network(model: onnx.ModelProto) -> dict[str, str]:
    """Return the operators of the nodes from the first convolution on, by node name."""
    reached: set[str] = set()
    network: dict[str, str] = {}
    for number, node in enumerate(model.graph.node):
        # The conversions go by names, and an exporter need not give any.
        node.name = node.name or f'{node.op_type}_{number}'
        if node.op_type == 'Conv' or (
                node.op_type in _NETWORK_OPERATORS and reached & set(node.input)):
            network[node.name] = node.op_type
            reached |= set(node.output)
    return network


def spans(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    """
    Return which sizes an engine for inputs of these shapes is to be built for.

    Every axis is fixed to its size, but one that grows is not: a window that has lost a broken
    frame must not wait for another engine.

    Raises
    ------
    EngineError
        If the graph has other inputs.

    """
    found: Shapes = {}
    inputs = {tensor.name: tensor.type.tensor_type.shape.dim for tensor in model.graph.input}
    if set(inputs) != set(shapes):
        raise EngineError(f'expected inputs {", ".join(inputs)}, got {", ".join(shapes)}')
    for name, axes in inputs.items():
        if len(axes) != len(shapes[name]):
            raise EngineError(f'input {name} has {len(axes)} axes, not {len(shapes[name])}')
        found[name] = tuple(_span(axis, size) for axis, size in zip(axes, shapes[name]))
    return found


def _span(axis: onnx.TensorShapeProto.Dimension, size: int) -> tuple[int, int, int]:
    if axis.dim_param != GROWING_AXIS:
        return size, size, size
    bound = _SMALLEST_BOUND
    while bound < size:
        bound *= 2
    return 1, bound, bound


def fix_shapes(model: onnx.ModelProto, shapes: Shapes) -> onnx.ModelProto:
    """Write the sizes of all axes that are fixed into a graph; it is changed and returned."""
    for tensor in model.graph.input:
        for axis, (smallest, _, largest) in zip(
                tensor.type.tensor_type.shape.dim, shapes[tensor.name]):
            if smallest == largest:
                axis.Clear()
                axis.dim_value = largest
    # They speak of the axes by their names, which are gone now.
    del model.graph.value_info[:]
    return model
