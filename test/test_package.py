# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The package builds with colcon and with pip, and brings along what it needs."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

from catkin_pkg.package import parse_package
from conftest import ROOT
import pytest

import vts_ros

EXECUTABLES = ('vts', 'vts_node', 'vts_overlay', 'vts_replay')
SHARED = ('package.xml', 'launch/vts.launch.py', 'launch/replay.launch.py',
          'launch/multi_camera.launch.py', 'config/vts.yaml', 'config/vts.rviz',
          'config/tasks/driving/prompts.yaml', 'config/fastdds.xml',
          'config/foxglove_layout.json', 'vts_interfaces/msg/SceneReport.msg',
          'models/proposal/frame.onnx')
MARKER = 'share/ament_index/resource_index/packages/vts_ros'

#: Parts of the package from the top down; a module imports its own part and lower ones. Those in
#: one line stand side by side and do not know each other.
LAYERS = (
    ('lab', 'vllm_plugin'),
    ('nodes', 'fleet'),
    ('tools',),
    ('pipeline',),
    ('sparsify', 'vlm', 'sound'),
    ('engines',),
    ('paths', 'rgb'),
    ('errors',),
)
#: What a car needs; the other parts come with extras.
OF_THE_CAR = ('nodes', 'pipeline', 'sparsify', 'vlm', 'sound', 'engines', 'paths', 'rgb',
              'errors')
#: Names under which distributions are imported, where they are others.
IMPORTED_AS = {'json-repair': 'json_repair', 'opencv-python-headless': 'cv2', 'pillow': 'PIL',
               'pyyaml': 'yaml', 'rosbags-image': 'rosbags'}
#: Imported where it is there: engines and servers, each by an extra of its own, what these bring
#: along, and what transformers brings.
OPTIONAL = {'av', 'onnxruntime', 'openai', 'httpx', 'llguidance', 'rclpy', 'typer', 'rich',
            'huggingface_hub', 'httpx2', 'peft', 'rosbags', 'vllm'}
ROS = re.compile(r'rclpy|cv_bridge|.*_(msgs|srvs|interfaces)|ament_.*')


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command with the tools of this environment first; return what it says."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ['PATH']))
    done = subprocess.run(list(map(str, command)), cwd=cwd, env={**os.environ, 'PATH': path},
                          text=True, capture_output=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sources: builds leave files beside them."""
    copy = tmp_path_factory.mktemp('workspace') / 'vts_ros'
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(
        '.*', 'build', 'install', 'log', 'out', '*.egg-info', '__pycache__'))
    return copy


def test_manifest_agrees_with_the_code() -> None:
    package = parse_package(str(ROOT / 'package.xml'))
    assert (package.name, package.version) == ('vts_ros', vts_ros.__version__)
    assert package.licenses == ['Apache-2.0']
    assert package.get_build_type() == 'ament_python'


@pytest.mark.slow
def test_colcon_builds_and_installs(checkout: Path) -> None:
    colcon = (sys.executable, '-m', 'colcon')
    workspace = checkout.parent
    assert run(*colcon, 'list', '--names-only', cwd=workspace).split() == ['vts_ros']
    run(*colcon, 'build', cwd=workspace)
    prefix = workspace / 'install' / 'vts_ros'
    for executable in EXECUTABLES:
        assert os.access(prefix / 'lib' / 'vts_ros' / executable, os.X_OK)
    for name in SHARED:
        assert (prefix / 'share' / 'vts_ros' / name).is_file(), name
    assert (prefix / MARKER).is_file()


@pytest.mark.slow
def test_colcon_finds_the_interfaces_by_the_line_of_the_docs(tmp_path: Path) -> None:
    """Without the link it does not; the build itself is that of test/interface_builder.py."""
    line = re.search(r'ln -s \S+ \S+(?= && python3 -m colcon build)',
                     (ROOT / 'docs' / 'ros.md').read_text())
    assert line is not None
    sources = tmp_path / 'src' / 'vts_ros'
    sources.mkdir(parents=True)
    for name in ('package.xml', 'setup.py', 'setup.cfg', 'pyproject.toml'):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, sources)
    shutil.copytree(ROOT / 'vts_interfaces', sources / 'vts_interfaces')
    colcon = (sys.executable, '-m', 'colcon', 'list', '--names-only')
    assert run(*colcon, cwd=tmp_path).split() == ['vts_ros']
    run(*line[0].split(), cwd=tmp_path)
    assert run(*colcon, cwd=tmp_path).split() == ['vts_interfaces', 'vts_ros']


@pytest.mark.slow
def test_pip_installs_executables_and_data(checkout: Path, tmp_path: Path) -> None:
    # Without --ignore-installed, pip would first remove the installation that runs this test.
    run(sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation',
        '--ignore-installed', '--prefix', tmp_path, '.', cwd=checkout)
    for executable in EXECUTABLES:
        assert os.access(tmp_path / 'bin' / executable, os.X_OK)
    for name in SHARED:
        assert (tmp_path / 'share' / 'vts_ros' / name).is_file(), name
    assert (tmp_path / MARKER).is_file()
    version('vts_ros')  # is still installed here, or this raises


@pytest.mark.parametrize('path', sorted((ROOT / 'launch').glob('*.launch.py')),
                         ids=lambda path: path.name)
def test_launch_files_describe_their_arguments(path: Path, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    compile(path.read_text(), path, 'exec')
    if not find_spec('launch_ros'):
        pytest.skip('compiled only: ros2 launch is not in this environment')
    from launch.launch_context import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    (tmp_path / MARKER).parent.mkdir(parents=True)
    (tmp_path / MARKER).touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    description = PythonLaunchDescriptionSource(str(path)).get_launch_description(LaunchContext())
    arguments = description.get_launch_arguments()
    assert arguments
    assert all(argument.description for argument in arguments)


def imports(path: Path) -> Iterator[str]:
    """Yield the full names of what a module imports, also inside functions and for types only."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            assert not node.level, f'{path} has a relative import'
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def modules() -> dict[Path, str]:
    """Return the part of the package that each module belongs to."""
    found = {path: path.relative_to(ROOT / 'vts_ros').with_suffix('').parts[0]
             for path in (ROOT / 'vts_ros').rglob('*.py')}
    return {path: part for path, part in found.items() if part != '__init__'}


def test_only_nodes_import_ros_and_imports_only_go_down() -> None:
    depth = {name: level for level, layer in enumerate(LAYERS) for name in layer}
    assert set(modules().values()) == set(depth)
    wrong = []
    for path, importer in modules().items():
        for name in imports(path):
            package, imported = f'{name}.'.split('.')[:2]
            is_own = package == 'vts_ros' and imported in depth and imported != importer
            if is_own and depth[importer] >= depth[imported]:
                wrong.append(f'{path}: {name}')
            if ROS.fullmatch(package) and importer != 'nodes':
                wrong.append(f'{path}: {name}')
    assert not wrong


def test_the_plugin_of_vllm_stands_alone() -> None:
    """It runs in the environment of a server, which has nothing that a car needs."""
    wrong = [f'{path}: {name}' for path, part in modules().items() for name in imports(path)
             if f'{name}.'.startswith('vllm.' if part != 'vllm_plugin' else 'vts_ros.')
             and not name.startswith('vts_ros.vllm_plugin')]
    assert not wrong


def test_nothing_needs_the_fleet_and_nothing_else_needs_ray() -> None:
    """It is an extra of its own, which its command alone brings in."""
    wrong = [f'{path}: {name}' for path, part in modules().items() if part != 'fleet'
             for name in imports(path)
             if f'{name}.'.startswith(('vts_ros.fleet.', 'ray.', 'duckdb.'))]
    assert not wrong
    setup = (ROOT / 'setup.py').read_text()
    listed = re.search(r'install_requires=\[(.*?)\]', setup, re.DOTALL)
    assert listed is not None
    assert not re.search('ray|duckdb|pyarrow', listed[1])


def test_no_two_files_have_the_same_name() -> None:
    names = Counter(path.name for path in (ROOT / 'vts_ros').rglob('*.py'))
    assert [name for name, count in names.items() if count > 1] == ['__init__.py']


def test_the_car_needs_no_more_than_is_installed_for_it() -> None:
    setup = (ROOT / 'setup.py').read_text()
    listed = re.search(r'install_requires=\[(.*?)\]', setup, re.DOTALL)
    assert listed is not None
    names = re.findall(r"'([\w-]+)", listed[1])
    allowed = {IMPORTED_AS.get(name, name) for name in names} | OPTIONAL | {'vts_ros'}
    allowed |= set(sys.stdlib_module_names)
    used: dict[str, set[str]] = defaultdict(set)
    for path, part in modules().items():
        if part in OF_THE_CAR:
            for name in imports(path):
                used[name.partition('.')[0]].add(path.name)
    assert not {name: paths for name, paths in used.items()
                if name not in allowed and not ROS.fullmatch(name)}


def test_every_source_file_carries_the_licence() -> None:
    files = [path for folder in ('vts_ros', 'test', 'launch') for path in
             (ROOT / folder).rglob('*.py')]
    bare = [path for path in files if path.stat().st_size and not path.read_text().startswith(
        '# Copyright 2026 the vts_ros authors\n# SPDX-License-Identifier: Apache-2.0\n')]
    assert not bare
