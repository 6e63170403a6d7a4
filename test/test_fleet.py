# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A fleet on Ray: real workers, on a cluster of two nodes and on one of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
import json
import os
from pathlib import Path
import re
import shutil
import signal
import socket
import time
from typing import Any

from bag_maker import compressed, COMPRESSED_TOPIC, drive, header, jpeg, picture, START_NS, write
from conftest import Process, ROOT
import numpy as np
from preloaded import run_module
import psutil
from pyarrow import fs, parquet
import pytest
import yaml

from vts_ros.errors import BagError
from vts_ros.fleet.answer_tables import (
    ANSWERS,
    FAILURES,
    FleetFolder,
    FleetSettings,
    PARTIAL,
    report_of,
    TIMINGS,
    WORK,
)
from vts_ros.fleet.fleet_run import annotate_fleet, ClusterOptions, DESCRIBE, JOIN, Totals
from vts_ros.fleet.fleet_worker import FleetWorker, Job
from vts_ros.fleet.sources import below, find_recordings, FleetError, Recording
from vts_ros.fleet.stretches import WindowSettings
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.tools.bag_frames import read_frames
from vts_ros.tools.bag_signals import SignalUse
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.tools.described_frames import describe_frames
from vts_ros.tools.remote_recordings import open_store, title_of

ray = pytest.importorskip('ray')
pytestmark = pytest.mark.slow

NAV = 'sensor_msgs/msg/NavSatFix'


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a tiny language model that has learned nothing."""
    model = tmp_path_factory.mktemp('model') / 'tiny'
    create_checkpoint(
        model, ['a road'], vocab_size=512, text_hidden=64, text_layers=2, text_heads=2,
        text_intermediate=64, hidden_size=32, depth=2, num_heads=2,
        intermediate_size=64)
    return str(model)


@pytest.fixture(scope='module')
def settings(tiny: str) -> FleetSettings:
    """Return settings that cut all but the shortest recordings."""
    return FleetSettings(PipelineConfig(model=tiny, max_new_tokens=4), WindowSettings(), 2.0)


@pytest.fixture(scope='module')
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of recordings: short ones, a long one, and two that are broken."""
    folder = tmp_path_factory.mktemp('drives')
    for number in range(3):
        drive(folder / 'short' / f'{number}', 14, broken=5 if number == 1 else None)
    drive(folder / 'long', 60, broken=33)
    drive(folder / 'broken' / 'bag', 12)
    file, = (folder / 'broken' / 'bag').glob('*.mcap')
    file.write_bytes(b'no MCAP file')
    drive(folder / 'brief', 3)
    return folder


@pytest.fixture(scope='module')
def cluster() -> Iterator[str]:
    """Yield the address of a cluster of two nodes, each a few processes of this machine."""
    from ray.cluster_utils import Cluster

    # Workers of Ray give way to all others, which on a busy machine is for good.
    os.environ.update(RAY_worker_niceness='0')
    # Ray starts a process for every processor that it is told of, before anything needs it.
    node: dict[str, Any] = {'num_cpus': 1, 'object_store_memory': 80 * 2**20}
    found = Cluster()
    try:
        for _ in range(2):
            insist(lambda: found.add_node(**node, **ports(), include_dashboard=False,
                                          no_monitor=True))
        yield found.address
    finally:
        found.shutdown()


def ports() -> dict[str, Any]:
    """Return free ports: what has them need not be waited for."""
    names = ('metrics_agent_port', 'runtime_env_agent_port', 'dashboard_agent_listen_port')
    with ExitStack() as stack:
        found = {name: stack.enter_context(socket.socket()) for name in names}
        for port in found.values():
            port.bind(('127.0.0.1', 0))
        return {name: port.getsockname()[1] for name, port in found.items()}


def insist(do: Callable[[], object]) -> None:
    """Do what Ray gives up after a while; on a busy machine it takes more."""
    for attempt in range(5):
        try:
            do()
        except Exception:
            if attempt == 4:
                raise
        else:
            return


@pytest.fixture(scope='module')
def expected(cluster: str, drives: Path, settings: FleetSettings,
             tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what two workers make of the drives, of which one is killed in its work."""
    root = tmp_path_factory.mktemp('fleet') / 'expected'
    killed: list[int] = []

    def kill(totals: Totals) -> None:
        if totals.answers and not killed:
            # A worker has the name of what it does.
            workers = [process.pid for process in psutil.Process().children(recursive=True)
                       if re.match(f'ray::({DESCRIBE}|{JOIN})', title(process))]
            for pid in workers[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    totals = annotate_fleet(find_recordings([str(drives)]), root, settings,
                            ClusterOptions(cluster, workers=2), kill)
    assert len(killed) == 1
    assert (totals.recordings, totals.done, totals.left, totals.workers) == (6, 4, 0, 2)
    return root


def title(process: psutil.Process) -> str:
    try:
        return ''.join(process.cmdline())
    except psutil.Error:
        return ''  # it has ended


def results(root: Path) -> dict[str, bytes]:
    """Return the bytes of all answers and of the list of failures."""
    assert not list((root / WORK).iterdir())
    assert not list(root.rglob(f'{PARTIAL}*'))
    assert ({path.name for path in (root / ANSWERS).iterdir()}
            == {path.name for path in (root / TIMINGS).iterdir()})
    return {path.name: path.read_bytes()
            for path in (*(root / ANSWERS).iterdir(), root / FAILURES)}


def test_the_answers_are_those_of_annotate_although_a_worker_was_killed(
        expected: Path, drives: Path, settings: FleetSettings) -> None:
    pipeline = Pipeline.load(settings.config)
    folder = FleetFolder(expected)
    for recording in find_recordings([str(drives / 'short'), str(drives / 'long')]):
        pipeline.clear()
        rows = parquet.read_table(folder.answers(recording)).to_pylist()
        reports = [report for _, report in describe_frames(pipeline, read_frames(recording.uri))]
        assert [report_of(row).to_dict() for row in rows] == [
            report.to_dict() | {'latency_ms': {}, 'time_to_risk_ms': None} for report in reports]
        assert {row['recording'] for row in rows} == {recording.uri}
        # A look has the length 1.
        assert all(abs(sum(x * x for x in row['embedding']) - 1.0) < 1e-5 for row in rows)
    times = parquet.read_table(expected / TIMINGS).to_pylist()
    assert all(dict(row['stages_ms'])['total'] == row['total_ms'] > 0.0 for row in times)


def test_failures_say_why(expected: Path, drives: Path) -> None:
    failed = {row['recording']: row['reason']
              for row in parquet.read_table(expected / FAILURES).to_pylist()}
    assert failed.keys() == {str(drives / 'broken' / 'bag'), str(drives / 'brief')}
    assert 'it is no MCAP file' in failed[str(drives / 'broken' / 'bag')]
    assert failed[str(drives / 'brief')] == (
        'no answer: the window was never full (3 frames, 2 admitted, 1 thinned)')


def test_the_command_is_stopped_with_ctrl_c_and_goes_on(
        cluster: str, expected: Path, drives: Path, tiny: str, tmp_path: Path) -> None:
    """
    One worker, stopped in the long recording and started again, makes the bytes of two.

    First in a cluster of its own, which ends with it, then in one that is there.
    """
    out = tmp_path / 'fleet'
    arguments = ['fleet', 'annotate', str(drives), '--out', str(out), '--model', tiny,
                 '--max-new-tokens', '4', '--stretch-sec', '2', '--workers', '1']
    process = Process('vts_ros.tools.cli', arguments, {**os.environ, 'NO_COLOR': '1'})
    try:
        deadline = time.monotonic() + 500.0
        while len(list(out.glob(f'{WORK}/*/*.{ANSWERS}.parquet'))) < 2:
            assert time.monotonic() < deadline, process.output
            time.sleep(0.05)
        process.interrupt()
        assert process.wait(500.0) == 1
        assert 'vts: stopped; what is done is in' in process.output
    finally:
        process.kill()
    done = {path: path.stat().st_mtime_ns for path in out.rglob('*.parquet')
            if path.name != FAILURES}
    assert done
    (out / ANSWERS / f'{PARTIAL}left-over').write_bytes(b'half')
    gone_on = run_module('vts_ros.tools.cli', *arguments, '--address', cluster, '--json',
                         NO_COLOR='1')
    assert gone_on.returncode == 0, gone_on.stderr
    totals = json.loads(gone_on.stdout.splitlines()[-1])
    assert totals['before'] + totals['done'] == 4
    assert 'the window was never full' in gone_on.stderr
    # What was done was not done again.
    assert all(path.stat().st_mtime_ns == before for path, before in done.items()
               if WORK not in path.parts)
    assert results(out) == results(expected)


def test_where_nothing_is_left_to_do_no_worker_is_started(
        expected: Path, drives: Path, settings: FleetSettings) -> None:
    failed = {str(drives / 'broken' / 'bag'), str(drives / 'brief')}
    good = [recording for recording in find_recordings([str(drives)])
            if recording.uri not in failed]
    totals = annotate_fleet(good, expected, settings, ClusterOptions('nowhere:1'))
    assert (totals.before, totals.done, totals.workers) == (4, 0, 0)


def test_places_and_speeds_of_the_car_stand_beside_the_answers(tiny: str, tmp_path: Path) -> None:
    from vts_ros.fleet.fleet_worker import FleetWorker, Job

    messages = []
    types = TYPESTORE.types
    for number in range(20):
        stamp = START_NS + number * 200_000_000
        messages.append((COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp,
                         compressed(stamp, jpeg(picture(number)))))
        if number in (3, 10):
            fix = types[NAV](
                header(stamp), types['sensor_msgs/msg/NavSatStatus'](0, 1), 48.0 + number, 11.0,
                500.0, np.zeros(9), 0)
            messages.append(('/gnss/fix', NAV, stamp, bytes(TYPESTORE.serialize_cdr(fix, NAV))))
    recording, = find_recordings([str(write(tmp_path / 'bag', messages))])
    settings = FleetSettings(PipelineConfig(model=tiny, max_new_tokens=2, threads=1))
    folder = FleetFolder(tmp_path / 'fleet')
    with folder.opened(settings):
        assert FleetWorker(folder.root, settings).do(Job(recording)).is_done
    rows = parquet.read_table(folder.answers(recording)).to_pylist()
    # Answers are at the pictures 8, 10, 12 ...; a place is good for two seconds.
    assert [row['latitude'] for row in rows] == [51.0, 58.0, 58.0, 58.0, 58.0, 58.0]
    assert {row['longitude'] for row in rows} == {11.0}
    assert {row['speed_mps'] for row in rows} == {None}


def test_other_settings_and_a_second_run_are_refused(settings: FleetSettings, tmp_path: Path
                                                     ) -> None:
    folder = FleetFolder(tmp_path)
    other = FleetSettings(settings.config, WindowSettings(frames=3))
    with folder.opened(settings), \
            pytest.raises(FleetError, match='another run writes to'), folder.opened(settings):
        pass
    with pytest.raises(FleetError, match='frames 5, not 3'), folder.opened(other):
        pass
    told = replace(settings, signals=SignalUse(tell_vehicle=True))
    with pytest.raises(FleetError, match='signals None, not'), folder.opened(told):
        pass
    # Signals that have no use make no difference, and where it runs makes none.
    with folder.opened(replace(settings, signals=SignalUse(('speed /a b/B c',)))):
        pass
    with folder.opened(FleetSettings(settings.config, stretch_sec=1.0)):
        pass


def test_a_worker_without_models_ends_the_run_and_not_all_recordings(
        settings: FleetSettings, tmp_path: Path) -> None:
    """It would always be free, and fail one recording after the other."""
    config = replace(settings.config, model=str(tmp_path / 'gone'))
    worker = FleetWorker(tmp_path / 'out', replace(settings, config=config))
    outcome = worker.do(Job(Recording(str(drive(tmp_path / 'bag', 14)), '', 0)))
    assert not outcome.failure
    assert outcome.halt.startswith('a worker cannot load the models: ')


def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that is full."""
    program = (
        'import resource, signal, sys, pyarrow as pa\n'
        'from pathlib import Path\n'
        'from vts_ros.fleet.answer_tables import write_table\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n'
        'import os\n'
        'write_table(pa.table({"x": [os.urandom(40_000)]}), Path(sys.argv[1]))\n')
    (tmp_path / 'fill.py').write_text(program)
    done = run_module(str(tmp_path / 'fill.py'), tmp_path / 'answers' / 'x.parquet')
    assert 'StorageError: cannot write to ' in done.stderr
    assert not list((tmp_path / 'answers').iterdir())


def test_recordings_are_found_wherever_they_are(drives: Path, tmp_path: Path) -> None:
    short = [str(drives / 'short' / f'{number}') for number in range(3)]
    (tmp_path / 'list.txt').write_text('# two\n' + '\n'.join(short[:2]) + '\n\n')
    (tmp_path / 'alone.mcap').write_bytes(b'')

    def found(*sources: object) -> list[str]:
        return [recording.uri for recording in find_recordings(map(str, sources))]

    assert found(drives / 'short') == found(*short, short[1]) == short
    assert found(drives / 'short' / '[01]') == found(tmp_path / 'list.txt') == short[:2]
    assert found(tmp_path) == [str(tmp_path / 'alone.mcap')]
    uris = [f'file://{path}' for path in short]
    assert found(f'file://{drives}/short') == uris
    recording, = find_recordings(uris[:1])
    assert recording.is_remote
    with recording.local() as copy:
        assert copy != Path(short[0])
        assert len(list(read_frames(copy))) == 14
    assert not copy.exists()
    with pytest.raises(BagError) as caught, recording.local() as copy:
        raise BagError(f'{copy} is broken')
    assert str(caught.value) == '0 is broken'
    # An address with a space is written with one, or as addresses are.
    shutil.copytree(short[0], tmp_path / 'a b' / 'my drive')
    for address in (f'file://{tmp_path}/a b', f'file://{tmp_path}/a%20b/'):
        spaced, = find_recordings([address])
        assert (spaced.title, spaced.name[:9]) == ('my drive', 'my drive-')
        with spaced.local() as copy:
            assert len(list(read_frames(copy))) == 14
    # What a folder above is called does not matter; what is hidden below is no recording.
    hidden = tmp_path / '.archive'
    shutil.copytree(short[0], hidden / 'drive')
    shutil.copytree(short[0], hidden / '.trash')
    assert found(hidden) == [str(hidden / 'drive')]
    for nothing in (drives / 'nowhere', drives / 'brief' / 'metadata.yaml'):
        with pytest.raises(FleetError):
            find_recordings([str(nothing)])


def test_passwords_in_addresses_are_refused_and_not_repeated() -> None:
    """Addresses stand in answers and on pages."""
    for address in ('s3://AKIA:secret@bucket/drives', 's3://AKIA:secret/x@bucket/drives',
                    's3://AKIA:secret@bucket/drives?region=x', 'abfs://:secret@name.host/drives'):
        with pytest.raises(FleetError, match='has a password') as caught:
            find_recordings([address])
        assert 'secret' not in str(caught.value)
        assert 'AKIA:' not in str(caught.value)


def test_what_is_asked_for_at_a_store_stays_with_its_recordings() -> None:
    store = '?endpoint_override=http://10.0.0.1:9000&region=x'
    assert below(f's3://bucket/drives/{store}', '/my drive') == (
        f's3://bucket/drives/my%20drive{store}')
    assert title_of(f's3://bucket/drives/my%20drive{store}') == 'my drive'
    assert Recording(f's3://bucket/a.b{store}', '', 0).name.startswith('a-')
    # Without an answer, Google's library goes on for a quarter of an hour by itself.
    address = 'gs://anonymous@bucket/drives?scheme=http'
    for query, seconds in (('', 30), ('&retry_limit_seconds=7', 7)):
        system, path = open_store(address + query)
        assert path == 'bucket/drives'
        assert system == fs.FileSystem.from_uri(f'{address}&retry_limit_seconds={seconds}')[0]
    assert open_store(address.partition('?')[0])[1] == 'bucket/drives'
    # On this machine, all characters are those of a name.
    assert below('/drives', '/a?b c') == '/drives/a?b c'
    assert title_of('/drives/a?b%20c') == 'a?b%20c'


def test_another_recording_at_the_same_place_is_another_recording(tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 3)
    before, = find_recordings([str(bag)])
    assert find_recordings([str(bag)]) == [before]
    file, = bag.glob('*.mcap')
    file.write_bytes(file.read_bytes() + b'x')
    after, = find_recordings([str(bag)])
    assert (before.name, before.uri) == (after.name, after.uri)
    assert before.signature != after.signature
    assert before.name != Recording(f'{bag}2', '', 0).name


def test_cluster_files_call_the_command_as_it_is() -> None:
    """The files for a cloud and for Kubernetes: their form, and the options that they use."""
    from typer.main import get_command

    from vts_ros.fleet.fleet_command import app

    command = get_command(app).commands['annotate']  # type: ignore[attr-defined]
    known = {name for parameter in command.params for name in parameter.opts}
    folder = ROOT / 'examples' / 'fleet'
    job = yaml.safe_load((folder / 'kuberay.yaml').read_text())
    spec = job['spec']['rayClusterSpec']
    workers, = spec['workerGroupSpecs']
    for group in (spec['headGroupSpec'], workers):
        container, = group['template']['spec']['containers']
        assert container['env'] == [{'name': 'RAY_USAGE_STATS_ENABLED', 'value': '0'}]
        assert container['volumeMounts'][0]['name'] == group['template']['spec']['volumes'][0][
            'name']
    cloud = yaml.safe_load((folder / 'aws.yaml').read_text())
    assert cloud['head_node_type'] in cloud['available_node_types']
    assert all('RAY_USAGE_STATS_ENABLED=0' in cloud[f'{kind}_start_ray_commands'][1]
               for kind in ('head', 'worker'))
    for text in (job['spec']['entrypoint'], (folder / 'aws.yaml').read_text()):
        options = re.findall(r'--[a-z-]+', ' '.join(re.findall(
            r'vts fleet annotate ([^\'\n]*)', text)))
        assert {'--out', '--address'} <= set(options) <= known
