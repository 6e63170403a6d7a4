# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node as one table: declaration, validation and reading follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidNamespaceException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_namespace import validate_namespace

from vts_ros.engines import BACKENDS
from vts_ros.images import camera_name
from vts_ros.nodes.cameras import TRANSPORTS
from vts_ros.pipeline import PipelineConfig
from vts_ros.vlm.prompts import PromptError, Prompts

#: When a parameter may change: at any time, while the node is unconfigured, or never.
Change = Literal['live', 'unconfigured', 'never']


@dataclass(frozen=True)
class Spec:
    """
    One parameter.

    Attributes
    ----------
    span
        Smallest and largest value of a number.
    choices
        All values of a string.
    field
        Field of :class:`PipelineConfig` that it fills, if it is one of the pipeline.

    """

    name: str
    default: Any
    description: str
    change: Change = 'unconfigured'
    span: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    field: str | None = None

    def descriptor(self) -> ParameterDescriptor:
        """Return the table row in the form that ROS tools show."""
        descriptor = ParameterDescriptor(
            description=self.description, read_only=self.change == 'never')
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
        if self.choices and value not in self.choices:
            return f'{self.name} is {value!r}, expected one of {", ".join(self.choices)}'
        if isinstance(value, str) and self.default and not value:
            return f'{self.name} is empty'
        return _problem_of_cameras(value) if self.name == 'cameras' else None


def _problem_of_cameras(cameras: Sequence[str]) -> str | None:
    try:
        for camera in cameras:
            validate_namespace('/' + camera.removeprefix('/'))
    except InvalidNamespaceException as error:
        return f'cameras is {list(cameras)}: {" ".join(str(error).split())}'
    # `a/b` and `a_b` are two namespaces, but one name in reports.
    if len({camera_name(f'{camera}/image_raw') for camera in cameras}) < max(len(cameras), 1):
        return f'cameras is {list(cameras)}, expected one or more, each with a name of its own'
    return None


def _of_pipeline(name: str, field: str, description: str, **rest: Any) -> Spec:
    return Spec(name, getattr(PipelineConfig, field), description, field=field, **rest)


TABLE: tuple[Spec, ...] = (
    Spec('autostart', True, 'Configure and activate at start; false waits for a lifecycle manager',
         change='never'),
    Spec('cameras', [''], 'Namespaces of the cameras: `front` is subscribed at `front/image_raw` '
         '(+ `/compressed`), the empty name at `image_raw`; all of them can be remapped'),
    Spec('image_transport', 'auto', 'compressed: sensor_msgs/CompressedImage on '
         '`image_raw/compressed`; raw: sensor_msgs/Image on `image_raw`; auto: what is published, '
         'compressed first', choices=TRANSPORTS),
    Spec('max_frame_age_sec', 3.0, 'Cameras whose newest picture is older, by its stamp or by '
         'when it came, are left out; 0 takes any age', change='live', span=(0.0, 3600.0)),
    Spec('no_image_warn_sec', 5.0, 'Without a picture for so long, a warning names the topic, its '
         'publishers and their QoS; 0 never warns', change='live', span=(0.0, 3600.0)),
    Spec('no_answer_warn_sec', 30.0, 'Without an answer for so long although pictures arrive, the '
         'diagnostics warn; 0 never warns', change='live', span=(0.0, 3600.0)),
    Spec('buffer.frames', 5, 'Frames of a window, per camera', span=(1, 32)),
    Spec('buffer.interval_sec', 0.4, 'Spacing of the frames of a window', span=(0.0, 60.0)),
    Spec('buffer.max_skew_sec', 0.1, 'How far apart the frames of several cameras may be to be '
         'taken as of one moment; at most half of buffer.interval_sec is used', span=(0.0, 10.0)),
    Spec('pipeline.period_sec', 0.0, 'Shortest time between the starts of two descriptions; '
         '0 describes as often as the machine can', change='live', span=(0.0, 3600.0)),
    _of_pipeline('sparsify.keep_ratio', 'keep_ratio', 'Share of the visual tokens that the '
                 'language model gets; 1 keeps all', change='live', span=(0.01, 1.0)),
    _of_pipeline('sparsify.alpha', 'alpha', 'Weight of dissimilarity to the key frame against '
                 'saliency', span=(0.0, 1.0)),
    _of_pipeline('sparsify.search_radius', 'search_radius', 'Cells around a token in which the '
                 'key frame is searched for the like', span=(0, 8)),
    _of_pipeline('sparsify.hysteresis', 'hysteresis', 'How much more salient a frame must be to '
                 'take over as key frame', span=(0.0, 1.0)),
    _of_pipeline('engine.backend', 'engine_backend', 'What runs the proposal network',
                 choices=('auto', *BACKENDS)),
    _of_pipeline('engine.threads', 'threads', 'Threads on the CPU; 0 leaves them to the runtimes',
                 span=(0, 256)),
    _of_pipeline('vlm.model', 'model', 'Checkpoint: a shipped name, a directory, or a hub id in '
                 'the local cache'),
    _of_pipeline('vlm.device', 'device', 'Device of the language model: auto, cpu, cuda, cuda:1'),
    _of_pipeline('vlm.max_new_tokens', 'max_new_tokens', 'Longest answer in tokens',
                 span=(1, 4096)),
    _of_pipeline('vlm.language', 'language', 'Language of prompt and answer, one of the prompt '
                 'file', change='live'),
    _of_pipeline('vlm.prompts', 'prompts', 'Prompt file of your own; empty takes '
                 'config/prompts.yaml of the package', change='live'),
    Spec('markers.frame_id', 'base_link', 'Frame of the text in RViz'),
)
_SHARED = ('cameras', 'image_transport', 'no_image_warn_sec')
#: The parameters of the overlay node. It has no lifecycle: they are read once.
OVERLAY_TABLE: tuple[Spec, ...] = (
    *(replace(spec, change='never') for spec in TABLE if spec.name in _SHARED),
    Spec('history_mb', 256, 'Memory for pictures that wait for the report about them, in MiB; '
         'raw pictures need much', change='never', span=(1, 65536)),
)
#: Language and file, as :meth:`Prompts.load` takes them.
PROMPTS = ('vlm.language', 'vlm.prompts')


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
    rclpy.exceptions.ParameterException
        If a value given at start cannot be used.

    """

    def __init__(self, node: Node, is_configured: Callable[[], bool],
                 table: Sequence[Spec] = TABLE) -> None:
        self._node = node
        self._specs = {spec.name: spec for spec in table}
        self._is_configured = is_configured
        # Registered first, so that it also checks the values that are given at start.
        node.add_on_set_parameters_callback(self._validate)
        node.declare_parameters(
            '', [(spec.name, spec.default, spec.descriptor()) for spec in table])

    def __getitem__(self, name: str) -> Any:
        """Return the present value."""
        return self._node.get_parameter(name).value

    def pipeline_config(self) -> PipelineConfig:
        """Return the settings of the pipeline."""
        return PipelineConfig(**{spec.field: self[spec.name] for spec in TABLE if spec.field})

    def _validate(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            # Others are declared by rclpy itself: use_sim_time, qos_overrides.
            if spec := self._specs.get(parameter.name):
                problem = spec.problem(parameter.value)
                if spec.change == 'unconfigured' and self._is_configured():
                    problem = f'{spec.name} is read on configure: ' \
                              'deactivate and clean up the node first'
                if problem:
                    return SetParametersResult(successful=False, reason=problem)
        problem = self._problem_of_prompts(parameters)
        return SetParametersResult(successful=not problem, reason=problem)

    def _problem_of_prompts(self, parameters: Sequence[Parameter]) -> str:
        """Return why prompts cannot be changed to these while they are in use, or ``''``."""
        given = {one.name: one.value for one in parameters if one.name in PROMPTS}
        if not given or not self._is_configured():
            return ''
        try:
            Prompts.load(*(given[name] if name in given else self[name] for name in PROMPTS))
        except PromptError as error:
            return str(error)
        return ''
