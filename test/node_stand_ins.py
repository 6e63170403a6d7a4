# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What takes the place of the neighbours of one part of the node, where only that is tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
import threading
from types import SimpleNamespace
from typing import Any

from vts_ros.nodes.current_pictures import UnansweredError
from vts_ros.nodes.diagnostics import CameraHealth
from vts_ros.nodes.jobs import INTERRUPTED
from vts_ros.nodes.worker import Stop

#: A logger that keeps nothing.
SILENT_LOG: Any = SimpleNamespace(
    info=lambda *_, **__: None, warning=lambda *_, **__: None, error=lambda *_, **__: None)


@dataclass
class RecordedOutputs:
    """Keeps what is said instead of publishing it."""

    replies: list[tuple[int, str, str, str]] = field(default_factory=list)
    parts: list[tuple[int, str]] = field(default_factory=list)
    retracted: list[str] = field(default_factory=list)
    listeners: int = 0
    lock: Any = field(default_factory=threading.RLock)

    def reply(self, number: int, question: str, answer: str, error: str = '') -> None:
        """Keep a reply."""
        self.replies.append((number, question, answer, error))

    def reply_part(self, number: int, text: str) -> None:
        """Keep a piece of an answer."""
        self.parts.append((number, text))

    def retract(self, reason: str) -> None:
        """Keep a reason."""
        self.retracted.append(reason)

    def is_heard(self) -> bool:
        """Return whether there is a listener."""
        return self.listeners > 0


@dataclass
class RecordedJobs:
    """Does jobs that hold nobody up, and keeps which they were."""

    done: list[str] = field(default_factory=list)
    pipeline: Any = None
    go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Let jobs go on until somebody clears that."""
        self.go_on.set()

    def _do(self, name: str, stop: Stop) -> tuple[bool, str]:
        assert self.go_on.wait(500.0)
        self.done.append(name)
        return True, name

    def attempt(self, job: Callable[[Stop], str], stop: Stop) -> tuple[bool, str]:
        """Do a job; return whether it worked, and its text or what was in the way."""
        try:
            return True, job(stop)
        except UnansweredError as reason:
            return False, str(reason)

    def ask(self, question: str, stop: Stop, on_text: Callable[[str], object]) -> str:
        """Answer with the question, as long as somebody wants to know."""
        text = self._do(f'answer to {question}', stop)[1]
        if stop():
            raise UnansweredError(INTERRUPTED)
        on_text(text)
        return text

    def describe(self, is_full: bool, stop: Stop) -> tuple[bool, str]:
        """Describe nothing."""
        return self._do('describe full' if is_full else 'describe', stop)

    def read(self, stop: Stop) -> None:
        """Read nothing."""
        self._do('read', stop)

    def clear(self, pipeline: Any) -> None:
        """Forget nothing."""
        self._do('clear', lambda: False)


def untyped(value: object) -> Any:
    """Return a stand-in as what stands for everything."""
    return value


def camera_stand_in(name: str = 'front') -> Any:
    """Return a camera that has no topic, only its state of health."""
    return SimpleNamespace(health=CameraHealth(f'/{name}/image_raw', name))
