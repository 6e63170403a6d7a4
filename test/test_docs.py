# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""README and docs: links lead somewhere, programs in them run, nothing is too long."""

from __future__ import annotations

import json
from pathlib import Path
import re

from conftest import ROOT
import pytest

from vts_ros.nodes import vts_node
from vts_ros.pipeline.report import SceneReport

PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md')]
PAGES += [*sorted((ROOT / 'docs').glob('*.md')), ROOT / 'models' / 'README.md']
_LINK = re.compile(r'\]\(([^)#\s]+)(#[^)]*)?\)')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _ in _LINK.findall(page.read_text()):
        if '://' not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_is_a_page() -> None:
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


def test_every_page_is_in_the_index() -> None:
    readme = (ROOT / 'README.md').read_text()
    assert not [page.name for page in (ROOT / 'docs').glob('*.md')
                if f'docs/{page.name}' not in readme]


def test_python_api_runs() -> None:
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/python_api.md').read_text(), re.S)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)


def test_paths_of_the_package_exist() -> None:
    """What is named as a file of the project is there."""
    for page in PAGES:
        for path in re.findall(r'`((?:vts_ros|test|config|launch|models)/[\w/.]+\.\w+)`',
                               page.read_text()):
            assert (ROOT / path).exists(), f'{page.name}: {path}'


def test_the_report_of_the_docs_can_be_read_and_is_complete() -> None:
    block, = re.findall(r'```json\n(.*?)```', (ROOT / 'docs/ros.md').read_text(), re.S)
    shown = json.loads(block)
    report = SceneReport.from_dict(shown)
    assert report.to_dict().keys() == shown.keys()
    assert report.to_dict()['tokens'].keys() == shown['tokens'].keys()
    assert report.tokens_total == shown['tokens']['total']


def test_every_topic_and_service_of_the_node_is_described() -> None:
    page = (ROOT / 'docs/ros.md').read_text()
    nodes = Path(vts_node.__file__).parent
    names = {name for path in ('vts_node.py', 'outputs.py')
             for name in re.findall(r"'(~/[a-z_]+)'", (nodes / path).read_text())}
    assert len(names) >= 9
    assert not [name for name in names if f'`{name}`' not in page]


def test_every_option_in_the_docs_exists() -> None:
    """What follows `vts COMMAND` in a block or a line of code is an option of that command."""
    from all_commands import COMMANDS

    commands = COMMANDS.commands
    seen = 0
    for page in PAGES:
        for text in re.findall(r'`[^`]+`|^    .*$', page.read_text(), re.M):
            line = re.search(r'\bvts ([a-z]+)(?: ([a-z]+))?(.*)', text)
            if line is None or line[1] not in commands:
                continue
            command = commands[line[1]]
            command = getattr(command, 'commands', {}).get(line[2], command)
            known = {name for parameter in command.params
                     for name in (*parameter.opts, *parameter.secondary_opts)} | {'--help'}
            for option in re.findall(r'(?<=\s)--[a-z][a-z-]*', line[3]):
                seen += 1
                assert option in known, f'{page.name}: {text}'
    assert seen > 20
