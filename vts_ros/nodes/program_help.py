# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the nodes say of their arguments, before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
import sys

VTS_NODE = """\
usage: ros2 run vts_ros vts_node [--ros-args -p NAME:=VALUE ...]

Watches camera topics and publishes what the scene is, what the risk is and why on ~/risk,
~/scene_description, ~/report and ~/markers; answers questions of ~/question on ~/answer.

Main parameters, with their defaults:
  cameras              ['']       namespaces: front subscribes to front/image_raw/compressed or
                                  front/image_raw, the empty name at image_raw
  image_transport      auto       compressed, raw, foxglove, ffmpeg: or whatever is published
  vlm.model            embedded   a directory with a checkpoint, or a hub id in the local cache
  sparsify.keep_ratio  0.6        share of the visual tokens that the language model gets
  buffer.frames        5          frames of a window, buffer.interval_sec apart
  max_frame_age_sec    3.0        cameras with older pictures are left out; 0 accepts any
  max_answer_age_sec   10.0       no answer stays for longer without a new one
  autostart            true       false leaves configure and activate to a lifecycle manager

All of them: docs/parameters.md and config/vts.yaml, or, for a running node,
  ros2 param list /vts_node
  ros2 param describe /vts_node sparsify.keep_ratio

Examples:
  ros2 run vts_ros vts_node --ros-args -p 'cameras:=[camera/front]'
  ros2 run vts_ros vts_node --ros-args -p 'cameras:=[front, rear]' -p vlm.model:=/models/mine
  ros2 run vts_ros vts_node --ros-args --params-file vts.yaml -r image_raw:=/dashcam/image
  ros2 launch vts_ros vts.launch.py cameras:=camera/front overlay:=true
  ros2 topic pub --once /vts_node/question std_msgs/msg/String '{data: Is it safe to drive on?}'
"""

VTS_OVERLAY = """\
usage: ros2 run vts_ros vts_overlay [--ros-args -p NAME:=VALUE ...]

Draws the answers of vts_node over its pictures and publishes ~/image_annotated, raw and
compressed, while somebody subscribes. It needs the same cameras as the node.

Main parameters, with their defaults:
  cameras              ['']       namespaces, as those of vts_node
  image_transport      auto       compressed, raw, foxglove, ffmpeg: or whatever is published
  history_mb           256        memory in MiB for pictures that wait for their report

All of them: docs/parameters.md and config/vts.yaml.

Examples:
  ros2 run vts_ros vts_overlay --ros-args -p 'cameras:=[camera/front]'
  ros2 run vts_ros vts_overlay --ros-args -r vts_node/report:=/car1/vts_node/report
  ros2 run rqt_image_view rqt_image_view /vts_overlay/image_annotated
"""

HELP = {'vts_node': VTS_NODE, 'vts_overlay': VTS_OVERLAY}


def check_arguments(program: str, arguments: Sequence[str]) -> None:
    """
    End the program with its help if that is asked for, and with one line if it takes no argument.

    What is between ``--ros-args`` and ``--`` is the business of ROS.
    """
    own = own_arguments(arguments)
    if {'-h', '--help'} & set(own):
        print(HELP[program], end='')
        sys.exit(0)
    if own:
        # It would have no effect, and nobody would notice.
        sys.exit(f'{program}: {own[0]!r} is not understood; parameters are given as '
                 f'--ros-args -p NAME:=VALUE, see {program} --help')


def own_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that are not between ``--ros-args`` and ``--``."""
    own, is_ros = [], False
    for argument in arguments:
        if argument == '--ros-args':
            is_ros = True
        elif is_ros and argument == '--':
            is_ros = False
        elif not is_ros:
            own.append(argument)
    return own
