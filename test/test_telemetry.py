# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""That nothing is told to anybody: no query leaves, and nothing is kept to be sent later."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

from conftest import ROOT
import pytest

pytestmark = pytest.mark.slow

#: Runs the proposal network for a while, as a node does.
WORK = """
import sys, time
import numpy as np
import vts_ros
from vts_ros.engines import make_engine
from vts_ros.paths import model_path
engine = make_engine('onnxruntime', model_path('proposal/frame.onnx'))
frame = np.zeros((1, 128, 224, 3), np.uint8)
deadline, runs = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < deadline:
    engine.run({'frame': frame})
    runs += 1
    time.sleep(0.01)
assert runs > 2
"""
#: What a library does that asks for the address of its server.
ASK = "import socket; socket.getaddrinfo('telemetry.example.org', 443)"
#: Is the only name server of a network of its own, and tells what it was asked while each runs.
WATCH = """
import json, socket, subprocess, sys, threading
subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
subprocess.run(['mount', '--bind', sys.argv[1], '/etc/resolv.conf'], check=True)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', 53))
asked = []
def listen():
    while True:
        asked.append(server.recv(4096)[12:].decode('latin-1'))
threading.Thread(target=listen, daemon=True).start()
heard = []
for command in json.loads(sys.argv[2]):
    asked.clear()
    done = subprocess.run(command, stdout=sys.stderr)
    heard.append({'code': done.returncode, 'asked': list(asked)})
print(json.dumps(heard))
"""


def is_apart() -> bool:
    """Return whether one may have a network and mounts of one's own here."""
    return bool(shutil.which('unshare') and shutil.which('ip')) and subprocess.run(
        ['unshare', '-rmn', 'true'], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not is_apart(), reason='networks and mounts cannot be set apart here')
def test_nothing_is_told_to_anybody(tmp_path: Path) -> None:
    home = tmp_path / 'home'
    home.mkdir()
    resolv = tmp_path / 'resolv.conf'
    resolv.write_text('nameserver 127.0.0.1\noptions timeout:1 attempts:1\n')
    commands = [[sys.executable, '-c', ASK], [sys.executable, '-c', WORK, '5.0']]
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(('XDG_', 'ORT_'))}
    done = subprocess.run(
        ['unshare', '-rmn', sys.executable, '-c', WATCH, str(resolv), json.dumps(commands)],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=500,
        env={**env, 'HOME': str(home), 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    asking, working = json.loads(done.stdout)
    if not any('telemetry' in question for question in asking['asked']):
        pytest.skip('names are not looked up by /etc/resolv.conf here')
    assert working == {'code': 0, 'asked': []}, done.stderr
    assert sorted(home.rglob('*')) == []
