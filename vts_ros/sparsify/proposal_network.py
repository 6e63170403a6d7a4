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
INPUT_SIZE = (192, 336)
STRIDE = 16
#: Size of the maps, (rows, columns).
MAP_SIZE = (INPUT_SIZE[0] // STRIDE, INPUT_SIZE[1] // STRIDE)
EMBEDDING_CHANNELS = 48
#: Samples per input pixel and axis when a frame is resampled.
SAMPLES = 4

#: Names in the exported graph.
FRAME_INPUTS = ('frame',)
FRAME_OUTPUTS = ('saliency', 'embedding')

#: Stages of the backbone: expansion, channels, blocks, stride of the first block. Those of
#: MobileNetV2 (Sandler et al., 2018, table 2) up to stride 16.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
_STEM, _CHANNELS = 32, STAGES[-1][1]
#: Parts of the network of which only the saliency depends.
SALIENCY_PARTS = ('around', 'whole', 'hidden', 'seen_head', 'place_head')
#: Mean and standard deviation per colour of the photographs of ImageNet, 0 to 255.
_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: The ellipse around the horizon, in shares of the picture: centre x, y, and half width, height
#: as standard deviations; and how far the network may move the centre and stretch the widths (as
#: powers of e) for the camera at hand.
_CENTRE, _WIDTHS, _MOVE, _STRETCH = (0.5, 0.57), (0.35, 0.14), 0.15, 0.5


class RawProposal(NamedTuple):
    """
    What a training loss needs.

    Attributes
    ----------
    seen, place
        Logits [B, h, w] of what is seen in the cell, and of where the cell is; the saliency is
        the sigmoid of their sum.
    embedding
        [B, C, h, w], before the norm.

    """

    seen: Tensor
    place: Tensor
    embedding: Tensor

    @property
    def saliency_logits(self) -> Tensor:
        """Return the logits of the saliency, [B, h, w]."""
        return self.seen + self.place


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
    float32 [B, 192, 336, 3], 0 to 255.

    """
    # Cast first: TensorRT moves no uint8 around.
    frames = frames.to(torch.float32)
    # The comparison would tie an exported graph to one size.
    if not torch.compiler.is_exporting() and frames.shape[1:3] == INPUT_SIZE:
        return frames
    for axis, wanted in enumerate(INPUT_SIZE, start=1):
        source = _sample_positions(frames.shape[axis], wanted, frames.device)
        total = frames.index_select(axis, source[::SAMPLES])
        for first in range(1, SAMPLES):
            total = total + frames.index_select(axis, source[first::SAMPLES])
        frames = total / SAMPLES
    return frames


def _sample_positions(size: int, wanted: int, device: torch.device) -> Tensor:
    """
    Return where the samples of an axis are taken, int64 [SAMPLES * wanted].

    That is ``(2 k + 1) size // parts`` of the sample k, without a product that float32, in which
    some runtimes divide, could not hold.
    """
    parts = 2 * SAMPLES * wanted
    odd = 2 * torch.arange(SAMPLES * wanted, device=device) + 1
    whole = size // parts
    return odd * whole + torch.div(odd * (size - whole * parts), parts, rounding_mode='floor')


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1,
          dilation: int = 1) -> nn.Sequential:
    """Return convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, groups,
                  bias=False),
        nn.BatchNorm2d(outputs))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * inputs
        widen = [] if expansion == 1 else [_conv(inputs, inner), nn.ReLU6()]
        self.body = nn.Sequential(
            *widen, _conv(inner, inner, 3, stride, groups=inner), nn.ReLU6(),
            _conv(inner, outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, inputs, h, w] to [B, outputs, h / stride, w / stride]."""
        result: Tensor = self.body(features)
        return features + result if self.shortcut else result


class ProposalNet(nn.Module):
    """
    Saliency and embedding of the 12 x 21 cells of one frame; 0.6 M parameters.

    Every frame is looked at by itself, so that its maps can be kept while it moves through the
    window. The saliency is what is seen in a cell plus where the cell is: an ellipse around the
    horizon, which the network moves to where the horizon of this camera is. The embedding knows
    no place, because equal things must look equal everywhere.

    The backbone has the shape of MobileNetV2, so that it can begin with features that know
    photographs.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, _STEM, 3, 2), nn.ReLU6()]
        inputs = _STEM
        for expansion, outputs, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, 1 if block else stride, expansion))
                inputs = outputs
        self.backbone = nn.Sequential(*layers)
        #: What is around a cell, and the picture as a whole.
        self.around = _conv(_CHANNELS, _CHANNELS, 5, groups=_CHANNELS, dilation=2)
        self.whole = nn.Conv2d(_CHANNELS, _CHANNELS, 1)
        self.hidden = _conv(_CHANNELS, _CHANNELS)
        self.seen_head = nn.Conv2d(_CHANNELS, 1, 1)
        #: Centre, widths, sharpness and height of the ellipse, from the picture as a whole.
        self.place_head = nn.Conv2d(_CHANNELS, 6, 1)
        self.embedding_head = nn.Conv2d(_CHANNELS, EMBEDDING_CHANNELS, 1)
        nn.init.zeros_(self.place_head.weight)
        # Few cells matter: begin with a low saliency everywhere.
        settings = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
        self.place_head.bias = nn.Parameter(settings)

    def features(self, frames: Tensor) -> Tensor:
        """Return what the backbone says of each cell, [B, 96, h, w]; input as ``forward``."""
        pixels = resample(frames).permute(0, 3, 1, 2)
        mean, deviation = (torch.tensor(values, device=pixels.device).reshape(1, 3, 1, 1)
                           for values in (_MEAN, _DEVIATION))
        features: Tensor = self.backbone((pixels - mean) / deviation)
        return features

    def raw(self, frames: Tensor) -> RawProposal:
        """Return logits and embedding without the last, bounding step; input as ``forward``."""
        return self.raw_of(self.features(frames))

    def raw_of(self, features: Tensor) -> RawProposal:
        """Return the same of what :meth:`features` says of frames."""
        whole = features.mean(dim=(2, 3), keepdim=True)
        around = functional.relu(self.around(features))
        hidden = functional.relu(self.hidden(features + around) + self.whole(whole))
        return RawProposal(self.seen_head(hidden)[:, 0], _ellipse(self.place_head(whole)),
                           self.embedding_head(features))

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
            float32 [B, 12, 21], 0 to 1.
        embedding
            float32 [B, 48, 12, 21], of length 1 over the channels.

        """
        raw = self.raw(frames)
        return torch.sigmoid(raw.saliency_logits), functional.normalize(raw.embedding, dim=1)


def _ellipse(settings: Tensor) -> Tensor:
    """Return the logits [B, h, w] of a place from the settings [B, 6, 1, 1] of its ellipse."""
    rows, columns = MAP_SIZE
    x = (torch.arange(columns, device=settings.device) + 0.5).reshape(1, 1, -1) / columns
    y = (torch.arange(rows, device=settings.device) + 0.5).reshape(1, -1, 1) / rows
    bounded = torch.tanh(settings)
    far = (((x - _CENTRE[0] - _MOVE * bounded[:, 0])
            / (_WIDTHS[0] * torch.exp(_STRETCH * bounded[:, 2]))) ** 2
           + ((y - _CENTRE[1] - _MOVE * bounded[:, 1])
              / (_WIDTHS[1] * torch.exp(_STRETCH * bounded[:, 3]))) ** 2)
    # Beyond some distance all places are alike: things come into the picture at its edges, too.
    return settings[:, 5] - 0.5 * torch.exp(settings[:, 4]) * torch.clamp(far, max=16.0)


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
