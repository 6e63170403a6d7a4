# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network that hears: convolutions over pitch and the last 1.7 s, then a memory."""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.sound.log_spectrum import BANDS, FLOOR_DB, STEP_FRAMES
from vts_ros.sound.sound_events import KINDS

#: Channels of the convolutions, width of what goes to the memory, and of the memory.
_CHANNELS, _WIDTH, _MEMORY = (16, 20, 24), 36, 56
#: Steps from one row of the third kernel to the next.
_APART = 4
#: What the convolutions need of before: windows of the first, steps of the second and third.
_BEFORE = (STEP_FRAMES, 3, 3 * _APART)

State = tuple[Tensor, Tensor, Tensor, Tensor]


class SoundNet(nn.Module):
    """
    Levels of a step to what is heard, with all that it remembers handed in and out.

    The first convolution sees the windows of two steps and makes one of them. The others see
    0.5 s and then 1.7 s, in which a motor siren moves by some semitones. As a band is a semitone,
    a glide or an alternation is the same to them at any pitch, but for their strides.

    In: levels in dB [B, T, BANDS], T a multiple of STEP_FRAMES, and the state of before. Out:
    logits [B, T / STEP_FRAMES, kinds], and the state.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third = _CHANNELS
        self.first = nn.Conv2d(1, first, (2 * STEP_FRAMES, 5), stride=(STEP_FRAMES, 1),
                               padding=(0, 2))
        self.first_norm = nn.BatchNorm2d(first)
        self.second = nn.Conv2d(first, second, (4, 7), stride=(1, 3), padding=(0, 3))
        self.second_norm = nn.BatchNorm2d(second)
        self.third = nn.Conv2d(second, third, (4, 5), stride=(1, 2), padding=(0, 2),
                               dilation=(_APART, 1))
        self.third_norm = nn.BatchNorm2d(third)
        self.narrow = nn.Linear(third * (BANDS // 6 + 2) + 1, _WIDTH)
        self.memory = nn.GRU(_WIDTH, _MEMORY, batch_first=True)
        self.heard = nn.Linear(_MEMORY, len(KINDS))

    @staticmethod
    def begin(batch: int = 1) -> State:
        """Return the state before anything was heard."""
        first, second, _ = _CHANNELS
        return (torch.zeros(batch, 1, _BEFORE[0], BANDS),
                torch.zeros(batch, first, _BEFORE[1], BANDS),
                torch.zeros(batch, second, _BEFORE[2], BANDS // 3),
                torch.zeros(1, batch, _MEMORY))

    def forward(self, level: Tensor, before: Tensor, before_second: Tensor, before_third: Tensor,
                memory: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return logits and the state after."""
        mean = level.mean(dim=2, keepdim=True)
        # How loud everything is depends on the microphone; the form of the spectrum does not.
        form = torch.cat([before, ((level - mean) / 12.0).unsqueeze(1)], dim=2)
        found = functional.relu(self.first_norm(self.first(form)))
        steps = torch.cat([before_second, found], dim=2)
        found = functional.relu(self.second_norm(self.second(steps)))
        moments = torch.cat([before_third, found], dim=2)
        found = functional.relu(self.third_norm(self.third(moments)))
        # Where in pitch, and, for what was never heard there, whether anywhere.
        pooled = torch.cat([found.permute(0, 2, 1, 3).flatten(2), found.amax(3).transpose(1, 2),
                            found.mean(3).transpose(1, 2)], dim=2)
        loud = (mean.unflatten(1, (-1, STEP_FRAMES)).mean(2) - 0.5 * FLOOR_DB) / 30.0
        narrow = functional.relu(self.narrow(torch.cat([pooled, loud], dim=2)))
        remembered, memory = self.memory(narrow, memory)
        return (self.heard(remembered), form[:, :, -_BEFORE[0]:], steps[:, :, -_BEFORE[1]:],
                moments[:, :, -_BEFORE[2]:], memory)
