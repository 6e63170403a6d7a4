# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The log of the package, which knows no ROS, in the log of a node."""

from __future__ import annotations

import logging

from rclpy.impl.rcutils_logger import RcutilsLogger


class _Forward(logging.Handler):
    """Says in the log of a node what is said in that of Python."""

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
    """Say what the package logs, from information on, in the log of a node and nowhere else."""
    logger = logging.getLogger('vts_ros')
    logger.handlers = [_Forward(node_logger)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
