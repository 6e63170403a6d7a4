# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Commands that measure quality: ``eval``."""

from __future__ import annotations

import typer

from vts_ros.lab.cli import (
    budget_command,
    calibrate_command,
    cameras_command,
    datasets_command,
    drives_command,
    frames_command,
    guard_command,
    precision_command,
    proposal_command,
    quantized_command,
    range_command,
    recordings_command,
    redundancy_command,
    scenes_command,
    scores_command,
    server_command,
    signals_command,
    sound_command,
    task_command,
    twins_command,
    vectors_command,
)

app = typer.Typer(no_args_is_help=True, help='Measure quality against a known truth.')
for command in (
        scenes_command, datasets_command, calibrate_command, guard_command, proposal_command,
        budget_command, cameras_command, drives_command, frames_command, precision_command,
        quantized_command, range_command, recordings_command, redundancy_command, scores_command,
        server_command, signals_command, sound_command, task_command, twins_command,
        vectors_command):
    app.add_typer(command.app)
