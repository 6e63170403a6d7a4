# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Explain a recorded drive: `ros2 launch vts_ros replay.launch.py bag:=my_drive`."""

import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch_ros.actions import Node, SetRemap

SHARE = Path(get_package_share_directory('vts_ros'))
#: Arguments that are handed on as they are.
HANDED_ON = {
    'model': 'Checkpoint; empty: as in params_file',
    'adapter': 'Adapter of the checkpoint; with several cameras the shipped model needs '
               'cameras_adapter; empty: as in params_file',
    'keep_ratio': 'Share of the visual tokens that is kept, 0 to 1; empty: as in params_file',
    'language': 'Language of the answers; empty: as in params_file',
    'prompts': 'Prompt file of your own; empty: as in params_file',
    'namespace': 'Namespace of the nodes; empty: none',
}
#: Where Fast DDS looks for its settings, by its old and by its new name.
PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def room_for_pictures() -> dict[str, str]:
    """Return the environment in which raw pictures are not lost; empty where one has settings."""
    if any(os.environ.get(name) for name in PROFILES):
        return {}
    return {PROFILES[0]: str(SHARE / 'config' / 'fastdds.xml')}


def node_inputs(bag: str, image_transport: str) -> dict[str, Any]:
    """
    Return how the node is to be started for the cameras of a bag.

    The player is asked, in a process: it has the Python with the libraries that read bags, and
    ``ros2`` may run in another.

    Raises
    ------
    RuntimeError
        If the bag cannot be read, in one line.

    """
    player = Path(get_package_prefix('vts_ros'), 'lib', 'vts_ros', 'vts_replay')
    done = subprocess.run(
        [player, bag, '--show-inputs', '--image-transport', image_transport or 'auto'],
        capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ['vts_replay failed'])[-1])
    # What is odd about the bag.
    sys.stderr.write(done.stderr)
    inputs: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return inputs


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node, listening to the cameras of the bag, and what plays the bag."""
    value = context.launch_configurations
    inputs = node_inputs(value['bag'], value['image_transport'])
    node = IncludeLaunchDescription(str(SHARE / 'launch' / 'vts.launch.py'), launch_arguments={
        'cameras': ','.join(inputs['cameras']),
        'image_transport': inputs['image_transport'],
        'use_sim_time': 'true',
        **{name: value[name] for name in (
            *HANDED_ON, 'params_file', 'log_level', 'respawn', 'overlay', 'rviz')},
    }.items())
    player = Node(
        package='vts_ros', executable='vts_replay', output='screen', emulate_tty=True,
        additional_env=room_for_pictures(),
        arguments=[value['bag'], '--clock', '--rate', value['rate'], '--wait-sec', '60',
                   *(['--loop'] if value['loop'] == 'true' else [])])
    remaps = [SetRemap(*remap) for remap in inputs['remaps'].items()]
    return [GroupAction([*remaps, node]), player]


def generate_launch_description() -> LaunchDescription:
    """Return arguments, node and player."""
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='rosbag2 recording: directory or file'),
        DeclareLaunchArgument('rate', default_value='1.0',
                              description='Seconds of the recording per second'),
        DeclareLaunchArgument('loop', default_value='false', choices=['true', 'false'],
                              description='Start again at the end'),
        DeclareLaunchArgument('image_transport', default_value='',
                              choices=['', 'auto', 'compressed', 'raw'],
                              description='Which pictures of the bag are heard; empty or auto: '
                                          'compressed ones if there are any'),
        *(DeclareLaunchArgument(name, default_value='', description=text)
          for name, text in HANDED_ON.items()),
        DeclareLaunchArgument('log_level', default_value='info',
                              choices=['debug', 'info', 'warn', 'error'],
                              description='How much the nodes say'),
        DeclareLaunchArgument('respawn', default_value='false', choices=['true', 'false'],
                              description='Start a node again when it ends'),
        DeclareLaunchArgument('params_file', default_value=str(SHARE / 'config' / 'vts.yaml'),
                              description='Parameters of the nodes'),
        DeclareLaunchArgument('overlay', default_value='false', choices=['true', 'false'],
                              description='Publish pictures with the answers drawn over them'),
        DeclareLaunchArgument('rviz', default_value='false', choices=['true', 'false'],
                              description='Show the answers in RViz; starts the overlay as well'),
        OpaqueFunction(function=start),
    ])
