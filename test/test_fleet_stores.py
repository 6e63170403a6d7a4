# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Recordings in the store of a cloud: a real server that speaks the protocol of S3.

It needs moto, which brings much that nothing else needs: ``VTS_TEST_MOTO`` names the Python of an
environment with ``moto[server]``, see docs/development.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
import os
from pathlib import Path
import socket
import subprocess
import sys
import time
from urllib.request import Request, urlopen

from bag_maker import drive
from pyarrow import fs, parquet
import pytest

from vts_ros.errors import BagError
from vts_ros.fleet.answer_tables import FleetFolder, FleetSettings
from vts_ros.fleet.fleet_worker import FleetWorker, Job
from vts_ros.fleet.moments import moments, write_clip
from vts_ros.fleet.sources import find_recordings, FleetError
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.pipeline import PipelineConfig
from vts_ros.tools.bag_frames import read_frames

PYTHON = os.environ.get('VTS_TEST_MOTO', sys.executable if find_spec('moto') else '')
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    not PYTHON, reason='VTS_TEST_MOTO names no python of an environment with moto[server]')]

KEY, SECRET = 'AKIATESTTESTTEST', 'not-to-be-told'


@pytest.fixture(scope='module')
def server() -> Iterator[str]:
    """Yield the address of a server that lets everybody in who has credentials."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [PYTHON, '-m', 'moto.server', '-H', '127.0.0.1', '-p', str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300.0
        while True:
            try:
                urlopen(f'http://127.0.0.1:{port}/moto-api/', timeout=10.0).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f'127.0.0.1:{port}'
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the credentials as a user does."""
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', KEY)
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', SECRET)
    monkeypatch.setenv('AWS_EC2_METADATA_DISABLED', 'true')


@pytest.fixture(scope='module')
def bucket(server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the query of a bucket with two drives and a broken one."""
    folder = tmp_path_factory.mktemp('drives')
    drive(folder / 'good', 14)
    drive(folder / 'two words', 12)
    broken, = drive(folder / 'broken', 12).glob('*.mcap')
    broken.write_bytes(b'no MCAP file')
    store = fs.S3FileSystem(
        access_key=KEY, secret_key=SECRET, scheme='http', endpoint_override=server,
        region='us-east-1', allow_bucket_creation=True)
    store.create_dir('fleet')
    fs.copy_files(str(folder), 'fleet/drives', destination_filesystem=store)
    return f'?endpoint_override={server}&scheme=http&region=us-east-1'


@pytest.mark.usefixtures('credentials')
def test_recordings_are_found_fetched_and_deleted(bucket: str) -> None:
    broken, good, spaced = find_recordings([f's3://fleet/drives{bucket}'])
    # What is needed to fetch them again is kept.
    assert good.uri == f's3://fleet/drives/good{bucket}'
    assert find_recordings([good.uri]) == [good]
    assert find_recordings([f's3://fleet{bucket}']) == [broken, good, spaced]
    assert (good.title, spaced.title) == ('good', 'two words')
    for recording, count in ((good, 14), (spaced, 12)):
        with recording.local() as copy:
            assert len(list(read_frames(copy))) == count
        assert not copy.parent.exists()
    with pytest.raises(BagError, match=r'^broken/broken.mcap cannot be read: .*no MCAP file'), \
            broken.local() as copy:
        list(read_frames(copy))
    assert not copy.parent.exists()
    alone, = find_recordings([f's3://fleet/drives/good/good.mcap{bucket}'])
    with alone.local() as copy:
        assert len(list(read_frames(copy))) == 14


@pytest.mark.usefixtures('credentials')
def test_a_worker_describes_them_and_clips_are_cut(bucket: str, tmp_path: Path) -> None:
    model = tmp_path / 'tiny'
    create_checkpoint(
        model, ['a road'], vocab_size=512, text_hidden=64, text_layers=2, text_heads=2,
        text_intermediate=64, hidden_size=32, depth=2, num_heads=2, intermediate_size=64)
    settings = FleetSettings(PipelineConfig(model=str(model), max_new_tokens=2, threads=1))
    folder = FleetFolder(tmp_path / 'fleet')
    broken, good, _ = find_recordings([f's3://fleet/drives{bucket}'])
    worker = FleetWorker(folder.root, settings)
    with folder.opened(settings):
        assert worker.do(Job(good)).is_done
        failure = worker.do(Job(broken)).failure
    assert failure.startswith('broken/broken.mcap cannot be read')
    rows = parquet.read_table(folder.answers(good)).to_pylist()
    assert {row['recording'] for row in rows} == {good.uri}
    moment, = moments(folder.root, rows)
    assert len(list(read_frames(write_clip(moment, tmp_path / 'clips')))) == 14
    for path in folder.root.rglob('*'):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


@pytest.mark.usefixtures('credentials')
def test_what_is_wrong_is_told_in_one_line(server: str, bucket: str) -> None:
    for missing in ('s3://nobodys/drives', 's3://nobodys', 's3://fleet/nothing'):
        with pytest.raises(FleetError, match='does not exist'):
            find_recordings([missing + bucket])
    good, = find_recordings([f's3://fleet/drives/good{bucket}'])
    # From now on the server knows nobody: these credentials are wrong.
    urlopen(Request(f'http://{server}/moto-api/reset-auth', b'0', {
        'Content-Type': 'text/plain'}), timeout=60.0).close()
    with pytest.raises(BagError) as fetched, good.local():
        pass
    with pytest.raises(FleetError) as listed:
        find_recordings([f's3://fleet/drives{bucket}'])
    for said in (str(fetched.value), str(listed.value)):
        assert 'ACCESS' in said
        assert said.endswith('Are the credentials right, and may they read it?')
        assert '\n' not in said
        assert KEY not in said
        assert SECRET not in said
