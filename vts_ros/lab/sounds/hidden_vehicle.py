# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Drives with an emergency vehicle that is heard before it is seen, and the same without.

The renderer of scenes draws no emergency vehicle. So a drive is its soundtrack, with the moment in
which the vehicle comes into the picture of a camera that looks forward: until then houses hide it,
or it is behind the car.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vts_ros.lab.sounds.moving_source import behind_houses, Pass
from vts_ros.lab.sounds.soundtrack import background, Palette, recorded, UNHEARD
from vts_ros.lab.sounds.waves import between, level_of, Samples
from vts_ros.sound.log_spectrum import SAMPLE_RATE

#: How long a drive is.
DRIVE_SEC = 30.0
#: When the vehicle comes into the picture.
_SEEN_SEC = (14.0, 24.0)


class HiddenVehicle(NamedTuple):
    """
    A drive.

    Attributes
    ----------
    samples
        What the microphone hears.
    siren
        Name of the siren; empty without a vehicle.
    place
        Where the vehicle comes from: ``side street`` or ``behind``.
    seen_sec
        When it is in the picture first.
    snr_db
        Siren over noise (above 300 Hz) in the two seconds before.
    noises
        What else is heard.

    """

    samples: Samples
    siren: str
    place: str
    seen_sec: float
    snr_db: float
    noises: tuple[str, ...]


def hidden_vehicle(seed: tuple[int, ...], with_vehicle: bool, palette: Palette = UNHEARD
                   ) -> HiddenVehicle:
    """
    Return a drive from a seed.

    Parameters
    ----------
    seed
        The same gives the same.
    with_vehicle
        Whether there is one.
    palette
        Its sirens and noises; by default those that the network has not learned from.

    """
    rng = np.random.default_rng(seed)
    count = int(DRIVE_SEC * SAMPLE_RATE)
    noise, noises = background(rng, count, palette)
    # The car slows down and drives on, and its noise with it.
    at = np.linspace(0.0, DRIVE_SEC, count)
    slow = 1.0 - rng.uniform(0.0, 0.6) * np.exp(
        -0.5 * ((at - rng.uniform(5.0, 25.0)) / rng.uniform(2.0, 6.0)) ** 2)
    noise = noise * slow
    if not with_vehicle:
        return HiddenVehicle(recorded(rng, noise), '', '', DRIVE_SEC, -np.inf, noises)
    seen_sec = rng.uniform(*_SEEN_SEC)
    place = str(rng.choice(['side street', 'behind']))
    speed = rng.uniform(8.0, 22.0) if place == 'side street' else rng.uniform(4.0, 14.0)
    # A vehicle from behind is seen as it overtakes, one from the side as it leaves the houses.
    aside = rng.uniform(3.0, 6.0) if place == 'behind' else rng.uniform(8.0, 25.0)
    nearest_sec = seen_sec - rng.uniform(0.0, 0.5) if place == 'behind' else (
        seen_sec + rng.uniform(0.5, 2.0))
    name = str(rng.choice(list(palette.sirens)))
    siren = Pass(speed, aside, nearest_sec).heard(palette.sirens[name](rng, DRIVE_SEC)[:count])
    if place == 'side street':
        siren = behind_houses(siren, seen_sec, between(rng, 0.15, 0.5))
    else:
        # The body of the car is between.
        siren = behind_houses(siren, seen_sec, between(rng, 0.4, 0.9))
    begin, end = int((seen_sec - 2.0) * SAMPLE_RATE), int(seen_sec * SAMPLE_RATE)
    wanted_db = rng.uniform(0.0, 20.0)
    siren *= 10.0 ** (0.05 * wanted_db) * level_of(noise[begin:end]) / level_of(siren[begin:end])
    return HiddenVehicle(recorded(rng, noise + siren), name, place, seen_sec, wanted_db,
                         noises)
