# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong, each in one line that says what to do. Everything derives from VtsError."""

from __future__ import annotations


class VtsError(Exception):
    """
    An error that was foreseen: its message says all there is to say, in one line.

    Attributes
    ----------
    component
        The part of the system that it belongs to, as diagnostics name it.

    """

    component = 'pipeline'


class FrameError(VtsError, ValueError):
    """A picture that cannot be used."""

    component = 'camera'


class EngineError(VtsError, RuntimeError):
    """An engine that cannot be made or run."""

    component = 'engine'

    @classmethod
    def of(cls, what: str, error: Exception) -> EngineError:
        """Return the first line of an error of the runtime, behind what was tried."""
        lines = str(error).splitlines() or [type(error).__name__]
        return cls(f'{what}: {lines[0]}')


class SparsifierError(VtsError, ValueError):
    """A window or a setting with which no tokens can be chosen."""

    component = 'sparsifier'


class VlmError(VtsError, RuntimeError):
    """A language model that cannot be loaded or used as asked."""

    component = 'vlm'


class ServerNotReady(VlmError):
    """A server that cannot be reached or does not answer yet: it may come."""


class PromptError(VtsError, ValueError):
    """A prompt file that cannot be used."""

    component = 'vlm'


class TaskError(VtsError, ValueError):
    """A folder of a task that cannot be used."""

    component = 'vlm'


class CalibrationError(VtsError, ValueError):
    """A calibration that cannot be used or made."""

    component = 'vlm'


class GuardError(VtsError, ValueError):
    """A guard that cannot be used or made."""

    component = 'vlm'


class GateError(VtsError, ValueError):
    """A gate that cannot be used."""


class SignalError(VtsError, ValueError):
    """A signal of the car that cannot be used."""

    component = 'signals'


class RangeError(VtsError, ValueError):
    """A range, a point cloud or a calibration that cannot be used."""

    component = 'range'


class BagError(VtsError):
    """A recording that cannot be read or written."""


class SoundError(VtsError, ValueError):
    """Sound that cannot be heard: a file, a format, a network."""

    component = 'sound'


class VideoError(VtsError):
    """A video that cannot be read."""

    component = 'camera'
