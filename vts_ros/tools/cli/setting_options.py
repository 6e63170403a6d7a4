# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Options of a command that are made from the table of settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
from inspect import Parameter, signature
from typing import Annotated, Any, Literal

import typer

from vts_ros.pipeline.settings import Setting

#: Names of options that are not the last part of the name of the setting.
_NAMES = {'engine.backend': ('--engine',), 'engine.precision': ('--engine-precision',),
          'engine.threads': ('--engine-threads',), 'vlm.model': ('--model', '--vlm'),
          'signals.topics': ('--signal',), 'audio.budget': ('--audio-budget',),
          'audio.tell': ('--audio-tell',)}
#: Under what the settings of a group stand in the help.
_PANELS = {'buffer': 'Window', 'pipeline': 'Window', 'sparsify': 'Visual tokens',
           'engine': 'Proposal network', 'vlm': 'Language model',
           'signals': 'What the car says of itself', 'audio': 'Sound'}
_SERVED = {'vlm.backend', 'vlm.url', 'vlm.timeout_sec', 'vlm.retries', 'vlm.server_pruning',
           'vlm.server_family'}


def option_names(setting: Setting) -> tuple[str, ...]:
    """Return the names of the option for a setting, that which is shown first."""
    name = setting.name.rpartition('.')[2].replace('_', '-')
    return _NAMES.get(setting.name, (f'--{name}',))


def with_settings(settings: Sequence[Setting]) -> Callable[[Callable[..., None]],
                                                           Callable[..., None]]:
    """
    Give a command an option for each setting.

    It is called with their values in the argument ``settings``, a mapping by the names of the
    table, beside the options that it has itself.
    """
    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            values = {setting.name: given.pop(_argument(setting)) for setting in settings}
            command(settings=values, **given)

        own = signature(command, eval_str=True)
        # Typer makes the options of a command from its signature.
        run.__signature__ = own.replace(parameters=[  # type: ignore[attr-defined]
            *(parameter.replace(kind=Parameter.KEYWORD_ONLY)
              for parameter in own.parameters.values() if parameter.name != 'settings'),
            *map(_option, settings)])
        return run

    return decorate


def _argument(setting: Setting) -> str:
    return setting.name.replace('.', '_')


def _option(setting: Setting) -> Parameter:
    names = option_names(setting)
    group = setting.name.partition('.')[0]
    if isinstance(setting.default, bool):
        names = (f'{names[0]}/--no-{names[0][2:]}',)
    low, high = setting.span or (None, None)
    info = typer.Option(
        *names, help=f'{setting.description}.', min=low, max=high,
        show_default=setting.default != '',
        rich_help_panel='Language model on a server' if setting.name in _SERVED
        else _PANELS[group])
    return Parameter(_argument(setting), Parameter.KEYWORD_ONLY, default=setting.default,
                     annotation=Annotated[_kind(setting), info])


def _kind(setting: Setting) -> Any:
    if isinstance(setting.default, list):
        return list[str]
    return Literal[setting.choices] if setting.choices else type(setting.default)
