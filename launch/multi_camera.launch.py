# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Start the node on several cameras, whatever their topics are called.

``ros2 launch vts_ros multi_camera.launch.py topics:=front=/cam0/image_raw,rear=/cam1/image_raw``

With the shipped model also ``adapter:=cameras_adapter``: without it, it knows one camera.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch_ros.actions import SetRemap

SHARE = Path(get_package_share_directory('vts_ros'))
#: What image_transport appends to the topic of a camera.
TRANSPORTS = ('compressed', 'foxglove', 'ffmpeg')
#: Arguments that are handed on as they are.
HANDED_ON = {
    'model': 'Checkpoint; empty: as in params_file',
    'adapter': 'Adapter of the checkpoint; with several cameras the shipped model needs '
               'cameras_adapter; empty: as in params_file',
    'keep_ratio': 'Share of the visual tokens that is kept of all cameras together, 0 to 1; '
                  'empty: as in params_file',
    'image_transport': 'auto, compressed, raw, foxglove or ffmpeg; empty: as in params_file',
    'language': 'Language of the answers; empty: as in params_file',
    'prompts': 'Prompt file of your own; empty: as in params_file',
    'namespace': 'Namespace of the nodes; empty: none',
}


def cameras_of(text: str) -> dict[str, str]:
    """
    Return the topics by name of the camera.

    Raises
    ------
    ValueError
        If an entry has not the form ``name=topic``, or a name comes twice.

    """
    pairs = [[part.strip() for part in entry.partition('=')] for entry in text.split(',')]
    for name, sign, topic in pairs:
        if not (name and sign and topic):
            raise ValueError(f'topics is {text!r}, expected name=topic,name=topic')
    cameras = {name: topic for name, _, topic in pairs}
    if len(cameras) < len(pairs):
        raise ValueError(f'topics is {text!r}: every camera needs a name of its own')
    return cameras


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the nodes, with the inputs remapped to the topics."""
    value = context.launch_configurations
    cameras = cameras_of(value['topics'])
    remaps = []
    for name, topic in cameras.items():
        # `auto` looks for all of them; the driver may offer one of them only.
        raw = topic
        for transport in TRANSPORTS:
            raw = raw.removesuffix(f'/{transport}')
        remaps += [SetRemap(f'{name}/image_raw', raw),
                   *(SetRemap(f'{name}/image_raw/{transport}', f'{raw}/{transport}')
                     for transport in TRANSPORTS)]
    nodes = IncludeLaunchDescription(str(SHARE / 'launch' / 'vts.launch.py'), launch_arguments={
        'cameras': ','.join(cameras),
        **{name: value[name] for name in (
            *HANDED_ON, 'params_file', 'use_sim_time', 'log_level', 'respawn', 'overlay',
            'rviz')},
    }.items())
    return [GroupAction([*remaps, nodes])]


def generate_launch_description() -> LaunchDescription:
    """Return arguments and nodes."""
    return LaunchDescription([
        DeclareLaunchArgument('topics', description='Cameras as name=topic, separated by commas; '
                              'raw, compressed or a video is found out'),
        *(DeclareLaunchArgument(name, default_value='', description=text)
          for name, text in HANDED_ON.items()),
        DeclareLaunchArgument('params_file', default_value=str(SHARE / 'config' / 'vts.yaml'),
                              description='Parameters of the nodes'),
        DeclareLaunchArgument('use_sim_time', default_value='', choices=['', 'true', 'false'],
                              description='Take the time from /clock; empty: as in params_file'),
        DeclareLaunchArgument('log_level', default_value='info',
                              choices=['debug', 'info', 'warn', 'error'],
                              description='How much the nodes say'),
        DeclareLaunchArgument('respawn', default_value='false', choices=['true', 'false'],
                              description='Start a node again when it ends'),
        DeclareLaunchArgument('overlay', default_value='false', choices=['true', 'false'],
                              description='Publish pictures with the answers drawn over them'),
        DeclareLaunchArgument('rviz', default_value='false', choices=['true', 'false'],
                              description='Show the answers in RViz; starts the overlay as well'),
        OpaqueFunction(function=start),
    ])
