# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What ``docs/fleet.md`` says about scale: measured, and computed from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import math
import statistics
from typing import Any

from vts_ros.lab.bench.fleet_cost import (
    cost,
    DRIVER,
    Driving,
    INTERVAL_SEC,
    least_gpu_sec,
    MODEL,
    Node,
    Stages,
    STORE,
    turns,
)
from vts_ros.lab.bench.fleet_scale import BESIDE, SINGLE, stages_of, WAYS
from vts_ros.lab.evaluation.generated_page import day_and_machine, Run

NODES = (1, 10, 100)
GOAL = 0.9
_STAGES = {'read': 'picture decoded', 'guard': 'guard', 'propose': 'proposal network',
           'select': 'tokens selected', 'language model': 'language model, all of it',
           BESIDE: 'the rest of a worker: reading, results'}


def section(result: Mapping[str, Any], gpu_ms: Sequence[float], node: Node, driving: Driving,
            run: Run) -> Iterator[str]:
    """Yield the lines of the section."""
    settings = result['settings']
    yield f'\n    {run.command}\n'
    yield (f'{day_and_machine(run)} {settings["drives"]} rendered drives '
           f'(seed {settings["seed"]}) with {settings["windows"]} answers of '
           f'`{settings["model"]}` each, in {_counted(settings["rounds"], "part")} that every way '
           'has in turn; one thread per process, no drafts.\n')
    yield from _measured(result)
    yield from _memory(result)
    yield from _stages(result)
    yield from _computed(result, gpu_ms, node, driving)


def _measured(result: Mapping[str, Any]) -> Iterator[str]:
    yield ('| | answers/s | per worker, of one process | by computing time | start and end | '
           'with start and end |')
    yield '|---|---|---|---|---|---|'
    for way in WAYS:
        units, found = result['ways'][way], result['efficiency'].get(way)
        shares = [_range(found[kind]) for kind in ('wall', 'cpu', 'whole')] if found else ['-'] * 3
        yield (f'| {way} | {_mean(units, "per_sec"):.2f} | {shares[0]} | {shares[1]} | '
               f'{_mean(units, "start_sec"):.0f} s | {shares[2]} |')
    least = min(statistics.fmean(found['wall']) for found in result['efficiency'].values())
    yield (f'\nEfficiency per worker is at least {least:.2f} (goal: {GOAL}): '
           f'{"met" if least >= GOAL else "missed"}. {SINGLE.capitalize()} answers as `vts '
           'annotate` does, and writes nothing. In brackets, the least and the most of a part. '
           'The first and the last recordings of each worker are left out, except in the last '
           'two columns: a short run pays for the start of Ray and the loading of models. Load of '
           f'the machine before a run, with what is left of the run before: at most '
           f'{_load(result):.1f}.\n')


def _memory(result: Mapping[str, Any]) -> Iterator[str]:
    peaks = {int(count): mib for count, mib in result['memory_mib'].items()}
    few, many = min(peaks), max(peaks)
    grown = peaks[many] - peaks[few]
    yield (f'**Memory of the command**: {peaks[few]:.0f} MiB at most with {few:,} recordings, '
           f'{peaks[many]:.0f} MiB with {many:,}: {grown:+.1f} MiB, or '
           f'{1024 * grown / (many - few):.1f} KiB per recording (2 workers; copies of '
           'rendered drives under other names, a tiny model and one frame, as the command does '
           f'not see what is said). It computes {1e3 * result["driver_sec"]:.1f} ms per '
           'recording, its start included.\n')


def _stages(result: Mapping[str, Any]) -> Iterator[str]:
    yield '| of an answer | computing time on one core |'
    yield '|---|---|'
    for name, ms in result['stages_ms'].items():
        yield f'| {_STAGES[name]} | {ms:.1f} ms |'
    yield (f'\nBeside the workers, Ray and the command take {result["ray_cores"]:.2f} of a core, '
           'however many answers there are.\n')


def _computed(result: Mapping[str, Any], gpu_ms: Sequence[float], node: Node, driving: Driving
              ) -> Iterator[str]:
    stages = stages_of(result)
    yield (f'**{driving.hours:,.0f} hours of driving** are {driving.answers / 1e6:.0f} million '
           f'answers, one every {INTERVAL_SEC} s. Computed, not measured, from the computing '
           'times above and from what is assumed: nodes with '
           f'{_counted(node.gpus, "GPU")}, {node.processors} cores like the '
           f'one here and {node.gbit_per_sec:g} Gbit/s, a storage of '
           f'{node.store_gbit_per_sec:g} Gbit/s for all, recordings of '
           f'{driving.recording_sec / 60:g} minutes and {driving.gb_per_hour:g} GB per hour (JPEG '
           'of 100 kB at 10 Hz), and the time of a GPU for an answer (one by the answers per '
           'second of a GPU that answers many at once):\n')
    yield (f'| GPU time, assumed | {" | ".join(_counted(nodes, "node") for nodes in NODES)} | '
           'decides |')
    yield f'|---|{"---|" * len(NODES)}---|'
    for ms in gpu_ms:
        costs = [cost(nodes, 1e-3 * ms, stages, node, driving) for nodes in NODES]
        parts = list(dict.fromkeys(found.bottleneck for found in costs))
        cells = ' | '.join(f'{_hours(found.hours)} ({found.node_hours:,.0f} node-hours)'
                           for found in costs)
        yield f'| {ms:g} ms | {cells} | {", then ".join(parts)} |'
    yield ''
    yield from _turns(stages, gpu_ms, node, driving)
    rate = _mean(result['ways']['2 workers'], 'per_sec')
    yield (f'\nWithout a GPU, 2 workers here would take {_hours(driving.answers / rate / 3600)}: '
           'measured, but for the number of answers.\n')


def _turns(stages: Stages, gpu_ms: Sequence[float], node: Node, driving: Driving
           ) -> Iterator[str]:
    yield (f'- The {MODEL} decides until an answer takes a GPU less than '
           f'{1e3 * least_gpu_sec(stages, node, driving):.2g} ms; then the cores of its node, '
           f'which take {1e3 * stages.processor_sec:.0f} ms for the rest of an answer, or its '
           'network.')
    for part in (STORE, DRIVER):
        counts = ', '.join(
            f'{math.ceil(turns(1e-3 * ms, stages, node, driving)[part]):,} nodes with {ms:g} ms'
            for ms in gpu_ms)
        yield f'- The {part} decides from {counts} on.'


def _load(result: Mapping[str, Any]) -> float:
    """Return the highest load of the machine before a run; that of the run before counts, too."""
    return max(unit['load'] for units in result['ways'].values() for unit in units)


def _counted(count: int, what: str) -> str:
    return f'{count} {what}{"s" if count > 1 else ""}'


def _hours(hours: float) -> str:
    return f'{hours:,.0f} h' if hours >= 10 else f'{hours:.1f} h'


def _range(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    return f'{mean:.2f} [{min(values):.2f}, {max(values):.2f}]'


def _mean(units: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.fmean(unit[name] for unit in units)
