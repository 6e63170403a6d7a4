# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How a fleet scales: recordings per second with one and two workers, and memory of the driver.

All is done by the commands themselves, each in processes of its own that are watched from outside.
Every part of the work is kept in a file when it is done, and is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
import json
import os
from pathlib import Path
import shutil
import statistics
import sys
from typing import Any

from vts_ros.errors import VtsError
from vts_ros.lab.bench.fleet_cost import Stages
from vts_ros.lab.bench.watched_process import watch, Watched
from vts_ros.lab.scenes.clips import make_scene, SPLITS
from vts_ros.lab.scenes.scene_bag import write_bag
from vts_ros.lab.training.new_checkpoint import create_checkpoint

#: Frames of a window of the default settings, and the time between them.
FRAMES, INTERVAL_SEC = 5, 0.4
#: The ways to describe recordings, by the number of workers; without any, in one process.
SINGLE = 'one process'
WAYS = {SINGLE: 0, '1 worker': 1, '2 workers': 2}
#: Stages of an answer that processors do where a GPU has the language model.
OF_THE_PROCESSOR = ('read', 'guard', 'propose', 'select')
MODEL, BESIDE = 'language model', 'beside'
#: Names of the processes of Ray that are workers.
_WORKERS = 'ray::(?!Dashboard|RuntimeEnv)'
#: Workers of the runs for the memory of the driver.
_MEMORY_WORKERS = 2
#: Recordings that are copied for them, with one window of one frame each.
_COPIED = 20
_RESULTS, _DRIVES, _SETTINGS = 'results', 'drives', 'scale.json'

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ScaleSettings:
    """
    What is measured.

    Attributes
    ----------
    drives, windows
        Rendered recordings, and answers about each.
    rounds
        The recordings are divided into so many parts; each is described in every way in turn.
    tiny
        Numbers of recordings for the memory of the driver, from few to many.
    model
        What describes the drives.
    seed
        Of the first drive; the others follow.

    """

    drives: int = 200
    windows: int = 2
    rounds: int = 2
    tiny: tuple[int, ...] = (200, 2000)
    model: str = 'embedded'
    seed: int = 0


def measure_scale(work: Path, settings: ScaleSettings, progress: Progress) -> dict[str, Any]:
    """
    Measure what is not measured yet, and return all of it.

    Parameters
    ----------
    work
        Folder for recordings and results; the same folder goes on.

    Returns
    -------
    ``settings``; ``ways``: what was measured of each way in each round; ``efficiency``: of each
    way with workers, a number per round: ``wall`` by the clock, ``cpu`` by computing time,
    ``whole`` by the clock with start and end; ``memory_mib``: peak of the driver by the number of
    recordings; ``stages_ms``: computing time per answer, ``beside`` that of a worker beside the
    pipeline; ``ray_cores``: what Ray and the driver compute beside the workers, in cores;
    ``driver_sec``: computing time of the driver per recording, with its start.

    Raises
    ------
    VtsError
        If the folder has results with other settings, or there are too few recordings.

    """
    _settle(work, settings)
    parts = _parts(settings)
    steps = len(WAYS) * settings.rounds + len(settings.tiny)
    _render(work, settings, progress)
    units: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    done = 0
    for number, part in enumerate(parts):
        # What the machine does beside changes slowly: turned round, it hits none of them more.
        ways = list(WAYS) if number % 2 == 0 else list(reversed(WAYS))
        for way in ways:
            progress(0.1 + 0.9 * done / steps, f'{way}, part {number + 1} of {len(parts)}')
            units[way].append(_kept(work, f'{way}-{number}'.replace(' ', '_'), partial(
                _unit, work, part, WAYS[way], settings)))
            done += 1
    memory: dict[int, dict[str, Any]] = {}
    for count in settings.tiny:
        progress(0.1 + 0.9 * done / steps, f'memory with {count} recordings')
        memory[count] = _kept(work, f'memory-{count}', partial(
            _memory, work, count, settings.drives))
        done += 1
    return _result(settings, units, memory)


def stages_of(result: Mapping[str, Any]) -> Stages:
    """Return what an answer takes beside the language model."""
    return Stages(1e-3 * sum(ms for name, ms in result['stages_ms'].items() if name != MODEL),
                  result['driver_sec'])


def steady(done: Sequence[tuple[float, int]], workers: int) -> tuple[float, float, int]:
    """
    Return a part of a run in which all workers work, and the answers of it.

    Parameters
    ----------
    done
        When each recording was done, and its answers.
    workers
        So many recordings are left out at each end, when others start, load or have ended.

    Returns
    -------
    When it begins and ends, in seconds, and the answers that came between.

    """
    ordered = sorted(done)
    first, last = workers - 1, len(ordered) - workers
    if last <= first:
        raise VtsError(f'{len(ordered)} recordings are too few for {workers} workers')
    return (ordered[first][0], ordered[last][0],
            sum(answers for _, answers in ordered[first + 1:last + 1]))


def _settle(work: Path, settings: ScaleSettings) -> None:
    path, text = work / _SETTINGS, json.dumps(asdict(settings), indent=1)
    if path.exists() and path.read_text(encoding='utf-8') != text:
        raise VtsError(f'{work} has results with other settings: choose another folder, or '
                       'remove it')
    (work / _RESULTS).mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')


def _parts(settings: ScaleSettings) -> list[range]:
    size, rest = divmod(settings.drives, settings.rounds)
    if size <= 2 * max(WAYS.values()) or rest:
        raise VtsError(f'{settings.drives} drives cannot be divided into {settings.rounds} equal '
                       f'parts of more than {2 * max(WAYS.values())}')
    return [range(begin, begin + size) for begin in range(0, settings.drives, size)]


def _kept(work: Path, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was measured before, or measure it."""
    path = work / _RESULTS / f'{name}.json'
    if not path.exists():
        partial = path.with_suffix('.partial')
        load = os.getloadavg()[0]
        partial.write_text(json.dumps({'load': load, **measure()}), encoding='utf-8')
        partial.replace(path)
    found: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
    return found


def _render(work: Path, settings: ScaleSettings, progress: Progress) -> None:
    for number in range(settings.drives):
        progress(0.1 * number / settings.drives, f'{settings.drives} drives')
        _render_drive(_drive(work, number), settings.seed + number, settings.windows)


def _render_drive(bag: Path, seed: int, windows: int) -> None:
    if bag.exists():
        return
    partial = bag.parent / f'.{bag.name}'
    shutil.rmtree(partial, ignore_errors=True)
    bag.parent.mkdir(parents=True, exist_ok=True)
    write_bag(partial, make_scene(SPLITS['test'][seed], frames=FRAMES + windows - 1,
                                  interval_sec=INTERVAL_SEC))
    partial.rename(bag)


def _drive(work: Path, number: int) -> Path:
    return work / _DRIVES / f'drive_{number:04}'


def _unit(work: Path, part: range, workers: int, settings: ScaleSettings) -> dict[str, Any]:
    """Describe a part of the drives in one way."""
    folder = _linked(work, {f'{number:04}': number for number in part})
    if workers:
        return _fleet(folder, work / 'fleet', workers, '--model', settings.model)
    # One thread, and no drafts: as the workers of a fleet.
    config = {'model': settings.model, 'threads': 1, 'engine_threads': 1, 'draft': False}
    found = watch([sys.executable, '-m', 'vts_ros.lab.bench.single_pipeline', str(folder),
                   json.dumps(config)], _environment())
    said = json.loads(found.output.splitlines()[-1])
    return {**_rates(found, said['done'], 1), 'stages_ms': said['stages_ms']}


def _memory(work: Path, count: int, drives: int) -> dict[str, Any]:
    """Describe many recordings with a tiny model: the driver does not see what they say."""
    tiny = work / 'tiny'
    if not tiny.exists():
        create_checkpoint(
            tiny, ['a road'], vocab_size=512, text_hidden=64, text_layers=2, text_heads=2,
            text_intermediate=64, hidden_size=32, depth=2, num_heads=2, intermediate_size=64)
    copied = min(_COPIED, drives)
    folder = _linked(work, {f'{number:06}': number % copied for number in range(count)})
    return _fleet(folder, work / 'fleet', _MEMORY_WORKERS, '--model', str(tiny),
                  '--max-new-tokens', '1', '--frames', '1', '--every', '1000')


def _linked(work: Path, drives: Mapping[str, int]) -> Path:
    """Return a folder of some drives under other names; they take no place."""
    folder = work / 'described'
    shutil.rmtree(folder, ignore_errors=True)
    for name, number in drives.items():
        shutil.copytree(_drive(work, number), folder / name, copy_function=os.link)
    return folder


def _environment() -> dict[str, str]:
    # Workers of Ray give way to all other programs, which one process does not.
    return {**os.environ, 'RAY_worker_niceness': '0', 'OMP_NUM_THREADS': '1'}


def _fleet(folder: Path, out: Path, workers: int, *options: str) -> dict[str, Any]:
    """Describe a folder with workers; from nothing, as what was done before would not count."""
    from pyarrow import parquet

    shutil.rmtree(out, ignore_errors=True)
    found = watch([sys.executable, '-m', 'vts_ros.tools.cli', 'fleet', 'annotate', str(folder),
                   '--out', str(out), '--workers', str(workers), *options, '--json'],
                  _environment(), _WORKERS)
    done = [(path.stat().st_mtime, parquet.read_metadata(path).num_rows)
            for path in (out / 'answers').iterdir()]
    shutil.rmtree(out)
    return _rates(found, done, workers)


def _rates(found: Watched, done: Sequence[tuple[float, int]], workers: int) -> dict[str, Any]:
    begin, end, answers = steady(done, workers)
    all_answers = sum(count for _, count in done)
    per_sec = answers / (end - begin)
    return {'answers': all_answers, 'seconds': found.end - found.begin, 'per_sec': per_sec,
            'cpu_sec': found.cpu_between(begin, end) / answers,
            'worker_cpu_sec': found.cpu_between(begin, end, of_part=True) / answers,
            # As if all answers had been as fast as those in the middle.
            'start_sec': found.end - found.begin - all_answers / per_sec,
            'driver_mib': found.peak_mib, 'driver_cpu_sec': found.own_cpu_sec}


def _result(settings: ScaleSettings, units: Mapping[str, Sequence[Mapping[str, Any]]],
            memory: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    single = units[SINGLE]
    efficiency = {way: {
        'wall': [mine['per_sec'] / workers / alone['per_sec']
                 for mine, alone in zip(units[way], single, strict=True)],
        'cpu': [alone['cpu_sec'] / mine['cpu_sec']
                for mine, alone in zip(units[way], single, strict=True)],
        'whole': [alone['seconds'] / mine['seconds'] / workers
                  for mine, alone in zip(units[way], single, strict=True)]}
        for way, workers in WAYS.items() if workers}
    stages_ms = {name: statistics.fmean(unit['stages_ms'].get(name, 0.0) for unit in single)
                 for name in (*OF_THE_PROCESSOR, 'total')}
    total_ms = stages_ms.pop('total')
    stages_ms[MODEL] = total_ms - sum(stages_ms.values())
    stages_ms[BESIDE] = 1e3 * statistics.fmean(
        unit['worker_cpu_sec'] for unit in units['1 worker']) - total_ms
    many = max(memory)
    return {
        'settings': asdict(settings), 'ways': {way: list(found) for way, found in units.items()},
        'efficiency': efficiency,
        'memory_mib': {count: found['driver_mib'] for count, found in memory.items()},
        'stages_ms': stages_ms,
        'ray_cores': statistics.fmean(
            (unit['cpu_sec'] - unit['worker_cpu_sec']) * unit['per_sec']
            for way, found in units.items() if WAYS[way] for unit in found),
        'driver_sec': memory[many]['driver_cpu_sec'] / many}
