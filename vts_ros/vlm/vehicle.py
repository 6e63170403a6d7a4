# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the car itself does, as facts that a prompt has words for, and as learned tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Literal

#: Slower than this the car stands; its speed over ground is never quite 0.
_STANDING_MPS = 0.2
#: A car that turns faster than this follows more than a bend of a road.
_TURNING_RADPS = 0.15
#: Speeds that have a token, in km/h; others are told by the nearest.
_SPEEDS_KMH = tuple(range(0, 140, 10))

#: The learned tokens that a training here gives to a model.
SIGNAL_TOKENS = (
    *(f'<|speed {speed}|>' for speed in _SPEEDS_KMH), '<|backwards|>',
    '<|braking|>', '<|not braking|>',
    '<|signal off|>', '<|signal left|>', '<|signal right|>', '<|signal hazard|>',
    '<|straight on|>', '<|turning left|>', '<|turning right|>')

TurnSignal = Literal['off', 'left', 'right', 'hazard']


@dataclass(frozen=True)
class Vehicle:
    """
    What the car itself does; None where that is not known.

    Attributes
    ----------
    speed_mps
        Along its x axis, metres per second; negative backwards.
    yaw_rate_radps
        About its z axis, radians per second; positive to the left (REP 103).
    turn_signal
        Which one is on.
    is_braking, has_wipers_on
        Whether the brake is pressed, and whether the wipers wipe.
    steering
        To which side the steering wheel is turned; said where the yaw rate is not known.

    """

    speed_mps: float | None = None
    yaw_rate_radps: float | None = None
    turn_signal: TurnSignal | None = None
    is_braking: bool | None = None
    has_wipers_on: bool | None = None
    steering: Literal['left', 'right'] | None = None

    def facts(self) -> dict[str, float]:
        """Return the keys of the texts that hold, each with the speed in km/h."""
        speed, yaw_rate = _known(self.speed_mps), _known(self.yaw_rate_radps)
        facts = []
        if speed is not None:
            is_standing = abs(speed) < _STANDING_MPS
            facts.append('standing' if is_standing else 'backwards' if speed < 0 else 'speed')
        if yaw_rate is not None and abs(yaw_rate) > _TURNING_RADPS:
            facts.append('turning_left' if yaw_rate > 0 else 'turning_right')
        elif yaw_rate is None and self.steering is not None:
            facts.append(f'steering_{self.steering}')
        if self.is_braking:
            facts.append('braking')
        if self.turn_signal not in (None, 'off'):
            facts.append(f'signal_{self.turn_signal}')
        if self.has_wipers_on:
            facts.append('wipers_on')
        return dict.fromkeys(facts, 3.6 * abs(speed or 0.0))

    def tokens(self, known: Sequence[str] = SIGNAL_TOKENS) -> list[str]:
        """
        Return the learned tokens that tell what is known: at most four, and none of the wipers.

        Parameters
        ----------
        known
            Those that the model has; what others would tell is left out.

        """
        speed, yaw_rate = _known(self.speed_mps), _known(self.yaw_rate_radps)
        told = []
        if speed is not None:
            nearest = min(_SPEEDS_KMH, key=lambda kmh: abs(kmh - 3.6 * abs(speed)))
            told.append('<|backwards|>' if speed <= -_STANDING_MPS else f'<|speed {nearest}|>')
        if self.is_braking is not None:
            told.append('<|braking|>' if self.is_braking else '<|not braking|>')
        if self.turn_signal is not None:
            told.append(f'<|signal {self.turn_signal}|>')
        if yaw_rate is not None:
            told.append('<|straight on|>' if abs(yaw_rate) <= _TURNING_RADPS else
                        '<|turning left|>' if yaw_rate > 0 else '<|turning right|>')
        return [token for token in told if token in known]


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
