# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start the node on a car: `ros2 launch vts_ros vts.launch.py cameras:=camera/front`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

CONFIG = Path(get_package_share_directory('vts_ros'), 'config')

#: Arguments that set a parameter; where one is left empty, the parameter file decides.
PARAMETERS = {
    'cameras': ('cameras', 'Namespaces of the cameras, separated by commas: front,rear'),
    'image_transport': ('image_transport', 'compressed or raw'),
    'model': ('vlm.model', 'Checkpoint: shipped name, directory, or hub id in the local cache'),
    'keep_ratio': ('sparsify.keep_ratio', 'Share of the visual tokens that is kept, 0 to 1'),
    'language': ('vlm.language', 'Language of the answers'),
    'prompts': ('vlm.prompts', 'Prompt file of your own'),
}
OF_TYPE = {'cameras': lambda text: text.split(','), 'keep_ratio': float}


def start_node(context: LaunchContext) -> list[Node]:
    """Return the node, with the parameters that were given."""
    def value(argument: str) -> str:
        return LaunchConfiguration(argument).perform(context)

    given = {parameter: OF_TYPE.get(argument, str)(value(argument))
             for argument, (parameter, _) in PARAMETERS.items() if value(argument)}
    given['use_sim_time'] = value('use_sim_time') == 'true'
    return [Node(
        package='vts_ros', executable='vts_node', name='vts_node', namespace=value('namespace'),
        parameters=[value('params_file'), given],
        arguments=['--ros-args', '--log-level', value('log_level')],
        output='screen', emulate_tty=True)]


def generate_launch_description() -> LaunchDescription:
    """Return arguments, node and RViz."""
    return LaunchDescription([
        *(DeclareLaunchArgument(
            argument, default_value='', description=f'{text}; empty: as in params_file')
          for argument, (_, text) in PARAMETERS.items()),
        DeclareLaunchArgument('params_file', default_value=str(CONFIG / 'vts.yaml'),
                              description='Parameters of the node'),
        DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node'),
        DeclareLaunchArgument('use_sim_time', default_value='false', choices=['true', 'false'],
                              description='Take the time from /clock'),
        DeclareLaunchArgument('log_level', default_value='info',
                              choices=['debug', 'info', 'warn', 'error'],
                              description='How much the node says'),
        DeclareLaunchArgument('rviz', default_value='false', choices=['true', 'false'],
                              description='Show the answers in RViz'),
        OpaqueFunction(function=start_node),
        Node(package='rviz2', executable='rviz2', arguments=['-d', str(CONFIG / 'vts.rviz')],
             condition=IfCondition(LaunchConfiguration('rviz'))),
    ])
