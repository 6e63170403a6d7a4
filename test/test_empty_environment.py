# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The first minute of somebody with a video and no ROS: explain, look.

In an environment that has what ``pip install 'vts_ros[tools]'`` asks for and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from importlib.metadata import Distribution, distribution
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

from conftest import ROOT
import numpy as np
from packaging.requirements import Requirement
import pytest
from test_live import events
from video_maker import turn, write_video
from websockets.sync.client import connect

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(2400),
    pytest.mark.skipif(not (ROOT / 'models' / 'embedded').is_dir(),
                       reason='the language model is not in this checkout')]

INSTALL_SEC = 500.0
#: Nothing of the environment that runs the tests.
BARE = {name: value for name, value in os.environ.items() if name not in (
    'PYTHONPATH', 'PYTHONDONTWRITEBYTECODE', 'AMENT_PREFIX_PATH', 'LD_LIBRARY_PATH',
    'VIRTUAL_ENV')}


@pytest.fixture(scope='module')
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return an environment in which nothing but the package and what ``[tools]`` needs is.

    What is needed is linked from the environment of the tests: a gigabyte that nobody downloads
    and unpacks again. The package itself is built and installed.
    """
    folder = tmp_path_factory.mktemp('empty')
    sources = folder / 'vts_ros'
    shutil.copytree(ROOT, sources, ignore=shutil.ignore_patterns(
        '.*', 'build', 'install', 'log', 'out', '*.egg-info', '__pycache__'))
    place = folder / 'venv'
    pip = (sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check')
    no_more = ('--no-deps', '--no-build-isolation')
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', place], check=True, env=BARE)
    subprocess.run([*pip, 'wheel', *no_more, '--wheel-dir', folder, sources], check=True,
                   env=BARE, timeout=INSTALL_SEC)
    subprocess.run([*pip, '--python', place / 'bin' / 'python', 'install', '--no-deps',
                    *folder.glob('*.whl')], check=True, env=BARE, timeout=INSTALL_SEC)
    packages, = place.glob('lib/python*/site-packages')
    for wanted in needed('vts_ros', ('tools',)):
        for top in {file.parts[0] for file in wanted.files or ()} - {'..', '__pycache__'}:
            if not (packages / top).exists():
                (packages / top).symlink_to(str(wanted.locate_file(top)))
    return place


def needed(name: str, extras: Sequence[str]) -> Iterator[Distribution]:
    """Yield what a package needs, as pip would find it: each once."""
    seen: set[tuple[str, str]] = set()
    ahead = [(name, extra) for extra in ('', *extras)]
    while ahead:
        name, extra = ahead.pop()
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({'extra': extra}):
                continue
            assert distribution(requirement.name).version in requirement.specifier, line
            for wanted in {(requirement.name, more) for more in ('', *requirement.extras)} - seen:
                seen.add(wanted)
                ahead.append(wanted)
                if not wanted[1]:
                    yield distribution(wanted[0])


@pytest.fixture(scope='module')
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video as a phone records it: on its side, and not every picture in time."""
    random = np.random.default_rng(0)
    times_ms = [100 * number + int(random.integers(0, 40)) for number in range(40)]
    return turn(write_video(tmp_path_factory.mktemp('video') / 'my_dashcam.mp4', times_ms), 1)


def test_it_has_no_ros_and_no_engines(environment: Path) -> None:
    names = json.loads(subprocess.run(
        [environment / 'bin' / 'python', '-c', 'import importlib.metadata as metadata, json; '
         'print(json.dumps([one.name for one in metadata.distributions()]))'],
        check=True, env=BARE, capture_output=True, text=True).stdout)
    names = {name.lower().replace('_', '-') for name in names}
    assert {'av', 'starlette', 'vts-ros'} <= names
    assert not [name for name in names if name.startswith(('ros-', 'onnxruntime', 'pytest'))]


def test_a_video_is_explained(environment: Path, video: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [environment / 'bin' / 'vts', 'annotate', '--video', video, '--out', tmp_path / 'out',
         '--every', '3'], check=False, env=BARE, cwd=tmp_path, capture_output=True, text=True,
        timeout=600.0)
    assert done.returncode == 0, done.stderr
    assert 'Traceback' not in done.stderr
    for name in ('report.html', 'annotated.mp4', 'answers.jsonl'):
        assert (tmp_path / 'out' / name).stat().st_size > 500


def test_a_video_is_shown_live(environment: Path, video: Path, tmp_path: Path) -> None:
    log = tmp_path / 'log'
    with log.open('w') as output:
        live = subprocess.Popen(
            [environment / 'bin' / 'vts', 'live', '--video', video, '--port', '0'], env=BARE,
            cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 900.0
        while not (found := re.search(r'http://localhost:(\d+)', log.read_text())):
            assert live.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        connection = HTTPConnection('localhost', int(found[1]), timeout=60.0)
        connection.request('GET', '/')
        assert b'vts live' in connection.getresponse().read()
        # Not the page alone: the video is played and described.
        with connect(f'ws://localhost:{found[1]}/ws', open_timeout=300.0,
                     max_size=2**22) as page:
            told = events(page, lambda event: event['kind'] == 'report')
        assert told[-1]['report']['frames'][-1]['camera'] == 'my_dashcam'
        live.send_signal(signal.SIGINT)
        assert live.wait(300.0) == 0, log.read_text()
    finally:
        live.kill()
        live.wait()
