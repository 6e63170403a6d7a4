# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every command in README and docs is one that the project understands as it stands there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
import re
from runpy import run_path
import shlex
from typing import NamedTuple

from conftest import ROOT
import pytest
from test_docs import PAGES
from test_launch_files import DeclareLaunchArgument, packages, player  # noqa: F401

#: Words of a shell before a command, and what joins two of them.
_BEFORE = re.compile(r'^(?:sudo|[A-Z][A-Z0-9_]*=\S*)$')
_JOINED = ('&&', '||', ';', '|')


class Command(NamedTuple):
    """A command of a page, without its comment."""

    page: str
    words: list[str]

    @property
    def text(self) -> str:
        """Return it as it stands there, about."""
        return f'{self.page}: {" ".join(self.words)}'


def _blocks(page: Path) -> Iterator[str]:
    """Yield the lines of a page that are to be typed."""
    text = page.read_text()
    # Blocks of another language are fenced.
    text = re.sub(r'```.*?```', '', text, flags=re.S).replace('\\\n', ' ')
    before = ''
    for line in text.splitlines():
        # A block follows an empty line; a paragraph of a list is indented, too.
        if line.startswith('    ') and (not before.strip() or before.startswith('    ')):
            yield line.strip()
            before = line
        else:
            before = '' if not line.strip() else '-'


def _commands() -> Iterator[Command]:
    for page in PAGES:
        for line in _blocks(page):
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue
            part: list[str] = []
            for word in [*words, ';']:
                if word in _JOINED:
                    while part and _BEFORE.match(part[0]):
                        part = part[1:]
                    if part:
                        yield Command(page.name, part)
                    part = []
                else:
                    part.append(word.removesuffix(';'))


COMMANDS = list(_commands())
VTS = [command for command in COMMANDS if command.words[0].endswith('vts')]
ROS2 = [command for command in COMMANDS if command.words[0] == 'ros2']


def _understand(words: list[str]) -> None:
    """Raise what the command line raises, but for files that are not here."""
    from all_commands import COMMANDS

    command = COMMANDS
    # More of the same stands for itself.
    words = [word for word in words if word != '...']
    while words and words[0] in getattr(command, 'commands', {}):
        command = command.commands[words.pop(0)]
    if hasattr(command, 'commands') and words and not words[0].startswith('-'):
        raise ValueError(f'no command {words[0]}')
    try:
        command.make_context('vts', words)
    except Exception as error:
        if 'does not exist' not in str(getattr(error, 'message', error)):
            raise


@pytest.mark.parametrize('command', VTS, ids=lambda command: command.text)
def test_commands_of_vts_are_understood(command: Command) -> None:
    _understand(command.words[1:])


def test_a_command_that_is_wrong_is_noticed() -> None:
    """Among them a number that is none, and an argument too many."""
    assert len(VTS) > 40
    for wrong in ('annotat --bag x', 'annotate --bags x', 'annotate --bag x --every often',
                  'fleet find', 'models now', 'eval sceness'):
        with pytest.raises(Exception, match=r'.'):
            _understand(wrong.split())


def _check_launch(words: list[str]) -> None:
    if words[0].endswith('.launch.py'):
        path, arguments = ROOT / words[0], words[1:]
    else:
        package, file, *arguments = words
        assert package == 'vts_ros'
        path = ROOT / 'launch' / file
    actions = run_path(str(path))['generate_launch_description']().actions
    declared = {action.name for action in actions if isinstance(action, DeclareLaunchArgument)}
    for argument in arguments:
        name, separator, value = argument.partition(':=')
        assert (separator, bool(value)) == (':=', True)
        assert name in declared, name


def _check_run(words: list[str]) -> None:
    from vts_ros.nodes.vts_parameters import TABLE

    package, executable, *arguments = words
    assert package == 'vts_ros'
    assert f"'{executable} = " in (ROOT / 'setup.py').read_text()
    if executable == 'vts':
        if arguments:
            _understand(arguments)
        return
    names = {spec.name for spec in TABLE} | {'use_sim_time'}
    for flag, value in pairwise(arguments):
        if flag == '-p':
            assert value.partition(':=')[0] in names, value


def _check_topic(words: list[str]) -> None:
    """Topics are those of docs/ros.md, which another test compares with the node."""
    known = (ROOT / 'docs/ros.md').read_text()
    for word in words:
        if word.startswith('/vts_'):
            node, name = word[1:].split('/', 1)
            assert f'`~/{name}`' in known or f'`{node}/{name}`' in known, word
        elif re.fullmatch(r'\w+/(msg|srv)/\w+', word):
            package, kind, name = word.split('/')
            assert hasattr(import_module(f'{package}.{kind}'), name), word


def _check_parameter(words: list[str]) -> None:
    from vts_ros.nodes.vts_parameters import TABLE

    live = {spec.name for spec in TABLE if spec.change == 'live'}
    verb, node, name, *_ = words
    assert (verb, node) == ('set', '/vts_node')
    assert name in live, name


@pytest.mark.usefixtures('packages')
@pytest.mark.parametrize('command', ROS2, ids=lambda command: command.text)
def test_commands_of_ros2_name_what_is_there(command: Command) -> None:
    pytest.importorskip('rclpy')
    kind, *words = command.words[1:]
    checks = {'launch': _check_launch, 'run': _check_run, 'topic': _check_topic,
              'service': _check_topic, 'param': _check_parameter}
    if kind in checks:
        checks[kind](words)
    else:
        assert kind in ('bag', 'security', 'lifecycle', 'pkg', 'interface', 'action')


def test_what_is_made_and_installed_is_there() -> None:
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.M))
    extras = set(re.findall(r"^        '(\w+)': ", (ROOT / 'setup.py').read_text(), re.M))
    for command in COMMANDS:
        program, *words = command.words
        if program == 'make':
            assert set(words) <= targets, command.text
        elif program.endswith('pip'):
            for word in words:
                for name in re.findall(r'\[([\w,]+)\]', word):
                    assert set(name.split(',')) <= extras, command.text
