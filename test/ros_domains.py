# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
ROS domains for tests that nobody else on this machine is in.

Workers of one run, several runs and whoever uses ROS beside them: each has domains of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import re
import time

#: Domain ids above 101 collide with the ephemeral ports of Linux.
DOMAINS = range(1, 102)
#: Every process on this machine that runs tests holds the files of its domains here. Not in
#: TMPDIR, which two runs need not have in common.
LOCKS = Path('/tmp/vts_test_domains')
#: How long to wait for a domain while other runs hold all of them.
PATIENCE_SEC = 600.0
#: Where participants have their ports.
SHARED_MEMORY = Path('/dev/shm')
#: Of DDS: the port of domain 0, and the ports of every domain.
FIRST_PORT, PORTS = 7400, 250
_PORT_FILE = re.compile(r'(?:sem\.)?fast(?:rtps|dds)_port(\d+)(_el|_sl|_mutex)?')


def _lock_file(number: int) -> int:
    path = LOCKS / f'{number}.lock'
    try:
        # That of another user can be read, which is enough for a lock, but not made again.
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)


def _locked(file: int) -> bool:
    """Lock an open file; return whether that was possible."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(lock: Path) -> bool:
    """Return whether a participant holds the lock of its port."""
    try:
        file = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _locked(file)
    finally:
        os.close(file)


def left_alone(domain: int) -> bool:
    """
    Return whether nobody is in a domain; then also clear away what was killed there.

    Fast DDS keeps the ports of a participant in shared memory. One whose owner was killed while
    it was being made stays empty, and the next that opens it waits for ever inside of C++, with
    the lock of Python held: when a node begins, and when it ends and says so to the others.
    """
    ports = range(FIRST_PORT + PORTS * domain, FIRST_PORT + PORTS * (domain + 1))
    files = [file for file in SHARED_MEMORY.glob('*_port*')
             if (found := _PORT_FILE.fullmatch(file.name)) and int(found[1]) in ports]
    try:
        if any(_is_alive(file) for file in files if file.name.endswith(('_el', '_sl'))):
            return False
        for file in files:
            file.unlink(missing_ok=True)
    except PermissionError:
        return False  # those of another user
    return True


@contextmanager
def own_domain(patience_sec: float = PATIENCE_SEC) -> Iterator[int]:
    """
    Hold a domain id that nobody else on this machine holds, waiting while all are held.

    The lock is that of an open file: it ends with the process, however that ends. Processes that
    are started do not inherit the file; those that outlive the test keep others away by being
    there.
    """
    LOCKS.mkdir(mode=0o777, exist_ok=True)
    if LOCKS.stat().st_uid == os.getuid():
        LOCKS.chmod(0o1777)  # other users of the machine take part, whatever the umask
    deadline = time.monotonic() + patience_sec
    while True:
        for number in DOMAINS:
            file = _lock_file(number)
            try:
                if _locked(file) and left_alone(number):
                    yield number
                    return
            finally:
                os.close(file)
        assert time.monotonic() < deadline, 'all ROS domains are held by other runs of the tests'
        time.sleep(0.5)
