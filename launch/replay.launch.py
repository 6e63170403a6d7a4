# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Explain a recorded drive: `ros2 launch vts_ros replay.launch.py bag:=my_drive`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetRemap

from vts_ros.tools.bags import node_inputs

SHARE = Path(get_package_share_directory('vts_ros'))


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node, listening to the cameras of the bag, and what plays the bag."""
    def value(argument: str) -> str:
        return LaunchConfiguration(argument).perform(context)

    inputs = node_inputs(value('bag'))
    node = IncludeLaunchDescription(str(SHARE / 'launch' / 'vts.launch.py'), launch_arguments={
        'cameras': ','.join(inputs.cameras),
        'image_transport': inputs.image_transport,
        'use_sim_time': 'true',
        **{name: value(name) for name in (
            'model', 'keep_ratio', 'params_file', 'overlay', 'rviz')},
    }.items())
    player = Node(
        package='vts_ros', executable='vts_replay', output='screen', emulate_tty=True,
        arguments=[value('bag'), '--clock', '--rate', value('rate'), '--wait-sec', '60',
                   *(['--loop'] if value('loop') == 'true' else [])])
    remaps = [SetRemap(*remap) for remap in inputs.remaps.items()]
    return [GroupAction([*remaps, node]), player]


def generate_launch_description() -> LaunchDescription:
    """Return arguments, node and player."""
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='rosbag2 recording: directory or file'),
        DeclareLaunchArgument('rate', default_value='1.0',
                              description='Seconds of the recording per second'),
        DeclareLaunchArgument('loop', default_value='false', choices=['true', 'false'],
                              description='Start again at the end'),
        DeclareLaunchArgument('model', default_value='',
                              description='Checkpoint; empty: as in params_file'),
        DeclareLaunchArgument('keep_ratio', default_value='',
                              description='Share of the visual tokens that is kept, 0 to 1; '
                                          'empty: as in params_file'),
        DeclareLaunchArgument('params_file', default_value=str(SHARE / 'config' / 'vts.yaml'),
                              description='Parameters of the nodes'),
        DeclareLaunchArgument('overlay', default_value='false', choices=['true', 'false'],
                              description='Publish pictures with the answers drawn over them'),
        DeclareLaunchArgument('rviz', default_value='false', choices=['true', 'false'],
                              description='Show the answers in RViz; starts the overlay as well'),
        OpaqueFunction(function=start),
    ])
