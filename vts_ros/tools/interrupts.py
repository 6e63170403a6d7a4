# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, where something must be done as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """
    Ctrl-C while results are made: it waits where something must be done as a whole.

    People press it twice when the first seems to do nothing. The second must not throw away what
    the first asked to be written.
    """

    def __init__(self) -> None:
        self._is_allowed = self._is_waiting = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        """Take signals over, where Python would raise them at once."""
        # Only the main thread may; others never get a KeyboardInterrupt.
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let an interrupt end what is done here, at once if one is waiting."""
        self._is_allowed = True
        try:
            if self._is_waiting:
                self._raise()
            yield
        finally:
            self._is_allowed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_waiting = True
        if self._is_allowed:
            self._raise()

    def _raise(self) -> None:
        self._is_allowed = self._is_waiting = False
        raise KeyboardInterrupt
