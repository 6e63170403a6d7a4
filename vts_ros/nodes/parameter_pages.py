# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The parameter file and the page about the parameters, from the one table that declares them.

``make parameters`` writes both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import textwrap

from vts_ros.nodes.parameter_table import OVERLAY_TABLE, Spec
from vts_ros.nodes.vts_parameters import TABLE
from vts_ros.pipeline.settings import SETTINGS
from vts_ros.tools.cli.setting_options import option_names

#: When a change takes effect, in the words of the page.
WHEN = {'live': 'live', 'unconfigured': 'configure', 'never': 'start'}
FILE, PAGE = Path('config/vts.yaml'), Path('docs/parameters.md')


def parameter_file() -> str:
    """Return config/vts.yaml."""
    lines = [
        '# Made by `make parameters`; the defaults of both nodes, to be copied and changed.',
        '# live: may change while the node runs; configure: read on configure; start: read at '
        'start.']
    for node, table in (('vts_node', TABLE), ('vts_overlay', OVERLAY_TABLE)):
        lines += [f'/**/{node}:', '  ros__parameters:', *_yaml(table)]
    return '\n'.join(lines) + '\n'


def _yaml(table: Sequence[Spec]) -> Iterator[str]:
    group = ''
    # Those without a group first: YAML cannot come back to a group.
    for spec in sorted(table, key=lambda spec: (spec.name.rpartition('.')[0] != '', _rank(
            spec, table))):
        prefix, _, name = spec.name.rpartition('.')
        if prefix != group:
            group = prefix
            yield f'    {prefix}:'
        indent = '      ' if prefix else '    '
        yield from textwrap.wrap(_describe(spec), 97, initial_indent=f'{indent}# ',
                                 subsequent_indent=f'{indent}# ')
        yield f'{indent}{name}: {json.dumps(spec.default)}'


def _rank(spec: Spec, table: Sequence[Spec]) -> int:
    """Return the place of the group of a parameter in the table."""
    group = spec.name.rpartition('.')[0]
    return next(place for place, other in enumerate(table)
                if other.name.rpartition('.')[0] == group)


def _describe(spec: Spec) -> str:
    return f'{WHEN[spec.change]}: {spec.description}{_limits(spec)}'


def _limits(spec: Spec) -> str:
    if spec.choices:
        return f' ({", ".join(spec.choices)})'
    if spec.span:
        return f' ({spec.span[0]:g} to {spec.span[1]:g})'
    return ''


def _code(text: str) -> str:
    return f'`{text}`' if text else ''


def parameter_page() -> str:
    """Return docs/parameters.md."""
    options = {setting.name: option_names(setting)[0] for setting in SETTINGS}
    rows = [f'| `{spec.name}` | `{json.dumps(spec.default)}` | {WHEN[spec.change]} | '
            f'{_code(options.get(spec.name, ""))} | {spec.description}{_limits(spec)} |'
            for spec in TABLE]
    overlay = [f'| `{spec.name}` | `{json.dumps(spec.default)}` | {WHEN[spec.change]} | '
               f'{spec.description}{_limits(spec)} |' for spec in OVERLAY_TABLE]
    head = ['| parameter | default | read | meaning |', '|---|---|---|---|']
    return '\n'.join([
        '# Parameters', '',
        'Made by `make parameters` from the table that declares them; do not edit. '
        '[config/vts.yaml](../config/vts.yaml)', 'has the same with the defaults.', '',
        '- *live*: may change while the node runs (`ros2 param set`).',
        '- *configure*: read on configure, refused while the node is configured.',
        '- *start*: read at start (command line, launch file, parameter file), refused '
        'afterwards.', '',
        'What decides where pictures and keys go (`vlm.backend`, `vlm.url`, '
        '`vlm.local_files_only`, `vlm.prompts`, `pipeline.task`) is', 'read at start only: nobody '
        'on the network can change it. Integers are accepted where a float is wanted.',
        'A name that does not exist causes a warning that suggests the nearest one.', '',
        'Options are those of `vts annotate`, with the same defaults and limits.', '',
        '## vts_node', '', '| parameter | default | read | option | meaning |',
        '|---|---|---|---|---|', *rows, '',
        '`qos_overrides.TOPIC.subscription.reliability`, `.depth` and `.history` of every camera '
        'topic are parameters as well.', '',
        '## vts_overlay', '', *head, *overlay]) + '\n'


def main() -> None:
    """Write both files below the working directory."""
    for path, text in ((FILE, parameter_file()), (PAGE, parameter_page())):
        path.write_text(text, encoding='utf-8')
        print(f'wrote {path}')


if __name__ == '__main__':
    main()
