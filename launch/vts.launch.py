# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start the node on a car: `ros2 launch vts_ros vts.launch.py cameras:=camera/front`."""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory, PackageNotFoundError
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import Node

CONFIG = Path(get_package_share_directory('vts_ros'), 'config')

#: Arguments that set a parameter; where one is left empty, the parameter file decides.
PARAMETERS = {
    'cameras': ('cameras', 'Namespaces of the cameras, separated by commas: front,rear'),
    'image_transport': ('image_transport', 'auto, compressed, raw, foxglove or ffmpeg'),
    'model': ('vlm.model', 'Checkpoint: shipped name, directory, or hub id in the local cache'),
    'adapter': ('vlm.adapter', 'Adapter of the checkpoint: shipped name or directory; with '
                'several cameras the shipped model needs cameras_adapter'),
    'keep_ratio': ('sparsify.keep_ratio', 'Share of the visual tokens that is kept, 0 to 1'),
    'language': ('vlm.language', 'Language of the answers'),
    'prompts': ('vlm.prompts', 'Prompt file of your own'),
}
OF_TYPE = {'cameras': lambda text: [name.strip() for name in text.split(',')],
           'keep_ratio': float}
#: A node that crashes at once must not take the machine along.
RESPAWN_DELAY_SEC = 5.0
#: Those that the overlay has as well.
SHARED = ('cameras', 'image_transport', 'use_sim_time')
#: Where Fast DDS looks for its settings, by its old and by its new name.
PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def room_for_pictures() -> dict[str, str]:
    """Return the environment in which raw pictures are not lost; empty where one has settings."""
    if any(os.environ.get(name) for name in PROFILES):
        return {}
    return {PROFILES[0]: str(CONFIG / 'fastdds.xml')}


def require_rviz() -> None:
    """Raise RuntimeError if there is no RViz: later, nodes would have been started for nothing."""
    try:
        get_package_share_directory('rviz2')
    except PackageNotFoundError:
        raise RuntimeError('rviz:=true needs RViz, which is not installed here: '
                           'apt install ros-$ROS_DISTRO-rviz2') from None


def start_nodes(context: LaunchContext) -> list[Node]:
    """Return the nodes that are asked for, with the parameters that were given."""
    def value(argument: str) -> str:
        return str(context.launch_configurations[argument])

    if value('rviz') == 'true':
        require_rviz()

    given = {parameter: OF_TYPE.get(argument, str)(value(argument))
             for argument, (parameter, _) in PARAMETERS.items() if value(argument)}
    if value('use_sim_time'):
        given['use_sim_time'] = value('use_sim_time') == 'true'
    common = {
        'package': 'vts_ros', 'namespace': value('namespace'), 'output': 'screen',
        'emulate_tty': True, 'additional_env': room_for_pictures(),
        'respawn': value('respawn') == 'true', 'respawn_delay': RESPAWN_DELAY_SEC,
        'arguments': ['--ros-args', '--log-level', value('log_level')]}
    nodes = [Node(executable='vts_node', name='vts_node',
                  parameters=[value('params_file'), given], **common)]
    if 'true' in (value('overlay'), value('rviz')):
        shared = {name: given[name] for name in SHARED if name in given}
        nodes.append(Node(executable='vts_overlay', name='vts_overlay',
                          parameters=[value('params_file'), shared], **common))
    if value('rviz') == 'true':
        nodes.append(Node(package='rviz2', executable='rviz2', namespace=value('namespace'),
                          arguments=['-d', str(CONFIG / 'vts.rviz')],
                          additional_env=room_for_pictures(),
                          parameters=[{name: given[name] for name in ('use_sim_time',)
                                       if name in given}]))
    return nodes


def generate_launch_description() -> LaunchDescription:
    """Return arguments and nodes."""
    return LaunchDescription([
        *(DeclareLaunchArgument(
            argument, default_value='', description=f'{text}; empty: as in params_file')
          for argument, (_, text) in PARAMETERS.items()),
        DeclareLaunchArgument('params_file', default_value=str(CONFIG / 'vts.yaml'),
                              description='Parameters of the nodes'),
        DeclareLaunchArgument('namespace', default_value='', description='Namespace of the nodes'),
        DeclareLaunchArgument('use_sim_time', default_value='', choices=['', 'true', 'false'],
                              description='Take the time from /clock; empty: as in params_file'),
        DeclareLaunchArgument('log_level', default_value='info',
                              choices=['debug', 'info', 'warn', 'error'],
                              description='How much the nodes say'),
        DeclareLaunchArgument('respawn', default_value='false', choices=['true', 'false'],
                              description='Start a node again when it ends, as after a crash of '
                                          'the GPU'),
        DeclareLaunchArgument('overlay', default_value='false', choices=['true', 'false'],
                              description='Publish pictures with the answers drawn over them'),
        DeclareLaunchArgument('rviz', default_value='false', choices=['true', 'false'],
                              description='Show the answers in RViz; starts the overlay as well'),
        OpaqueFunction(function=start_nodes),
    ])
