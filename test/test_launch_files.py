# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The launch files, evaluated without launch, which comes with ROS and not from PyPI.

Small modules take its place, which do with actions what launch does, but start nothing.
``test_launch.py`` starts the files where there is launch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import runpy
import sys
from types import ModuleType
from typing import Any

from bag_maker import compressed, COMPRESSED_TOPIC, drive, jpeg, picture, raw, START_NS, write
from conftest import ROOT
import pytest
import yaml

from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE, IMAGE

PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'


class PackageNotFoundError(KeyError):
    """As of ament_index_python."""


@dataclass
class LaunchContext:
    """What is set where an action is evaluated, and what was started so far."""

    launch_configurations: dict[str, str]
    remaps: list[tuple[str, str]] = field(default_factory=list)
    started: list[Started] = field(default_factory=list)


@dataclass
class Started:
    """A process that launch would start."""

    executable: str
    remaps: dict[str, str]
    given: dict[str, Any]

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters that are given beside those of files."""
        return {name: value for parameters in self.given['parameters']
                if isinstance(parameters, dict) for name, value in parameters.items()}


class Action(ABC):
    """An action that is evaluated where it stands."""

    @abstractmethod
    def visit(self, context: LaunchContext) -> None:
        """Do what it says."""


def visit_all(actions: Iterable[Action], context: LaunchContext) -> None:
    """Evaluate actions in their order."""
    for action in actions:
        action.visit(context)


class LaunchDescription(Action):
    """As of launch."""

    def __init__(self, actions: Sequence[Action] = ()) -> None:
        self.actions = actions

    def visit(self, context: LaunchContext) -> None:
        visit_all(self.actions, context)


class DeclareLaunchArgument(Action):
    """As of launch.actions."""

    def __init__(self, name: str, *, default_value: str | None = None, description: str = '',
                 choices: Sequence[str] | None = None) -> None:
        assert description
        assert default_value is None or choices is None or default_value in choices
        self.name, self.default, self.choices = name, default_value, choices

    def visit(self, context: LaunchContext) -> None:
        if self.name not in context.launch_configurations:
            if self.default is None:
                raise RuntimeError(f'Included launch description missing argument {self.name}')
            context.launch_configurations[self.name] = self.default
        value = context.launch_configurations[self.name]
        if self.choices is not None and value not in self.choices:
            raise RuntimeError(f'Argument {self.name} provided value {value} is not valid')


class OpaqueFunction(Action):
    """As of launch.actions."""

    def __init__(self, *, function: Callable[[LaunchContext], Sequence[Action]]) -> None:
        self.function = function

    def visit(self, context: LaunchContext) -> None:
        visit_all(self.function(context) or (), context)


class GroupAction(Action):
    """As of launch.actions: what is set inside ends with it."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self.actions = actions

    def visit(self, context: LaunchContext) -> None:
        inside = LaunchContext(
            dict(context.launch_configurations), list(context.remaps), context.started)
        visit_all(self.actions, inside)


class IncludeLaunchDescription(Action):
    """As of launch.actions."""

    def __init__(self, source: str, *, launch_arguments: Iterable[tuple[str, str]] = ()) -> None:
        self.source, self.arguments = source, list(launch_arguments)

    def visit(self, context: LaunchContext) -> None:
        description = runpy.run_path(self.source)['generate_launch_description']()
        declared = {action.name for action in description.actions
                    if isinstance(action, DeclareLaunchArgument)}
        for name, value in self.arguments:
            assert isinstance(value, str)
            # Launch would not mind, and nobody would notice.
            assert name in declared
            context.launch_configurations[name] = value
        description.visit(context)


class SetRemap(Action):
    """As of launch_ros.actions."""

    def __init__(self, src: str, dst: str) -> None:
        self.remap = src, dst

    def visit(self, context: LaunchContext) -> None:
        context.remaps.append(self.remap)


class Node(Action):
    """As of launch_ros.actions."""

    def __init__(self, *, package: str, executable: str, **given: Any) -> None:
        assert package
        self.executable = executable
        self.given = {'parameters': [], 'additional_env': {}, 'arguments': [], **given}

    def visit(self, context: LaunchContext) -> None:
        context.started.append(Started(self.executable, dict(context.remaps), self.given))


#: As colcon and pip install it: its first line names the Python of the package.
PLAYER = f"""#!{sys.executable}
import sys
sys.argv[0] = 'vts_replay'
sys.path.insert(0, {str(ROOT)!r})
from vts_ros.nodes.executables import vts_replay
vts_replay()
"""


@pytest.fixture
def player(tmp_path: Path) -> Path:
    """Return the executable of the player, where an installation has it."""
    path = tmp_path / 'prefix' / 'lib' / 'vts_ros' / 'vts_replay'
    path.parent.mkdir(parents=True)
    path.write_text(PLAYER)
    path.chmod(0o755)
    return path


@pytest.fixture
def packages(player: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Put the modules in place; return the packages that are installed."""
    installed = {'vts_ros': ROOT}

    def share(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return str(installed[name])

    modules: dict[str, dict[str, Any]] = {
        'launch': {'LaunchContext': LaunchContext, 'LaunchDescription': LaunchDescription,
                   'LaunchDescriptionEntity': Action},
        'launch.actions': {action.__name__: action for action in (
            DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction)},
        'launch_ros': {},
        'launch_ros.actions': {'Node': Node, 'SetRemap': SetRemap},
        'ament_index_python': {},
        'ament_index_python.packages': {
            'get_package_share_directory': share,
            'get_package_prefix': lambda name: str(player.parents[2]),
            'PackageNotFoundError': PackageNotFoundError},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in (PROFILES, 'FASTDDS_DEFAULT_PROFILES_FILE'):
        monkeypatch.delenv(name, raising=False)
    return installed


def launch(name: str, folder: str = 'launch', **arguments: str) -> dict[str, Started]:
    """Return what a launch file starts, by executable."""
    context = LaunchContext({})
    file = str(ROOT / folder / f'{name}.launch.py')
    IncludeLaunchDescription(file, launch_arguments=arguments.items()).visit(context)
    return {process.executable: process for process in context.started}


#: What all three files take, and what becomes of it.
SHARED = {'namespace': 'car1', 'language': 'ja', 'respawn': 'true', 'log_level': 'debug',
          'image_transport': 'compressed', 'model': 'mine', 'keep_ratio': '0.5',
          'prompts': '/prompts.yaml', 'overlay': 'true'}


@pytest.mark.parametrize('name', ['vts', 'multi_camera', 'replay'])
@pytest.mark.usefixtures('packages')
def test_arguments_reach_the_nodes(name: str, tmp_path: Path) -> None:
    own: dict[str, dict[str, str]] = {
        'vts': {'cameras': 'front, rear'},
        'multi_camera': {'topics': 'front=/cam0/image_raw, rear = /cam1/image_raw/compressed'},
        'replay': {'bag': str(drive(tmp_path / 'bag', 2))}}
    started = launch(name, **own[name], **SHARED)
    assert set(started) == {'vts_node', 'vts_overlay'} | (
        {'vts_replay'} if name == 'replay' else set())
    cameras = ['camera_front'] if name == 'replay' else ['front', 'rear']
    for executable in ('vts_node', 'vts_overlay'):
        process = started[executable]
        assert process.given['namespace'] == 'car1'
        assert process.given['respawn'] is True
        assert process.given['arguments'] == ['--ros-args', '--log-level', 'debug']
        assert process.given['parameters'][0] == str(ROOT / 'config' / 'vts.yaml')
        assert process.parameters['cameras'] == cameras
        assert process.parameters['image_transport'] == 'compressed'
    assert {name: value for name, value in started['vts_node'].parameters.items()
            if '.' in name} == {'vlm.model': 'mine', 'sparsify.keep_ratio': 0.5,
                                'vlm.language': 'ja', 'vlm.prompts': '/prompts.yaml'}


@pytest.mark.usefixtures('packages')
def test_what_is_not_given_is_left_to_the_parameter_file() -> None:
    node = launch('vts', params_file='/p.yaml')['vts_node']
    assert node.given['parameters'] == ['/p.yaml', {}]
    assert launch('vts', use_sim_time='true')['vts_node'].parameters == {'use_sim_time': True}
    assert launch('vts', use_sim_time='false')['vts_node'].parameters == {'use_sim_time': False}
    several = launch('multi_camera', topics='a=/x')['vts_node'].parameters
    assert several == {'cameras': ['a']}


@pytest.mark.usefixtures('packages')
def test_cameras_are_remapped_in_all_nodes() -> None:
    started = launch('multi_camera', overlay='true',
                     topics='front=/cam0/image_raw,rear=/cam1/image/compressed')
    for process in started.values():
        assert process.remaps == {
            f'{name}/image_raw{transport}': f'{topic}{transport}'
            for name, topic in (('front', '/cam0/image_raw'), ('rear', '/cam1/image'))
            for transport in ('', '/compressed', '/foxglove', '/ffmpeg')}


@pytest.mark.usefixtures('packages')
def test_what_a_speech_to_text_node_says_is_a_question() -> None:
    started = launch('ask_by_voice', 'examples', package='hears', executable='speech_to_text')
    assert set(started) == {'speech_to_text', 'vts_node'}
    assert started['speech_to_text'].given['remappings'] == [('text', '/vts_node/question')]
    assert started['vts_node'].parameters == {}
    with pytest.raises(RuntimeError, match='missing argument package'):
        launch('ask_by_voice', 'examples')


@pytest.mark.usefixtures('packages')
@pytest.mark.parametrize('topics', ['front', '=/cam0', 'front=', 'a=/x,a=/y', 'a=/x,,'])
def test_topics_that_name_no_cameras_are_refused(topics: str) -> None:
    with pytest.raises(ValueError, match='topics is'):
        launch('multi_camera', topics=topics)


@pytest.mark.usefixtures('packages')
def test_a_replay_is_heard_by_the_nodes_alone(tmp_path: Path) -> None:
    bag = str(drive(tmp_path / 'bag', 2))
    started = launch('replay', bag=bag, overlay='true', loop='true', rate='0.5')
    for name in ('vts_node', 'vts_overlay'):
        assert started[name].remaps == {'camera_front/image_raw/compressed': COMPRESSED_TOPIC}
        assert started[name].parameters == {
            'cameras': ['camera_front'], 'image_transport': 'compressed', 'use_sim_time': True}
    replay = started['vts_replay']
    assert replay.remaps == {}
    assert replay.given['arguments'] == [
        bag, '--clock', '--rate', '0.5', '--wait-sec', '60', '--loop']


@pytest.mark.usefixtures('packages')
def test_a_replay_takes_the_kind_of_pictures_that_is_asked_for(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', [
        (COMPRESSED_TOPIC, COMPRESSED_IMAGE, START_NS, compressed(START_NS, jpeg(picture(0)))),
        ('/camera/front/image_raw', IMAGE, START_NS, raw(START_NS, picture(0), 'rgb8'))])
    node = launch('replay', bag=str(bag), image_transport='raw')['vts_node']
    assert node.parameters['image_transport'] == 'raw'
    assert node.remaps == {'camera_front/image_raw': '/camera/front/image_raw'}


@pytest.mark.usefixtures('packages')
def test_ros2_may_run_in_a_python_that_has_nothing_of_the_package(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = str(drive(tmp_path / 'bag', 2))
    for name in [name for name in sys.modules if name.partition('.')[0] in ('rosbags', 'vts_ros')]:
        monkeypatch.delitem(sys.modules, name)
    for name in ('rosbags', 'vts_ros'):
        monkeypatch.setitem(sys.modules, name, None)
    assert launch('replay', bag=bag)['vts_node'].parameters['cameras'] == ['camera_front']


@pytest.mark.usefixtures('packages')
def test_a_bag_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        launch('replay', bag=str(tmp_path / 'nowhere'))
    assert str(caught.value) == f'vts: {tmp_path / "nowhere"} does not exist'


@pytest.mark.usefixtures('packages')
def test_tools_that_are_missing_are_one_line(player: Path, tmp_path: Path) -> None:
    player.write_text(PLAYER.replace(
        'import sys\n', 'import sys\nsys.modules["rosbags"] = None\n'))
    with pytest.raises(RuntimeError) as caught:
        launch('replay', bag=str(tmp_path))
    assert str(caught.value) == "vts_replay: rosbags is missing: pip install 'vts_ros[tools]'"


@pytest.mark.usefixtures('packages')
def test_there_is_room_for_raw_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the shared memory of every process, unless somebody has settings of his own."""
    bag = str(drive(tmp_path / 'bag', 2))
    started = launch('replay', bag=bag, overlay='true')
    assert set(started) == {'vts_node', 'vts_overlay', 'vts_replay'}
    for process in started.values():
        assert process.given['additional_env'] == {PROFILES: str(ROOT / 'config' / 'fastdds.xml')}
    assert (ROOT / 'config' / 'fastdds.xml').is_file()
    for name in (PROFILES, 'FASTDDS_DEFAULT_PROFILES_FILE'):
        monkeypatch.setenv(name, '/mine.xml')
        for process in launch('vts', overlay='true').values():
            assert process.given['additional_env'] == {}
        monkeypatch.delenv(name)


def test_rviz_is_looked_for_before_anything_is_started(
        packages: dict[str, Path], tmp_path: Path) -> None:
    own: dict[str, dict[str, str]] = {
        'vts': {}, 'multi_camera': {'topics': 'a=/x'},
        'replay': {'bag': str(drive(tmp_path / 'bag', 2))}}
    for name, arguments in own.items():
        context = LaunchContext({})
        with pytest.raises(RuntimeError, match='apt install'):
            IncludeLaunchDescription(
                str(ROOT / 'launch' / f'{name}.launch.py'),
                launch_arguments={'rviz': 'true', **arguments}.items()).visit(context)
        assert not context.started
    packages['rviz2'] = ROOT
    for name, arguments in own.items():
        started = launch(name, rviz='true', namespace='car1', **arguments)
        assert 'vts_overlay' in started
        assert started['rviz2'].given['namespace'] == 'car1'
        shown = Path(started['rviz2'].given['arguments'][1])
        assert shown.is_file()


def test_rviz_shows_the_overlay_and_the_annotated_bag_in_any_namespace() -> None:
    shown = yaml.safe_load((ROOT / 'config' / 'vts.rviz').read_text())
    topics = [display['Topic']['Value'] for display in shown['Visualization Manager']['Displays']
              if 'Topic' in display]
    assert topics == ['vts_node/markers', 'vts_overlay/image_annotated/compressed']
    geometry = shown['Window Geometry']
    assert (geometry['Hide Left Dock'], geometry['Hide Right Dock']) == (False, True)
