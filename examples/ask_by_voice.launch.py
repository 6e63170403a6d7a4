# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ask by voice: `ros2 launch ask_by_voice.launch.py package:=P executable:=E`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch_ros.actions import Node


def start(context: LaunchContext) -> list[Node | IncludeLaunchDescription]:
    """Return vts_node, and the node whose std_msgs/String become its questions."""
    given = context.launch_configurations
    vts = Path(get_package_share_directory('vts_ros'), 'launch', 'vts.launch.py')
    return [Node(package=given['package'], executable=given['executable'], output='screen',
                 remappings=[(given['text'], '/vts_node/question')]),
            IncludeLaunchDescription(str(vts))]


def generate_launch_description() -> LaunchDescription:
    """Return arguments and nodes; those of vts.launch.py can be given as well."""
    return LaunchDescription([
        DeclareLaunchArgument('package', description='Package of the speech-to-text node'),
        DeclareLaunchArgument('executable', description='Its executable'),
        DeclareLaunchArgument('text', default_value='text', description='Topic of its texts'),
        OpaqueFunction(function=start)])
