# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measure how fast answers are found: many of them, made up."""

from __future__ import annotations

from pathlib import Path
import statistics
import tempfile
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pyarrow as pa

from vts_ros.fleet.answer_tables import (
    ANSWER_COLUMNS,
    FleetFolder,
    FleetSettings,
    TIMING_COLUMNS,
    words,
)
from vts_ros.fleet.search import Fleet, LEVELS
from vts_ros.fleet.sources import Recording

#: Questions of every kind.
QUESTIONS = (
    'pedestrian, high risk, night',
    'risk >= medium',
    'object = cyclist, risk = high',
    'near 48.1 11.5 300 m, high risk',
    'after 2026-01-01 01:00, before 2026-01-01 03:00, brakes',
    'camera = camera_rear, high risk',
    'latency_ms > 1190',
    'tokens_kept < 50, speed_mps > 20',
)
_START_NS = 1_767_225_600_000_000_000
_OBJECTS = ('car', 'pedestrian', 'cyclist', 'truck', 'traffic light', 'animal')
_LIGHTS = ('In daylight', 'At dusk', 'At night')


def measure_search(answers: int, recordings: int, repeats: int = 5, seed: int = 0,
                   threads: int = 2) -> dict[str, Any]:
    """
    Return how long questions to made-up answers take.

    Returns
    -------
    ``seconds``: median by question, ``answers`` and ``recordings``, ``found``: rows by question,
    ``open_sec``: time until the first question can be asked.

    """
    with tempfile.TemporaryDirectory(prefix='vts_fleet_') as folder:
        root = Path(folder)
        write_made_up(root, answers, recordings, seed)
        begin = time.perf_counter()
        fleet = Fleet(root, threads)
        result: dict[str, Any] = {'answers': answers, 'recordings': recordings,
                                  'threads': threads, 'n': repeats, 'seed': seed,
                                  'open_sec': round(time.perf_counter() - begin, 4),
                                  'seconds': {}, 'found': {}}
        for question in QUESTIONS:
            times = []
            for _ in range(repeats):
                begin = time.perf_counter()
                found = fleet.find(question, limit=1000)
                times.append(time.perf_counter() - begin)
            result['seconds'][question] = round(statistics.median(times), 3)
            result['found'][question] = len(found)
        return result


def write_made_up(root: Path, answers: int, recordings: int, seed: int = 0) -> None:
    """Write a fleet of answers that nobody gave, with the sizes of real ones."""
    rng = np.random.default_rng(seed)
    folder = FleetFolder(root)
    with folder.opened(FleetSettings()):
        for number, count in enumerate(np.bincount(np.arange(answers) % recordings)):
            recording = Recording(f'/fleet/drive_{number:06}', 'made up', 0)
            begin = _START_NS + number * 10**11
            stamps: NDArray[np.int64] = begin + np.arange(count) * 400_000_000
            folder.finish(recording, _answers(rng, recording, stamps), _timings(
                rng, recording, stamps), {})
        folder.write_failures({})


def _answers(rng: np.random.Generator, recording: Recording, stamps: Any) -> pa.Table:
    count = len(stamps)
    risks = rng.choice((*LEVELS, 'unknown'), count, p=(0.6, 0.2, 0.1, 0.05, 0.05))
    objects, lights = rng.choice(_OBJECTS, count), rng.choice(_LIGHTS, count, p=(0.6, 0.2, 0.2))
    camera = 'camera_rear' if rng.random() < 0.1 else 'camera_front'
    described = [f'{light} in clear weather, a city street with {lanes} lanes runs straight, with '
                 f'a {label} on our right side.'
                 for light, label, lanes in zip(lights, objects, rng.integers(1, 4, count))]
    explained = [f'The {label} ahead brakes, so we come too close to it.' for label in objects]
    kept = rng.integers(40, 90, count)
    place = rng.random((count, 2)) * 0.2 + (48.0, 11.4)
    frames = np.repeat(stamps, 5) + np.tile(np.arange(-4, 1) * 400_000_000, count)

    def each(value: Any) -> list[Any]:
        return [value] * count

    found = {
        'recording': each(recording.uri), 'stamp': stamps, 'received': stamps,
        'frames': _lists(pa.StructArray.from_arrays(
            [pa.array([camera] * len(frames)), pa.array(frames)], ['camera', 'stamp']), 5),
        'cameras': each([camera]),
        'key_frame': [{'camera': camera, 'stamp': int(stamp), 'index': 4} for stamp in stamps],
        'description': described, 'risk': risks, 'object': objects,
        'object_camera': each(camera), 'box': each([0.4, 0.4, 0.6, 0.6]),
        'explanation': explained, 'action': each('slow down'), 'tokens_total': each(140),
        'tokens_kept': kept, 'grid': each([4, 7]),
        'keep': [range(tokens) for tokens in kept.tolist()],
        'answer_tokens': each(46), 'picture': each({'width': 1280, 'height': 720}),
        'model': each('made up'), 'engine': each('onnxruntime-cpu'), 'pruning': each('exact'),
        'confidence': rng.random(count), 'in_distribution': each(True),
        'rejected_output': each(None),
        'words': [words(*texts) for texts in zip(objects, described, explained)],
        'embedding': _lists(pa.array(rng.standard_normal(48 * count, np.float32)), 48),
        'latitude': place[:, 0], 'longitude': place[:, 1], 'speed_mps': rng.random(count) * 30.0}
    return pa.table([pa.array(found[column.name], column.type) if not isinstance(
        found[column.name], pa.Array) else found[column.name] for column in ANSWER_COLUMNS],
        schema=ANSWER_COLUMNS)


def _lists(values: pa.Array, length: int) -> pa.Array:
    begins = pa.array(range(0, len(values) + 1, length), pa.int32())
    return pa.ListArray.from_arrays(begins, values)


def _timings(rng: np.random.Generator, recording: Recording, stamps: Any) -> pa.Table:
    ms = rng.uniform(400.0, 1200.0, len(stamps))
    return pa.table([
        pa.array([recording.uri] * len(stamps)), pa.array(stamps), pa.array(ms),
        pa.array([{'total': total} for total in ms], TIMING_COLUMNS.field('stages_ms').type)],
        schema=TIMING_COLUMNS)
