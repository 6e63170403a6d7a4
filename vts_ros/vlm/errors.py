# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with a language model."""


class VlmError(RuntimeError):
    """A model that cannot be loaded or used as asked; the message says why in one line."""
