# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""That runs of these tests which are on one machine at a time do not meet."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
import subprocess
import sys

import conftest
from conftest import own_domain
import pytest

HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import conftest
conftest.LOCKS, conftest.DOMAINS = Path(sys.argv[2]), range(1, 3)
with conftest.own_domain() as number:
    print(number, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def two_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, 'LOCKS', tmp_path / 'locks')
    monkeypatch.setattr(conftest, 'DOMAINS', range(1, 3))


def test_no_domain_is_held_twice() -> None:
    with own_domain() as first:
        with own_domain() as second:
            assert {first, second} == {1, 2}
            with pytest.raises(AssertionError, match='all ROS domains'), own_domain(0.0):
                pass
        with own_domain() as again:
            assert again == second


@pytest.mark.slow
def test_another_process_has_another_domain_until_it_ends(tmp_path: Path) -> None:
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(
            [sys.executable, '-c', HOLDER, str(Path(__file__).parent), str(tmp_path / 'locks')],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        held = int(process.stdout.readline())
        mine = stack.enter_context(own_domain())
        assert {held, mine} == {1, 2}
        with pytest.raises(AssertionError, match='all ROS domains'), own_domain(0.0):
            pass
        # Nothing has to be cleared away, however a run ends.
        process.kill()
        process.wait()
        with own_domain(60.0) as number:
            assert number == held
