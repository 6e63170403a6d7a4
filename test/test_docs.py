# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""README and docs: links lead somewhere, programs in them run, nothing is too long."""

from __future__ import annotations

from pathlib import Path
import re

from conftest import ROOT
import pytest

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


@pytest.mark.timeout(300)
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
