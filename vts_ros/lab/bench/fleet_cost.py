# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How long a fleet takes on machines that are not here, from what its parts take.

Each part of the way to an answer has a rate that it cannot exceed; the least of them is the rate
of the whole, and its part the bottleneck.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

#: Seconds of driving from answer to answer, as ``buffer.interval_sec``.
INTERVAL_SEC = 0.4
#: Parts, from the first that is in the way on.
MODEL, PICTURES, NETWORK, STORE, DRIVER = (
    'language model', 'processors', 'network of a node', 'storage', 'driver')


@dataclass(frozen=True)
class Stages:
    """
    What an answer takes; measured.

    Attributes
    ----------
    processor_sec
        Of a processor, without the language model: pictures read and decoded, proposal network,
        selection, results.
    driver_sec
        Of the driver, per recording.

    """

    processor_sec: float
    driver_sec: float


@dataclass(frozen=True)
class Node:
    """
    A machine with GPUs; assumed.

    Attributes
    ----------
    gpus, processors
        How many it has.
    gbit_per_sec
        Of its network.
    store_gbit_per_sec
        Of the storage that all nodes read from.

    """

    gpus: int = 1
    processors: int = 8
    gbit_per_sec: float = 10.0
    store_gbit_per_sec: float = 100.0


@dataclass(frozen=True)
class Driving:
    """
    What is to be described; assumed.

    Attributes
    ----------
    hours
        Of driving, over all recordings.
    recording_sec
        Length of a recording.
    gb_per_hour
        Size of the recordings.

    """

    hours: float = 10_000.0
    recording_sec: float = 900.0
    gb_per_hour: float = 3.6

    @property
    def answers(self) -> float:
        """Return how many there are."""
        return self.hours * 3600.0 / INTERVAL_SEC

    @property
    def bits_per_answer(self) -> float:
        """Return what is read for one."""
        return self.gb_per_hour * 8e9 * INTERVAL_SEC / 3600.0


class Cost(NamedTuple):
    """
    What a fleet takes on some nodes.

    Attributes
    ----------
    hours, node_hours
        Until it is done.
    bottleneck
        The part that decides.
    uses
        Share of each part that is used.

    """

    hours: float
    node_hours: float
    bottleneck: str
    uses: dict[str, float]


def rates(nodes: int, gpu_sec: float, stages: Stages, node: Node, driving: Driving
          ) -> dict[str, float]:
    """
    Return the answers per second that each part allows.

    Parameters
    ----------
    gpu_sec
        Time of a GPU that an answer takes; of a server that answers many at once, one by its
        answers per second.

    """
    return {
        MODEL: nodes * node.gpus / gpu_sec,
        PICTURES: nodes * node.processors / stages.processor_sec,
        NETWORK: nodes * node.gbit_per_sec * 1e9 / driving.bits_per_answer,
        STORE: node.store_gbit_per_sec * 1e9 / driving.bits_per_answer,
        DRIVER: driving.recording_sec / INTERVAL_SEC / stages.driver_sec}


def cost(nodes: int, gpu_sec: float, stages: Stages, node: Node, driving: Driving) -> Cost:
    """Return what some driving takes on some nodes."""
    allowed = rates(nodes, gpu_sec, stages, node, driving)
    bottleneck = min(allowed, key=lambda part: allowed[part])
    rate = allowed[bottleneck]
    hours = driving.answers / rate / 3600.0
    return Cost(hours, nodes * hours, bottleneck,
                {part: rate / own for part, own in allowed.items()})


def turns(gpu_sec: float, stages: Stages, node: Node, driving: Driving) -> dict[str, float]:
    """
    Return where the bottleneck moves away from the nodes.

    Returns
    -------
    The number of nodes from which on `STORE` and `DRIVER` each decide: more nodes do not help.

    """
    alone = rates(1, gpu_sec, stages, node, driving)
    of_node = min(alone[part] for part in (MODEL, PICTURES, NETWORK))
    return {part: alone[part] / of_node for part in (STORE, DRIVER)}


def least_gpu_sec(stages: Stages, node: Node, driving: Driving) -> float:
    """Return below which time of a GPU for an answer it waits for the rest of its node."""
    alone = rates(1, 1.0, stages, node, driving)
    return node.gpus / min(alone[PICTURES], alone[NETWORK])
