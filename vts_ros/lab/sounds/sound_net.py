# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The network that hears: convolutions over a few windows, how tones have moved, then a memory.

The convolutions see 0.1 s, in which the pitch of a motor siren moves by a tenth of a band. So the
tones of now are laid over those of half a second, one and two seconds ago, moved by some bands.
"""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn import functional

from vts_ros.sound.log_mel import BANDS, FLOOR_DB, STEP_FRAMES
from vts_ros.sound.sound_events import KINDS

#: Channels of the two convolutions, width of what goes to the memory, and of the memory.
_CHANNELS, _WIDTH, _MEMORY = (12, 16), 48, 70
_KERNEL = (3, 5)
#: Steps back, and bands up and down, for which tones are compared; in low and in high bands
#: (0.3 to 1.2 and 1.2 to 3.6 kHz).
_LAGS, _SHIFTS, _REGIONS = (5, 10, 20), 3, ((5, 18), (18, 34))
#: How many bands around a band are no tone of it.
_AROUND = 7

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
        compared = len(_LAGS) * len(_REGIONS) * (2 * _SHIFTS + 1)
        self.narrow = nn.Linear(2 * second * (BANDS // 4) + compared + 1, _WIDTH)
        self.memory = nn.GRU(_WIDTH, _MEMORY, batch_first=True)
        self.heard = nn.Linear(_MEMORY, len(KINDS))

    @staticmethod
    def begin(batch: int = 1) -> State:
        """Return the state before anything was heard."""
        return (torch.zeros(batch, 1, 2, BANDS),
                torch.zeros(batch, _CHANNELS[0], 2, BANDS // 2),
                torch.zeros(1, batch, SoundNet.remembered()))

    @staticmethod
    def remembered() -> int:
        """Return how many numbers the memory is: what it has learned to keep, and past tones."""
        return _MEMORY + _LAGS[-1] * BANDS

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
        past = memory[0, :, _MEMORY:].unflatten(1, (_LAGS[-1], BANDS))
        tones = torch.cat([past, _tones(form[:, 0, 2:])], dim=1)
        narrow = functional.relu(self.narrow(torch.cat([pooled, loud, _moved(tones)], dim=2)))
        remembered, kept = self.memory(narrow, memory[:, :, :_MEMORY].contiguous())
        after = torch.cat([kept, tones[:, -_LAGS[-1]:].flatten(1).unsqueeze(0)], dim=2)
        return self.heard(remembered), form[:, :, -2:], known[:, :, -2:], after


def _tones(form: Tensor) -> Tensor:
    """Return by how much each band stands out in each step, [B, steps, BANDS]."""
    level = form.unflatten(1, (-1, STEP_FRAMES)).mean(2)
    around = functional.avg_pool1d(level, _AROUND, 1, _AROUND // 2, count_include_pad=False)
    return functional.relu(level - around)


def _moved(tones: Tensor) -> Tensor:
    """
    Return how alike the tones of now and those of before are, moved by some bands.

    In: tones [B, the longest lag + steps, BANDS]. Out: cosines [B, steps, lags, regions, shifts],
    flattened; 1 where all tones have moved by so much.
    """
    longest = _LAGS[-1]
    steps, alike = tones.shape[1] - longest, []
    for lag in _LAGS:
        before = tones[:, longest - lag:longest - lag + steps]
        for low, high in _REGIONS:
            now = tones[:, longest:, low:high]
            for shift in range(-_SHIFTS, _SHIFTS + 1):
                moved = before[:, :, low + shift:high + shift]
                alike.append((now * moved).sum(2) / (
                    (now.square().sum(2) * moved.square().sum(2)).sqrt() + 0.1))
    return torch.stack(alike, dim=2)
