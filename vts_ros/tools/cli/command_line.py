# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The command line ``vts``, made of registered commands.

A command is an entry point of the group ``vts_ros.commands``: its name, and a Typer app with one
command or a group of them; ``fleet.distil`` is a command of the group ``fleet``. So `lab` and
`nodes` add theirs without being imported here, and other packages can do the same. Everything
heavy is imported inside the commands, so that help is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dis import opname
from importlib.metadata import distributions, EntryPoint
import inspect
import sys
from traceback import walk_tb
from typing import Annotated, Any

import typer

from vts_ros import __version__
from vts_ros.errors import VtsError

GROUP = 'vts_ros.commands'
#: In the order in which help shows them; others follow.
_ORDER = ('annotate', 'live', 'replay', 'fleet', 'advise', 'render', 'compile', 'models', 'eval',
          'bench', 'train')


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f'vts_ros {__version__}')
        raise typer.Exit


def _options(
    _version: Annotated[bool, typer.Option(
        '--version', callback=_show_version, is_eager=True, help='Show the version.')] = False,
    _debug: Annotated[bool, typer.Option(
        '--debug', help='Show the traceback of an error.')] = False,
) -> None:
    """Explain the risks of a drive with a multimodal language model that sees fewer tokens."""


def command_line(arguments: Sequence[str] = ()) -> typer.Typer:
    """
    Return the command line.

    Parameters
    ----------
    arguments
        What it is going to be called with: of the commands it then has the one that they name,
        as all take twice as long. It has all if they name none.

    """
    app = typer.Typer(
        name='vts', no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
        rich_markup_mode='rich', context_settings={'help_option_names': ['-h', '--help']},
        epilog='First steps: [bold]vts render drive[/bold] makes a drive with hazards, '
               '[bold]vts annotate --bag drive[/bold] explains it. Any rosbag2 bag with a camera '
               'will do.')
    app.callback()(_options)
    commands = _commands()
    named = _first_word(arguments)
    _add_commands(app, {name: point for name, point in commands.items()
                        if named not in commands or name.partition('.')[0] == named})
    return app


def _first_word(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if not word.startswith('-')), '')


def _commands() -> dict[str, EntryPoint]:
    """Return the commands by name, in the order of help."""
    # Of all distributions: in a checkout, what an older build has left behind may hide the newer.
    found = {point.name: point for distribution in distributions()
             for point in distribution.entry_points if point.group == GROUP}
    # A group comes before what is added to it.
    known = [name for name in _ORDER if name in found]
    return {name: found[name] for name in [*known, *sorted(found.keys() - set(known))]}


def _add_commands(app: typer.Typer, commands: Mapping[str, EntryPoint]) -> None:
    groups = {'': app}
    for name, point in commands.items():
        of, _, own = name.rpartition('.')
        if of not in groups:
            continue
        try:
            command: typer.Typer = point.load()
        except ImportError as error:
            groups[of].command(own, help=f'Not installed: {error}.')(_missing(point, error))
            continue
        _unwrap_help(command)
        # A single command stands by itself, several are a group.
        is_single = len(command.registered_commands) == 1 and not command.registered_callback
        if not is_single:
            groups[name] = command
        groups[of].add_typer(command, name=None if is_single else name)


def _unwrap_help(command: typer.Typer) -> None:
    """Join the lines of each paragraph of help: rich keeps their ends, and wraps them again."""
    callback = command.registered_callback
    infos: list[Any] = [*command.registered_commands, *([callback] if callback else [])]
    for info in infos:
        if info.callback is not None and (text := inspect.getdoc(info.callback)):
            info.help = '\n\n'.join(
                ' '.join(paragraph.split()) for paragraph in text.split('\n\n'))
    for group in command.registered_groups:
        if group.typer_instance is not None:
            _unwrap_help(group.typer_instance)


def _missing(point: EntryPoint, error: ImportError) -> Callable[[], None]:
    def explain() -> None:
        raise VtsError(_how_to_install(point, error))

    return explain


def _how_to_install(point: EntryPoint | None, error: ImportError) -> str:
    extras = ','.join(point.extras) if point else ''
    return (f'{error.name or error} is missing'
            + (f": pip install 'vts_ros[{extras}]'" if extras else ''))


def run(command: typer.Typer | None = None) -> int:
    """
    Run the command line, or one command of it; return the exit code.

    Errors are one line on stderr and exit code 1.
    """
    try:
        if command is None and not _commands():
            raise VtsError('no commands are registered: the installation is older than the code; '
                           'run pip install -e . again')
        (command or command_line(sys.argv[1:]))()
    except Exception as error:
        if '--debug' in sys.argv:
            raise
        typer.echo(f'vts: {_explain(error)}', err=True)
        return 1
    return 0


def _explain(error: Exception) -> str:
    """Return an error as one line; a surprise also says how to see where it came from."""
    message = ' '.join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        return _how_to_install(_commands().get(_first_word(sys.argv[1:])), error)
    if isinstance(error, OSError) and error.strerror:
        message = f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    if type(error).__module__.startswith('vts_ros') or isinstance(error, OSError) \
            or _is_raised_here(error):
        return message
    return f'{type(error).__name__}: {message} (vts --debug shows where)'


def _is_raised_here(error: Exception) -> bool:
    """Return whether a `raise` of this package made the error: then its message is for users."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    instruction = frame.f_code.co_code[frame.f_lasti]
    return frame.f_globals['__name__'].startswith('vts_ros.') \
        and opname[instruction] == 'RAISE_VARARGS'
