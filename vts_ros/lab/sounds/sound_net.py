# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network that hears: convolutions over a few windows, then a memory."""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.sound.log_mel import BANDS, FLOOR_DB, STEP_FRAMES
from vts_ros.sound.sound_events import KINDS

#: Channels of the two convolutions, width of what goes to the memory, and of the memory.
_CHANNELS, _WIDTH, _MEMORY = (12, 16), 48, 72
_KERNEL = (3, 5)

State = tuple[Tensor, Tensor, Tensor]


class SoundNet(nn.Module):
    """
    Levels of a step to what is heard, with all that it remembers handed in and out.

    In: levels in dB [B, T, BANDS], T a multiple of STEP_FRAMES, and the state of before. Out:
    logits [B, T / STEP_FRAMES, kinds], and the state.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second = _CHANNELS
        self.first = nn.Conv2d(1, first, _KERNEL, stride=(1, 2), padding=(0, 2))
        self.first_norm = nn.BatchNorm2d(first)
        self.second = nn.Conv2d(first, second, _KERNEL, stride=(1, 2), padding=(0, 2))
        self.second_norm = nn.BatchNorm2d(second)
        self.narrow = nn.Linear(2 * second * (BANDS // 4) + 1, _WIDTH)
        self.memory = nn.GRU(_WIDTH, _MEMORY, batch_first=True)
        self.heard = nn.Linear(_MEMORY, len(KINDS))

    @staticmethod
    def begin(batch: int = 1) -> State:
        """Return the state before anything was heard."""
        return (torch.zeros(batch, 1, 2, BANDS),
                torch.zeros(batch, _CHANNELS[0], 2, BANDS // 2),
                torch.zeros(1, batch, _MEMORY))

    def forward(self, level: Tensor, before: Tensor, before_second: Tensor, memory: Tensor
                ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits and the state after."""
        mean = level.mean(dim=2, keepdim=True)
        # How loud everything is depends on the microphone; the form of the spectrum does not.
        form = torch.cat([before, ((level - mean) / 12.0).unsqueeze(1)], dim=2)
        found = functional.relu(self.first_norm(self.first(form)))
        known = torch.cat([before_second, found], dim=2)
        found = functional.relu(self.second_norm(self.second(known)))
        steps = found.unflatten(2, (-1, STEP_FRAMES))
        pooled = torch.cat([steps.amax(3), steps.mean(3)], dim=1).permute(0, 2, 1, 3).flatten(2)
        loud = (mean.unflatten(1, (-1, STEP_FRAMES)).mean(2) - 0.5 * FLOOR_DB) / 30.0
        narrow = functional.relu(self.narrow(torch.cat([pooled, loud], dim=2)))
        remembered, memory = self.memory(narrow, memory)
        return self.heard(remembered), form[:, :, -2:], known[:, :, -2:], memory
