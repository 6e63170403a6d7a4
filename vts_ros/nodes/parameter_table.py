# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of a node as one table: declaration, validation and reading follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
import difflib
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidNamespaceException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_namespace import validate_namespace

from vts_ros.errors import VtsError
from vts_ros.nodes.camera import camera_namespace, CHOICES
from vts_ros.pipeline.raw_images import camera_name
from vts_ros.pipeline.settings import Setting


class ParameterError(VtsError):
    """A value given at start that cannot be used."""


class Spec(Setting):
    """A parameter of a node: a setting, or one that only the node has."""

    @classmethod
    def of(cls, setting: Setting) -> Spec:
        """Return the parameter for a setting."""
        return cls(**vars(setting))

    def descriptor(self) -> ParameterDescriptor:
        """Return the table row in the form that ROS tools show."""
        descriptor = ParameterDescriptor(
            description=self.description, read_only=self.change == 'never',
            # A whole number is a number: 1 for 1.0.
            dynamic_typing=isinstance(self.default, float))
        if self.choices:
            descriptor.additional_constraints = f'one of {", ".join(self.choices)}'
        if self.span and isinstance(self.default, float):
            low, high = self.span
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        elif self.span:
            low, high = map(int, self.span)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        return descriptor

    def problem(self, value: Any) -> str | None:
        """Return why the value cannot be used, or None."""
        if value is None:
            return f'{self.name} has no value; leave it out for {self.default!r}'
        if isinstance(self.default, float):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return f'{self.name} is {value!r}, expected a number'
            if self.span and not self.span[0] <= value <= self.span[1]:
                low, high = self.span
                return f'{self.name} is {value:g}, out of range: {low:g} to {high:g}'
        if self.choices and value not in self.choices:
            return f'{self.name} is {value!r}, expected one of {", ".join(self.choices)}'
        if isinstance(value, str) and self.default and not value:
            return f'{self.name} is empty'
        return _problem_of_cameras(value) if self.name == 'cameras' else None


def _problem_of_cameras(cameras: Sequence[str]) -> str | None:
    try:
        for camera in cameras:
            validate_namespace('/' + camera_namespace(camera).removeprefix('/'))
    except InvalidNamespaceException as error:
        return f'cameras is {list(cameras)}: {" ".join(str(error).split())}'
    # `a/b` and `a_b` are two namespaces, but one name in reports.
    names = {camera_name(f'{camera_namespace(camera)}/image_raw') for camera in cameras}
    if len(names) < max(len(cameras), 1):
        return f'cameras is {list(cameras)}, expected one or more, each with a name of its own'
    return None


CAMERAS: tuple[Spec, ...] = (
    Spec('cameras', [''], 'Namespaces of the cameras: `front` is subscribed at `front/image_raw` '
         '(+ `/compressed` and the like), the empty name at `image_raw`; all of them can be '
         'remapped. With `auto` also topics of pictures, such as `front/video`'),
    Spec('image_transport', 'auto', 'compressed: sensor_msgs/CompressedImage on '
         '`image_raw/compressed`; raw: sensor_msgs/Image on `image_raw`; foxglove: '
         'foxglove_msgs/CompressedVideo on `image_raw/foxglove`; ffmpeg: '
         'ffmpeg_image_transport_msgs/FFMPEGPacket on `image_raw/ffmpeg`; auto: what is '
         'published, in the order compressed, raw, foxglove, ffmpeg', choices=CHOICES),
    Spec('no_image_warn_sec', 5.0, 'Time without a picture, after which a warning names the '
         'topic, its publishers and their QoS; 0 never warns', change='live', span=(0.0, 3600.0)),
)
#: The parameters of the overlay node. It has no lifecycle: they are read once.
OVERLAY_TABLE: tuple[Spec, ...] = (
    *(replace(spec, change='never') for spec in CAMERAS),
    Spec('history_mb', 256, 'Memory in MiB for pictures that wait for their report; raw '
         'pictures need much', change='never', span=(1, 65536)),
)


class Parameters:
    """
    The declared parameters of a node, read by name.

    Parameters
    ----------
    node
        Gets the parameters declared.
    is_configured
        Tells whether those that are read on configure are in use.
    table
        The parameters.

    Raises
    ------
    ParameterError, rclpy.exceptions.ParameterException
        If a value given at start cannot be used.

    """

    def __init__(self, node: Node, is_configured: Callable[[], bool],
                 table: Sequence[Spec]) -> None:
        self._node = node
        self._specs = {spec.name: spec for spec in table}
        self._is_configured = is_configured
        self._problem = ''
        # Registered first, so that it also checks the values that are given at start.
        node.add_on_set_parameters_callback(self._validate)
        try:
            node.declare_parameters(
                '', [(spec.name, spec.default, spec.descriptor()) for spec in table])
        except InvalidParameterValueException:
            if not self._problem:
                raise
            # The message of rclpy quotes the value, which may be a secret.
            raise ParameterError(self._problem) from None

    def __getitem__(self, name: str) -> Any:
        """Return the present value."""
        value = self._node.get_parameter(name).value
        return float(value) if isinstance(self._specs[name].default, float) else value

    def unknown_names(self) -> list[str]:
        """Return a warning for each value given at start to a name that does not exist."""
        # There is no public way to them once parameters are declared.
        given = getattr(self._node, '_parameter_overrides', {})
        known = list(self._specs)
        warnings = []
        for name in sorted(given):
            if not self._node.has_parameter(name) and not name.startswith('qos_overrides.'):
                near = difflib.get_close_matches(name, known, 1)
                warnings.append(f'parameter {name} is not known and has no effect'
                                + (f'; did you mean {near[0]}?' if near else ''))
        return warnings

    def _validate(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        self._problem = next(filter(None, map(self.problem_of, parameters)), '')
        if not self._problem and self._is_configured():
            self._problem = self.problem_of_all(parameters)
        return SetParametersResult(successful=not self._problem, reason=self._problem)

    def problem_of(self, parameter: Parameter) -> str:
        """Return why a value cannot be used now, whatever the others, or ``''``."""
        spec = self._specs.get(parameter.name)
        if spec is None:
            # Declared by rclpy itself: use_sim_time, qos_overrides.
            return ''
        if spec.change == 'unconfigured' and self._is_configured():
            return f'{spec.name} is read on configure: deactivate and clean up the node first'
        return spec.problem(parameter.value) or ''

    def problem_of_all(self, parameters: Sequence[Parameter]) -> str:
        """Return why values that are all right one by one cannot be used now, or ``''``."""
        return ''
