# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command ``vts``. Everything heavy is imported inside the commands, so that help is fast."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vts_ros import __version__
from vts_ros.cli.bench import app as bench_app
from vts_ros.cli.compile import app as compile_app
from vts_ros.cli.drives import app as drives_app
from vts_ros.cli.evaluate import app as eval_app
from vts_ros.cli.train import app as train_app

app = typer.Typer(
    name='vts', no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    rich_markup_mode='rich', context_settings={'help_option_names': ['-h', '--help']},
    epilog='First steps: [bold]vts render drive[/bold] makes a drive with hazards, '
           '[bold]vts annotate --bag drive[/bold] explains it. Any rosbag2 bag with a camera '
           'will do.')
# In the order in which help shows them; those without a name add their commands one by one.
app.add_typer(drives_app)
app.add_typer(compile_app)
app.add_typer(eval_app, name='eval')
app.add_typer(bench_app, name='bench')
app.add_typer(train_app, name='train')


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f'vts_ros {__version__}')
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[bool, typer.Option(
        '--version', callback=_show_version, is_eager=True, help='Show the version.')] = False,
    _debug: Annotated[bool, typer.Option(
        '--debug', help='Show the traceback of an error.')] = False,
) -> None:
    """Explain the risks of a drive with a multimodal language model that sees fewer tokens."""


def main() -> int:
    """Run the command line; errors are one line on stderr and exit code 1."""
    try:
        app()
    except Exception as error:
        if '--debug' in sys.argv:
            raise
        typer.echo(f'vts: {_explain(error)}', err=True)
        return 1
    return 0


def _explain(error: Exception) -> str:
    """Return an error as one line; a surprise also says how to see where it came from."""
    message = ' '.join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        message = f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    if type(error).__module__.startswith('vts_ros') or isinstance(error, (OSError, ValueError)):
        return message
    return f'{type(error).__name__}: {message} (vts --debug shows where)'
