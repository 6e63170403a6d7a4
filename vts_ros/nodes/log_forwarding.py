# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Forwards the log of the package, which knows no ROS, to the log of a node."""

from __future__ import annotations

import logging

from rclpy.impl.rcutils_logger import RcutilsLogger


class _Forward(logging.Handler):
    """Passes log messages of Python on to the log of a node."""

    def __init__(self, node_logger: RcutilsLogger) -> None:
        super().__init__()
        self._node = node_logger

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a message on; everything below a warning is information."""
        text = self.format(record)
        # One call each: rclpy tells the place of a call by its severity.
        if record.levelno >= logging.ERROR:
            self._node.error(text)
        elif record.levelno >= logging.WARNING:
            self._node.warning(text)
        else:
            self._node.info(text)


def forward_logs(node_logger: RcutilsLogger) -> None:
    """Forward log messages of the package (information and above) to a node, and nowhere else."""
    logger = logging.getLogger('vts_ros')
    logger.handlers = [_Forward(node_logger)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
