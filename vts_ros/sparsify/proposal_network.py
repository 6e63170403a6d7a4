# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The proposal network: where to look in one frame, and what is there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import onnx
import torch
from torch import nn, Tensor
from torch.nn import functional

#: Size at which the network works inside, (height, width); any other size is resampled to it.
INPUT_SIZE = (128, 224)
STRIDE = 16
#: Size of the maps, (rows, columns).
MAP_SIZE = (INPUT_SIZE[0] // STRIDE, INPUT_SIZE[1] // STRIDE)
EMBEDDING_CHANNELS = 48
#: Samples per input pixel and axis when a frame is resampled.
SAMPLES = 4

#: Names in the exported graph.
FRAME_INPUTS = ('frame',)
FRAME_OUTPUTS = ('saliency', 'embedding')


class RawProposal(NamedTuple):
    """What a training loss needs: logits [B, h, w], embedding before the norm [B, C, h, w]."""

    saliency_logits: Tensor
    embedding: Tensor


def resample(frames: Tensor) -> Tensor:
    """
    Shrink or grow frames to ``INPUT_SIZE`` by averaging a grid of samples per pixel.

    A pixel is the mean of 4 x 4 samples spread evenly over the area it covers. That is the exact
    area mean for ratios of 1, 2 and 4, close to it for others, and the identity at
    ``INPUT_SIZE``. The sample positions are integers computed by integers, so every runtime
    takes the same pixels, which interpolating resize operators do not promise.

    Parameters
    ----------
    frames
        [B, H, W, 3], uint8 or float in 0 to 255.

    Returns
    -------
    float32 [B, 128, 224, 3], 0 to 255.

    """
    # Cast first: TensorRT moves no uint8 around.
    frames = frames.to(torch.float32)
    # The comparison would tie an exported graph to one size.
    if not torch.compiler.is_exporting() and frames.shape[1:3] == INPUT_SIZE:
        return frames
    for axis, wanted in enumerate(INPUT_SIZE, start=1):
        sample = torch.arange(SAMPLES * wanted, device=frames.device)
        source = torch.div((2 * sample + 1) * frames.shape[axis], 2 * SAMPLES * wanted,
                           rounding_mode='floor')
        total = frames.index_select(axis, source[::SAMPLES])
        for first in range(1, SAMPLES):
            total = total + frames.index_select(axis, source[first::SAMPLES])
        frames = total / SAMPLES
    return frames


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1,
          groups: int = 1) -> nn.Sequential:
    """Return convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1,
                 expansion: int = 3) -> None:
        super().__init__()
        inner = expansion * inputs
        self.body = nn.Sequential(
            _conv(inputs, inner), nn.ReLU(),
            _conv(inner, inner, kernel, stride, groups=inner), nn.ReLU(),
            _conv(inner, outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, inputs, h, w] to [B, outputs, h / stride, w / stride]."""
        result: Tensor = self.body(features)
        return features + result if self.shortcut else result


class ProposalNet(nn.Module):
    """
    Saliency and embedding of the 8 x 14 cells of one frame; 0.34 M parameters.

    Every frame is looked at by itself, so that its maps can be kept while it moves through the
    window. The saliency sees a learned bias per cell, because how much something matters depends
    on where it is; the embedding does not, because equal things must look equal everywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            _conv(3, 16, kernel=3, stride=2), nn.ReLU(),
            InvertedResidual(16, 24, stride=2),
            InvertedResidual(24, 24),
            InvertedResidual(24, 40, stride=2),
            InvertedResidual(40, 40),
            InvertedResidual(40, 40),
            InvertedResidual(40, 96, stride=2),
            *(InvertedResidual(96, 96, kernel=5) for _ in range(4)))
        self.place = nn.Parameter(torch.zeros(1, 48, *MAP_SIZE))
        self.saliency_hidden = _conv(96, 48)
        self.saliency_head = nn.Conv2d(48, 1, 1)
        self.embedding_head = nn.Conv2d(96, EMBEDDING_CHANNELS, 1)
        # Few cells matter: begin with a low saliency everywhere.
        nn.init.constant_(self.saliency_head.bias, -2.0)  # type: ignore[arg-type]

    def raw(self, frames: Tensor) -> RawProposal:
        """Return logits and embedding without the last, bounding step; input as ``forward``."""
        pixels = resample(frames).permute(0, 3, 1, 2) / 127.5 - 1.0
        features = self.backbone(pixels)
        hidden = functional.relu(self.saliency_hidden(features) + self.place)
        return RawProposal(self.saliency_head(hidden)[:, 0], self.embedding_head(features))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """
        Propose what to look at.

        Parameters
        ----------
        frames
            RGB frames of any one size, [B, H, W, 3], uint8 or float in 0 to 255.

        Returns
        -------
        saliency
            float32 [B, 8, 14], 0 to 1.
        embedding
            float32 [B, 48, 8, 14], of length 1 over the channels.

        """
        logits, embedding = self.raw(frames)
        return torch.sigmoid(logits), functional.normalize(embedding, dim=1)


def load_net(path: str | Path) -> ProposalNet:
    """
    Return the network that was exported to a file, for PyTorch.

    Batch norms were folded into the convolutions, so those that come back only add a bias.

    Raises
    ------
    ValueError
        If the file is not an export of this network.

    """
    weights = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor))
               for tensor in onnx.load(path).graph.initializer}
    net = ProposalNet().eval()
    state = net.state_dict()
    missing = torch.empty(0)
    for name in state:
        module, _, own = name.rpartition('.')
        block = module.rpartition('.')[0]
        if not isinstance(net.get_submodule(module), nn.BatchNorm2d):
            state[name] = weights.get(name, missing)
        elif own == 'bias':
            # Of the convolution before, which is the first of its block.
            state[name] = weights.get(f'{block}.0.weight_bias', missing)
        elif own == 'running_var':
            # Exactly one under the root, epsilon included.
            state[name] = torch.full_like(state[name], 1.0 - nn.BatchNorm2d(1).eps)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f'{path} is no export of this proposal network') from error
    return net
