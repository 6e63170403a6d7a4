# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The executables as somebody starts them for the first time, or wrongly."""

from __future__ import annotations

import json
from pathlib import Path
import re
import subprocess
import sys

import pytest

pytest.importorskip('rclpy')

from bag_maker import COMPRESSED_TOPIC, drive
from conftest import ROOT, Ros
import yaml

from vts_ros.nodes.parameter_files import unused_files
from vts_ros.nodes.parameter_table import OVERLAY_TABLE, Spec
from vts_ros.nodes.program_help import HELP, own_arguments
from vts_ros.nodes.vts_parameters import problem_of_address, TABLE

#: User and password are made up, and must not come out anywhere.
SECRET = 'hunter2'


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an executable as ``ros2 run`` does."""
    code = (f'import sys; from vts_ros.nodes.executables import {program}; '
            f'sys.argv[0] = {program!r}; {program}()')
    return subprocess.run([sys.executable, '-c', code, *arguments], check=False,
                          capture_output=True, text=True, timeout=500, cwd=ROOT)


@pytest.mark.parametrize('program', ['vts_node', 'vts_overlay', 'vts_replay'])
@pytest.mark.parametrize('arguments', [['--help'], ['--ros-args', '--', '--help']])
def test_help_is_shown_and_nothing_is_started(program: str, arguments: list[str]) -> None:
    done = run(program, *arguments)
    assert (done.returncode, done.stderr) == (0, '')
    assert re.search(f'usage: .*{program}', done.stdout, re.IGNORECASE)
    assert 'Example' in done.stdout
    assert 'ros2' in done.stdout


@pytest.mark.parametrize('program', HELP)
def test_help_needs_nothing_heavy(program: str) -> None:
    code = (f'import sys; sys.argv[1:] = ["-h"]; from vts_ros.nodes.executables import {program}\n'
            f'try: {program}()\nfinally: print(*sys.modules)')
    loaded = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True,
                            text=True, cwd=ROOT).stdout.split()
    assert not {'rclpy', 'torch', 'numpy', 'cv2'} & set(loaded)


@pytest.mark.parametrize(('program', 'table'), [('vts_node', TABLE),
                                                ('vts_overlay', OVERLAY_TABLE)])
def test_help_names_parameters_as_they_are(program: str, table: tuple[Spec, ...]) -> None:
    defaults = {spec.name: spec.default for spec in table}
    rows = re.findall(r'^  ([a-z][\w.]+) {2,}(\S+) {2,}\S', HELP[program], re.MULTILINE)
    assert len(rows) >= 3
    assert {name: yaml.safe_load(value) for name, value in rows} == {
        name: defaults[name] for name, _ in rows}
    examples = re.findall(r"-p '?([a-z][\w.]+):=", HELP[program])
    assert examples
    assert set(examples) <= set(defaults)


def test_arguments_of_ros_are_not_those_of_the_program() -> None:
    assert own_arguments(['a', '--ros-args', '-p', 'b:=c', '--', 'd', '--ros-args', '-h']) == [
        'a', 'd']


@pytest.mark.parametrize('program', HELP)
def test_what_would_have_no_effect_is_refused(program: str) -> None:
    done = run(program, 'cameras:=[front]', '--ros-args', '-p', 'image_transport:=raw')
    assert done.returncode == 1
    line, = done.stderr.splitlines()
    assert line == (f"{program}: 'cameras:=[front]' is not understood; parameters are given as "
                    f'--ros-args -p NAME:=VALUE, see {program} --help')


@pytest.mark.slow
def test_credentials_in_the_address_end_the_start_and_are_not_repeated(own_ros: Ros) -> None:
    process = own_ros.start('vts_ros.nodes.vts_node', '--ros-args', '-p',
                            f'vlm.url:=http://user:{SECRET}@server:8000/v1')
    assert process.wait(500.0) == 1
    line, = process.output.splitlines()
    assert line.startswith('vts_node: vlm.url holds a user')
    assert 'put the key into the environment variable OPENAI_API_KEY' in line
    assert SECRET not in line


@pytest.mark.parametrize('url', [
    f'http://user:{SECRET}@server/v1', f'http://{SECRET}@server/v1', f'//:{SECRET}@server',
    f'http://server/v1?api_key={SECRET}', f'user:{SECRET}@server/v1', f'http://u:{SECRET}@[/'])
def test_addresses_with_credentials_are_refused_without_a_quotation(url: str) -> None:
    problem = problem_of_address(url)
    assert problem
    assert SECRET not in problem
    assert '\n' not in problem


@pytest.mark.parametrize('url', ['http://localhost:8000/v1', 'https://[::1]:8000/v1', 'x'])
def test_addresses_without_credentials_are_taken(url: str) -> None:
    assert problem_of_address(url) == ''


def test_inputs_of_a_drive_are_printed_and_nothing_is_played(tmp_path: Path) -> None:
    bag = drive(tmp_path / 'drive', 2)
    done = run('vts_replay', str(bag), '--show-inputs')
    assert (done.returncode, done.stderr) == (0, '')
    assert json.loads(done.stdout) == {
        'image_transport': 'compressed', 'cameras': ['camera_front'],
        'remaps': {'camera_front/image_raw/compressed': COMPRESSED_TOPIC}}
    refused = run('vts_replay', str(bag), '--show-inputs', '--image-transport', 'raw')
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(('names', 'node', 'is_used'), [
    ('vts_node', '/vts_node', True), ('/vts_node', '/vts_node', True),
    ('/**', '/car1/vts_node', True), ('/**/vts_node', '/vts_node', True),
    ('/*/vts_node', '/car1/vts_node', True), ('car1: {vts_node', '/car1/vts_node', True),
    ('vts', '/vts_node', False), ('vts_node', '/car1/vts_node', False),
    ('/*/vts_node', '/vts_node', False), ('/car2/**', '/car1/vts_node', False)])
def test_a_parameter_file_of_another_node_is_told(
        tmp_path: Path, names: str, node: str, is_used: bool) -> None:
    """ROS leaves it out without a word."""
    file = tmp_path / 'my.yaml'
    file.write_text(f'{names}: {{ros__parameters: {{a: 1}}}}' + '}' * names.count('{'))
    warnings = unused_files(['--ros-args', '--params-file', str(file)], node)
    assert len(warnings) == (not is_used)
    for warning in warnings:
        assert warning.startswith(f'{file} has nothing for {node}, only for /')
        assert warning.endswith(f'; {node} or /** is expected')


def test_the_node_warns_of_a_parameter_file_of_another_node(own_ros: Ros, tmp_path: Path) -> None:
    file = tmp_path / 'my.yaml'
    file.write_text('vts: {ros__parameters: {buffer: {frames: 3}}}')
    process = own_ros.start('vts_ros.nodes.vts_node', '--ros-args', '-p', 'autostart:=false',
                            '--params-file', str(file))
    process.wait_for_output(f'{file} has nothing for /vts_node, only for /vts;')
