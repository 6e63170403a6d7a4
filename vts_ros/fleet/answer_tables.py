# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The folder of a fleet: answers and their times as Parquet, one file per recording.

What depends on the recording and the settings alone is in ``answers``, the same byte for byte
however it was made; how long it took is in ``timings``. Every file is made beside its place and
moved there when it is whole, so that whatever is there is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
import json
import os
from pathlib import Path
import re
import shutil
from typing import Any

from filelock import FileLock, Timeout
import numpy as np
from numpy.typing import NDArray
import pyarrow as pa
from pyarrow import parquet

from vts_ros.fleet.sources import FleetError, Recording
from vts_ros.fleet.stretches import Plan, WindowSettings
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.bag_signals import NO_SIGNALS, SignalUse

ANSWERS, TIMINGS, WORK = 'answers', 'timings', 'unfinished'
FAILURES, SETTINGS, LOCK = 'failures.parquet', 'fleet.json', '.lock'
#: Begins the names of files that are not whole.
PARTIAL = '.partial-'
_ROWS = 2**16
#: Settings that answers do not depend on.
_FREE = ('url', 'timeout_sec', 'retries', 'threads', 'engine_threads', 'device',
         'local_files_only')

_FRAME = pa.struct([('camera', pa.string()), ('stamp', pa.int64())])
ANSWER_COLUMNS = pa.schema([
    ('recording', pa.string()),
    ('stamp', pa.int64()),
    ('received', pa.int64()),
    ('frames', pa.list_(_FRAME)),
    ('cameras', pa.list_(pa.string())),
    ('key_frame', pa.struct([*_FRAME, ('index', pa.int32())])),
    ('description', pa.string()),
    ('risk', pa.string()),
    ('object', pa.string()),
    ('object_camera', pa.string()),
    ('box', pa.list_(pa.float64())),
    ('explanation', pa.string()),
    ('action', pa.string()),
    ('tokens_total', pa.int32()),
    ('tokens_kept', pa.int32()),
    ('grid', pa.list_(pa.int32())),
    ('keep', pa.list_(pa.int32())),
    ('answer_tokens', pa.int32()),
    ('picture', pa.struct([('width', pa.int32()), ('height', pa.int32())])),
    ('model', pa.string()),
    ('engine', pa.string()),
    ('pruning', pa.string()),
    ('confidence', pa.float64()),
    ('in_distribution', pa.bool_()),
    ('rejected_output', pa.string()),
    ('words', pa.string()),
    ('embedding', pa.list_(pa.float32())),
    ('latitude', pa.float64()),
    ('longitude', pa.float64()),
    ('speed_mps', pa.float64()),
])
TIMING_COLUMNS = pa.schema([
    ('recording', pa.string()),
    ('stamp', pa.int64()),
    ('total_ms', pa.float64()),
    ('stages_ms', pa.map_(pa.string(), pa.float64())),
])
FAILURE_COLUMNS = pa.schema([('recording', pa.string()), ('reason', pa.string())])


class StorageError(FleetError):
    """Results that cannot be written: nobody's recording is to blame."""


@dataclass(frozen=True)
class FleetSettings:
    """
    How a fleet is described.

    Attributes
    ----------
    config, windows
        The pipeline, and which windows it is asked about.
    stretch_sec
        Length of the pieces that long recordings are cut into; answers do not depend on it.
    signals
        What becomes of the signals of the car.

    """

    config: PipelineConfig = field(default_factory=PipelineConfig)
    windows: WindowSettings = field(default_factory=WindowSettings)
    stretch_sec: float = 600.0
    signals: SignalUse = NO_SIGNALS

    def decisive(self) -> dict[str, Any]:
        """Return the settings that answers depend on."""
        config = {name: value for name, value in asdict(self.config).items()
                  if name not in _FREE}
        # None, as in the files of before there were any, where they make no difference.
        signals = self.signals._asdict() if self.signals.is_any else None
        return json.loads(json.dumps({**config, **asdict(self.windows), 'signals': signals}))


class Answers:
    """The rows of one file of answers and of one of their times."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._answers: list[dict[str, Any]] = []
        self._timings: list[dict[str, Any]] = []

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self._answers)

    @property
    def refused(self) -> int:
        """Return the number of those about pictures that the model does not know."""
        return sum(row['in_distribution'] is False for row in self._answers)

    def add(self, report: SceneReport, received_ns: int, embedding: NDArray[np.float32]) -> None:
        """Add an answer, when its newest frame was received, and what that looks like."""
        key = {'recording': self._recording.uri, 'stamp': report.stamp}
        self._answers.append({**key, **answer_row(report), 'received': received_ns,
                              'embedding': embedding})
        stages = {name: round(ms, 2) for name, ms in report.latency_ms.items()}
        self._timings.append({**key, 'total_ms': stages.get('total'), 'stages_ms': stages})

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Return answers and timings."""
        return (pa.Table.from_pylist(self._answers, ANSWER_COLUMNS),
                pa.Table.from_pylist(self._timings, TIMING_COLUMNS))


def words(*texts: str | None) -> str:
    """Return the words of texts in small letters, each behind a space: what is searched."""
    return ''.join(f' {word}' for text in texts for word in re.findall(r'\w+', text or '')).lower()


def refused_text(count: int) -> str:
    """Return what is to be said of answers that a guard made unknown, if there are any."""
    return (f'{count} answer{"s are" if count > 1 else " is"} unknown, as the model does not know '
            'such pictures; another --model may' if count else '')


def answer_row(report: SceneReport) -> dict[str, Any]:
    """Return a report as a row, without what differs from run to run."""
    data, said = report.to_dict(), report.answer
    found, tokens = data['object'] or {}, data['tokens']
    return {
        **{name: data[name] for name in (
            'frames', 'key_frame', 'description', 'explanation', 'action', 'picture', 'model',
            'engine', 'pruning', 'confidence', 'in_distribution', 'rejected_output')},
        'words': words(said.label, said.description, said.explanation, said.action),
        'cameras': report.cameras, 'risk': data['risk']['level'],
        'object': found.get('label'), 'object_camera': found.get('camera'),
        'box': found.get('box'), 'tokens_total': tokens['total'], 'tokens_kept': tokens['kept'],
        'grid': tokens['grid'], 'keep': tokens['keep'], 'answer_tokens': tokens['answer']}


def report_of(row: Mapping[str, Any]) -> SceneReport:
    """Return the report of a row, without its times."""
    label = row['object']
    return SceneReport.from_dict({
        'schema': 2, 'stamp': row['stamp'], 'frames': row['frames'],
        'key_frame': row['key_frame'], 'risk': {'level': row['risk']},
        'object': label and {'label': label, 'camera': row['object_camera'], 'box': row['box']},
        'tokens': {'keep': row['keep'], 'grid': row['grid'], 'answer': row['answer_tokens']},
        'latency_ms': {}, 'age_ms': None,
        **{name: row[name] for name in (
            'description', 'explanation', 'action', 'picture', 'model', 'engine', 'pruning',
            'confidence', 'in_distribution', 'rejected_output')}})


class FleetFolder:
    """
    Where the results of a fleet are.

    Parameters
    ----------
    root
        The folder.

    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def opened(self, settings: FleetSettings) -> Iterator[None]:
        """
        Hold the folder for a run with some settings, and clear up after one that was killed.

        Raises
        ------
        FleetError
            If another run holds it, or its answers were made with other settings.

        """
        try:
            for name in (ANSWERS, TIMINGS, WORK):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / LOCK, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise FleetError(f'another run writes to {self.root}: wait for it, or choose another '
                             'folder') from error
        except OSError as error:
            raise _cannot_write(self.root, error) from error
        try:
            for path in self.root.rglob(f'{PARTIAL}*'):
                path.unlink(missing_ok=True)
            self._settle(settings)
            yield
        finally:
            lock.release()

    def answers(self, recording: Recording) -> Path:
        """Return where the answers about a recording are, or will be."""
        return self.root / ANSWERS / f'{recording.name}.parquet'

    def is_done(self, recording: Recording) -> bool:
        """Return whether a recording, as it is now, has its answers."""
        return _signature(self.answers(recording)) == recording.signature

    def finish(self, recording: Recording, answers: pa.Table, timings: pa.Table,
               counters: Mapping[str, int]) -> None:
        """Put the results of a whole recording in their place."""
        facts = {'signature': recording.signature, 'counters': json.dumps(
            {name: count for name, count in sorted(counters.items()) if count})}
        name = f'{recording.name}.parquet'
        write_table(timings, self.root / TIMINGS / name)
        # Last: with it, the recording is done.
        write_table(answers.replace_schema_metadata(facts), self.answers(recording))
        shutil.rmtree(self._work(recording), ignore_errors=True)

    def plan(self, recording: Recording) -> Plan | None:
        """Return the plan of a recording that was cut into stretches, as it is now."""
        try:
            text = (self._work(recording) / 'plan.json').read_text(encoding='utf-8')
        except OSError:
            return None
        data = json.loads(text)
        return Plan.from_json(text) if data.get('signature') == recording.signature else None

    def write_plan(self, recording: Recording, plan: Plan) -> None:
        """Keep a plan; stretches of an earlier one are about another recording."""
        folder = self._work(recording)
        shutil.rmtree(folder, ignore_errors=True)
        data = {**json.loads(plan.to_json()), 'signature': recording.signature}
        with _whole(folder / 'plan.json') as partial:
            partial.write_text(json.dumps(data), encoding='utf-8')

    def missing(self, recording: Recording, plan: Plan) -> list[int]:
        """Return the stretches of a recording that are not done."""
        return [number for number in range(len(plan.cuts))
                if not self._stretch(recording, number, ANSWERS).exists()]

    def write_stretch(self, recording: Recording, number: int, answers: pa.Table,
                      timings: pa.Table, counters: Mapping[str, int]) -> None:
        """Keep the results of a stretch until all are there."""
        facts = {'counters': json.dumps(dict(counters))}
        write_table(timings, self._stretch(recording, number, TIMINGS))
        write_table(answers.replace_schema_metadata(facts),
                    self._stretch(recording, number, ANSWERS))

    def join(self, recording: Recording, plan: Plan) -> tuple[pa.Table, pa.Table, dict[str, int]]:
        """Return the results of all stretches as those of one run."""
        counters = dict(plan.counters)
        tables: dict[str, list[pa.Table]] = {ANSWERS: [], TIMINGS: []}
        for number in range(len(plan.cuts)):
            for name, found in tables.items():
                found.append(parquet.read_table(self._stretch(recording, number, name)))
            facts = tables[ANSWERS][-1].schema.metadata
            for name, count in json.loads(facts[b'counters']).items():
                counters[name] = counters.get(name, 0) + count
        # Read from a file, columns have numbers that would be written as well.
        answers, timings = (
            pa.concat_tables(found).cast(columns).replace_schema_metadata(None)
            for found, columns in zip(tables.values(), (ANSWER_COLUMNS, TIMING_COLUMNS)))
        return answers, timings, counters

    def write_failures(self, failures: Mapping[str, str]) -> None:
        """Put in their place which recordings failed, and why."""
        rows = [{'recording': uri, 'reason': failures[uri]} for uri in sorted(failures)]
        write_table(pa.Table.from_pylist(rows, FAILURE_COLUMNS), self.root / FAILURES)

    def _work(self, recording: Recording) -> Path:
        return self.root / WORK / recording.name

    def _stretch(self, recording: Recording, number: int, name: str) -> Path:
        return self._work(recording) / f'{number}.{name}.parquet'

    def _settle(self, settings: FleetSettings) -> None:
        """Keep the settings, or see that they are those of the answers that are there."""
        path, wanted = self.root / SETTINGS, settings.decisive()
        if not path.exists():
            with _whole(path) as partial:
                partial.write_text(json.dumps(wanted, indent=1), encoding='utf-8')
            return
        before = json.loads(path.read_text(encoding='utf-8'))
        changed = [f'{name} {before.get(name)!r}, not {value!r}'
                   for name, value in wanted.items() if before.get(name) != value]
        if changed:
            raise FleetError(f'{self.root} has answers with {", ".join(changed)}: choose another '
                             'folder, or the same settings')


def write_table(table: pa.Table, path: Path) -> None:
    """
    Write a table whole or not at all.

    Raises
    ------
    StorageError
        If that does not work.

    """
    with _whole(path) as partial:
        parquet.write_table(table.combine_chunks(), partial, compression='zstd',
                            row_group_size=_ROWS)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file; afterwards it is in its place, or gone."""
    partial = path.with_name(f'{PARTIAL}{path.name}-{os.getpid()}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open('rb+') as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise _cannot_write(path.parent, error) from error


def _cannot_write(folder: Path, error: OSError) -> StorageError:
    return StorageError(f'cannot write to {folder}: {error.strerror or error}')


def _signature(path: Path) -> str | None:
    """Return of which recording a file of answers is; None if there is none."""
    try:
        facts = parquet.read_schema(path).metadata
        return facts[b'signature'].decode()
    except (OSError, pa.ArrowInvalid, KeyError, TypeError):
        return None
