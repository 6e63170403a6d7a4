# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Export of the proposal network and of the window step to ONNX."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
import shutil
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray
import onnx
from onnxscript import opset18
import torch
from torch import nn, Tensor
from torch.export import Dim
from torch.nn.utils.fusion import fuse_conv_bn_eval

import vts_ros
from vts_ros.paths import model_path
from vts_ros.sparsify.proposal_network import (
    EMBEDDING_CHANNELS,
    FRAME_INPUTS,
    FRAME_OUTPUTS,
    INPUT_SIZE,
    MAP_SIZE,
    ProposalNet,
)
from vts_ros.sparsify.token_grid import area_weights, neighbours
from vts_ros.sparsify.window_step import WINDOW_INPUTS, WINDOW_OUTPUTS, WindowStep

OPSET = opset18.version
#: Of a frame; an 8K picture has 7680.
MAX_SIDE_PX = 8192
#: Frames of several cameras that are looked at together.
MAX_BATCH = 64


def weights_sha256(net: nn.Module) -> str:
    """Return a hash over names and values of all weights; the same on every machine."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def export_frame(net: ProposalNet, path: Path) -> None:
    """
    Write the proposal network as ONNX: uint8 `frame` [B, H, W, 3] of any size in.

    Parameters
    ----------
    net
        The network; exported as in evaluation, whatever mode it is in.
    path
        File to write.

    """
    training = net.training
    net.eval()
    try:
        _export(
            # Two frames: the exporter would take a batch of one for a constant.
            net, (torch.zeros(2, 240, 320, 3, dtype=torch.uint8),), path,
            FRAME_INPUTS, FRAME_OUTPUTS,
            ({0: Dim('batch', min=1, max=MAX_BATCH),
              1: Dim('height', min=1, max=MAX_SIDE_PX), 2: Dim('width', min=1, max=MAX_SIDE_PX)},),
            _about_frame(net))
    finally:
        net.train(training)


def write_frame(net: ProposalNet, path: Path) -> None:
    """
    Write a trained proposal network as ONNX, as :func:`export_frame` does, in a moment.

    The graph of the shipped network serves any, with other weights in it; to trace one takes
    seconds. In the place of the shipped network itself, and where there is none of the same
    layers, it is exported.

    Parameters
    ----------
    net
        The network; written as in evaluation, whatever mode it is in.
    path
        File to write.

    """
    shipped = model_path('proposal/frame.onnx')
    if path.resolve() == shipped.resolve() or not shipped.exists():
        return export_frame(net, path)
    model = onnx.load(shipped)
    weights = _folded(net)
    places = {tensor.name: tensor for tensor in model.graph.initializer}
    if any(name not in places or tuple(places[name].dims) != value.shape
           for name, value in weights.items()):
        return export_frame(net, path)
    for name, value in weights.items():
        places[name].CopyFrom(onnx.numpy_helper.from_array(value, name))
    _save(model, path, _about_frame(net))
    return None


def _folded(net: ProposalNet) -> dict[str, NDArray[np.float32]]:
    """Return the weights by the names of the graph, in which batch norms are in convolutions."""
    found: dict[str, NDArray[np.float32]] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            # The convolution before it is the first of its block.
            block = name.rpartition('.')[0]
            convolution = net.get_submodule(f'{block}.0')
            assert isinstance(convolution, nn.Conv2d)
            # Of copies in evaluation: whatever mode the network is in.
            folded = fuse_conv_bn_eval(copy.deepcopy(convolution).eval(),
                                       copy.deepcopy(module).eval())
            assert folded.bias is not None
            found[f'{block}.0.weight_bias'] = folded.bias.detach().cpu().numpy()
            found[f'{block}.0.weight'] = folded.weight.detach().cpu().numpy()
        elif isinstance(module, nn.Conv2d):
            own = ((f'{name}.{kind}', value) for kind, value in module.named_parameters())
            found |= {kind: value.detach().cpu().numpy() for kind, value in own}
    return found


def _about_frame(net: ProposalNet) -> dict[str, str]:
    return {'graph': 'frame', 'input_size': 'x'.join(map(str, INPUT_SIZE)),
            'weights_sha256': weights_sha256(net)}


def window_example(frames: int, grid: tuple[int, int], search_radius: int) -> tuple[Tensor, ...]:
    """Return inputs of the window step with the shapes of such a window, in their order."""
    rows, columns = grid
    return (
        torch.rand(frames, *MAP_SIZE),
        nn.functional.normalize(torch.randn(frames, EMBEDDING_CHANNELS, *MAP_SIZE), dim=1),
        torch.tensor(area_weights(rows, MAP_SIZE[0])),
        torch.tensor(area_weights(columns, MAP_SIZE[1])),
        torch.tensor(neighbours(rows, columns, search_radius)),
        torch.tensor([frames * rows * columns]), torch.tensor([0, 0]), torch.tensor([-1]),
        torch.tensor([0.0]), torch.tensor([0.5]))


def export_window(path: Path, frames: int | None = None, grid: tuple[int, int] | None = None,
                  search_radius: int | None = None, by_counting: bool = False) -> None:
    """
    Write the window step as ONNX.

    Parameters
    ----------
    path
        File to write.
    frames, grid, search_radius
        Frames of a window, token rows and columns per frame and search radius to fix the shapes
        to, for compilers that want them fixed. Without any of them one graph serves all.
    by_counting
        Without a sort, see ``WindowStep``.

    Raises
    ------
    ValueError
        If only some of them are given.

    """
    if frames is None and grid is None and search_radius is None:
        example = window_example(5, (6, 9), 1)
        time = Dim('frames', min=1, max=1024)
        rows, columns = Dim('rows', min=1, max=1024), Dim('columns', min=1, max=1024)
        near = Dim('near', min=1, max=1024 ** 2)
        shapes = ({0: time}, {0: time}, {0: rows}, {0: columns}, {0: rows, 1: columns, 2: near},
                  None, None, None, None, None)
        metadata = {'frames': 'any', 'grid': 'any', 'search_radius': 'any'}
    elif frames is not None and grid is not None and search_radius is not None:
        example, shapes = window_example(frames, grid, search_radius), None
        metadata = {'frames': str(frames), 'grid': 'x'.join(map(str, grid)),
                    'search_radius': str(search_radius)}
    else:
        raise ValueError('fixed shapes need frames, grid and search_radius')
    _export(WindowStep(by_counting).eval(), example, path, WINDOW_INPUTS, WINDOW_OUTPUTS, shapes,
            {'graph': 'window', 'order': 'counting' if by_counting else 'sorting', **metadata})


def write_window_step(folder: Path) -> None:
    """
    Put the window step beside a trained network.

    It has no weights, so that of the shipped network serves any; beside that itself it is made
    anew.
    """
    shipped = model_path('proposal/window.onnx').parent
    for name, by_counting in (('window.onnx', False), ('window_by_counting.onnx', True)):
        if folder.resolve() != shipped.resolve() and (shipped / name).exists():
            shutil.copyfile(shipped / name, folder / name)
        else:
            export_window(folder / name, by_counting=by_counting)


def _stable_sort(values: Any, stable: Any = None, dim: int = -1, descending: bool = False) -> Any:
    """Translate a stable sort: ONNX promises that TopK puts equal values in their order."""
    return opset18.TopK(values, opset18.Shape(values, start=-1), axis=dim, largest=int(descending),
                        sorted=1)


def _export(module: nn.Module, example: tuple[Tensor, ...], path: Path,
            inputs: tuple[str, ...], outputs: tuple[str, ...], dynamic_shapes: Any,
            metadata: dict[str, str]) -> None:
    with warnings.catch_warnings():
        # All of them are the exporter's about itself; what comes out is checked below.
        warnings.simplefilter('ignore')
        program = torch.onnx.export(
            module, example, dynamo=True, verbose=False, opset_version=OPSET,
            input_names=inputs, output_names=outputs, dynamic_shapes=dynamic_shapes,
            custom_translation_table={torch.ops.aten.sort.stable: _stable_sort})
    assert program is not None
    model = program.model_proto
    # The exporter notes stack traces and file paths of the machine it ran on.
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info,
                 *graph.initializer):
        part.ClearField('metadata_props')
    _save(model, path, metadata)


def _save(model: onnx.ModelProto, path: Path, metadata: dict[str, str]) -> None:
    onnx.helper.set_model_props(
        model, {'project': 'vts_ros', 'version': vts_ros.__version__, **metadata})
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
