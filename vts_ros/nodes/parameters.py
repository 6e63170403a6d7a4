# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node as one table: declaration, validation and reading follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

from vts_ros.engines import BACKENDS, PRECISIONS
from vts_ros.images import camera_name
from vts_ros.pipeline import PipelineConfig, VLM_BACKENDS

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
    Spec('image_transport', 'compressed', 'sensor_msgs/CompressedImage on `image_raw/compressed` '
         'or sensor_msgs/Image on `image_raw`', choices=('compressed', 'raw')),
    Spec('max_frame_age_sec', 3.0, 'Cameras whose newest picture is older, by its stamp or by '
         'when it came, are left out; 0 takes any age', change='live', span=(0.0, 3600.0)),
    Spec('buffer.frames', 5, 'Frames of a window, per camera', span=(1, 32)),
    Spec('buffer.interval_sec', 0.4, 'Spacing of the frames of a window', span=(0.0, 60.0)),
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
    _of_pipeline('engine.precision', 'engine_precision', 'Precision of the proposal network; int8 '
                 'needs `vts compile --precision int8` once', choices=PRECISIONS),
    Spec('engine.frame_size', '', 'Width and height of the pictures, such as 848x480: engines are '
         'then ready before the first picture; empty leaves it to the first picture'),
    Spec('engine.build_only', False, 'Build the engines for engine.frame_size, or else for '
         '848x480, and end', change='never'),
    _of_pipeline('engine.threads', 'threads', 'Threads on the CPU; 0 leaves them to the runtimes',
                 span=(0, 256)),
    _of_pipeline('vlm.model', 'model', 'Checkpoint: a shipped name, a directory, or a hub id in '
                 'the local cache; on a server the name that it has there'),
    _of_pipeline('vlm.device', 'device', 'Device of the language model: auto, cpu, cuda, cuda:1'),
    _of_pipeline('vlm.max_new_tokens', 'max_new_tokens', 'Longest answer in tokens',
                 span=(1, 4096)),
    _of_pipeline('vlm.structured', 'structured', 'Hold descriptions to their form while they are '
                 'written, so that any model gives a report that can be read; needs llguidance'),
    _of_pipeline('vlm.dtype', 'dtype', 'Floats of the language model: auto (those of the '
                 'checkpoint), float32, bfloat16, float16'),
    _of_pipeline('vlm.attn_implementation', 'attn_implementation', 'Attention of the language '
                 'model: auto, sdpa, eager, flash_attention_2, or what else transformers know'),
    _of_pipeline('vlm.quantization', 'quantization', 'Quantise at loading: quantization_config of '
                 'transformers as JSON; empty takes the checkpoint as it is'),
    _of_pipeline('vlm.local_files_only', 'local_files_only', 'Never download a checkpoint'),
    _of_pipeline('vlm.backend', 'vlm_backend', 'Where the language model runs: transformers (in '
                 'this process) or openai (behind a server with that protocol)',
                 choices=VLM_BACKENDS),
    _of_pipeline('vlm.url', 'url', 'Server of the backend openai; its key is read from the '
                 'environment, OPENAI_API_KEY'),
    _of_pipeline('vlm.timeout_sec', 'timeout_sec', 'Longest time for an answer of the server, '
                 'retries included', span=(0.1, 600.0)),
    _of_pipeline('vlm.retries', 'retries', 'How often a request is repeated when the server '
                 'cannot be reached or has no room', span=(0, 10)),
    _of_pipeline('vlm.language', 'language', 'Language of prompt and answer, one of the prompt '
                 'file'),
    _of_pipeline('vlm.prompts', 'prompts', 'Prompt file of your own; empty takes '
                 'config/prompts.yaml of the package'),
    Spec('markers.frame_id', 'base_link', 'Frame of the text in RViz'),
)
_SPECS = {spec.name: spec for spec in TABLE}


class Parameters:
    """
    The declared parameters of a node, read by name.

    Parameters
    ----------
    node
        Gets the parameters declared.
    is_configured
        Tells whether those that are read on configure are in use.

    Raises
    ------
    rclpy.exceptions.ParameterException
        If a value given at start cannot be used.

    """

    def __init__(self, node: Node, is_configured: Callable[[], bool]) -> None:
        self._node = node
        self._is_configured = is_configured
        # Registered first, so that it also checks the values that are given at start.
        node.add_on_set_parameters_callback(self._validate)
        node.declare_parameters(
            '', [(spec.name, spec.default, spec.descriptor()) for spec in TABLE])

    def __getitem__(self, name: str) -> Any:
        """Return the present value."""
        return self._node.get_parameter(name).value

    def pipeline_config(self) -> PipelineConfig:
        """Return the settings of the pipeline."""
        return PipelineConfig(**{spec.field: self[spec.name] for spec in TABLE if spec.field})

    def _validate(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            # Others are declared by rclpy itself: use_sim_time, qos_overrides.
            if spec := _SPECS.get(parameter.name):
                problem = spec.problem(parameter.value)
                if spec.change == 'unconfigured' and self._is_configured():
                    problem = f'{spec.name} is read on configure: ' \
                              'deactivate and clean up the node first'
                if problem:
                    return SetParametersResult(successful=False, reason=problem)
        return SetParametersResult(successful=True)
