# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of vts_node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rclpy.node import Node
from rclpy.parameter import Parameter

from vts_ros.errors import PromptError, TaskError
from vts_ros.nodes.parameter_table import CAMERAS, Parameters, Spec
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.report import MAX_ANSWER_AGE_SEC
from vts_ros.pipeline.settings import pipeline_config, settings_of
from vts_ros.vlm.prompts import Prompts
from vts_ros.vlm.tasks import prompt_file


def _settings(group: str) -> Iterator[Spec]:
    return map(Spec.of, settings_of(group))


TABLE: tuple[Spec, ...] = (
    Spec('autostart', True, 'Configure and activate at start; false waits for a lifecycle manager',
         change='never'),
    *CAMERAS,
    Spec('max_frame_age_sec', 3.0, 'Cameras whose newest picture is older, by its stamp or '
         'its arrival, are left out; 0 accepts any age', change='live', span=(0.0, 3600.0)),
    Spec('max_answer_age_sec', MAX_ANSWER_AGE_SEC, 'Nothing stays on ~/risk, ~/markers and '
         '~/scene_description for longer without a new answer; then the risk is unknown',
         change='live', span=(0.5, 3600.0)),
    Spec('no_answer_warn_sec', 30.0, 'Time without an answer, although pictures arrive, after '
         'which the diagnostics warn; 0 never warns', change='live', span=(0.0, 3600.0)),
    *_settings('buffer'),
    Spec('pipeline.lazy', False, 'Describe only while somebody subscribes to descriptions',
         change='live'),
    Spec('pipeline.period_sec', 0.0, 'Shortest time between the starts of two descriptions; '
         '0 describes as often as the machine can', change='live', span=(0.0, 3600.0)),
    *_settings('pipeline'),
    *_settings('sparsify'),
    *_settings('engine'),
    Spec('engine.frame_size', '', 'Width and height of the pictures, such as 848x480: engines are '
         'then ready before the first picture; empty leaves it to the first picture'),
    Spec('engine.build_only', False, 'Build the engines for engine.frame_size, or else for '
         '848x480, and end', change='never'),
    *_settings('vlm'),
    *_settings('signals'),
    Spec('audio.listen', False, 'Listen to `audio`: sirens, horns, screeching tyres, crashes and '
         'bells of level crossings, see docs/senses.md'),
    Spec('audio.sample_rate', 16000, 'Samples per second of messages that do not say it, while '
         'there is no `audio_info`', span=(8000, 192000)),
    *_settings('audio'),
    Spec('markers.frame_id', 'base_link', 'Frame of the text in RViz'),
)
#: Language and file, as :meth:`Prompts.load` takes them.
PROMPTS = ('vlm.language', 'vlm.prompts')


class VtsParameters(Parameters):
    """Those of vts_node; see :class:`Parameters`."""

    def __init__(self, node: Node, is_configured: Callable[[], bool]) -> None:
        super().__init__(node, is_configured, TABLE)

    def pipeline_config(self) -> PipelineConfig:
        """Return the settings of the pipeline."""
        return pipeline_config(self)

    def problem_of(self, parameter: Parameter) -> str:
        """Refuse an address that holds a secret as well: parameters can be read by anybody."""
        is_address = parameter.name == 'vlm.url' and isinstance(parameter.value, str)
        return super().problem_of(parameter) or (
            problem_of_address(parameter.value) if is_address else '')

    def problem_of_all(self, parameters: Sequence[Parameter]) -> str:
        """Return why prompts cannot be changed to these while they are in use, or ``''``."""
        given = {parameter.name: parameter.value for parameter in parameters
                 if parameter.name in PROMPTS}
        if not given:
            return ''
        try:
            language, prompts = (given.get(name, self[name]) for name in PROMPTS)
            Prompts.load(language, prompt_file(self['pipeline.task'], prompts))
        except (PromptError, TaskError) as error:
            return str(error)
        return ''


def problem_of_address(url: str) -> str:
    """Return why ``vlm.url`` cannot be this, or ``''``; a secret in it is not repeated."""
    # In whatever place: an address that is not well formed may hold a secret as well.
    if not {'@', '?', '#'} & set(url):
        return ''
    return ('vlm.url holds a user, a password or a query, and parameters can be read by anybody '
            'on the network: put the key into the environment variable OPENAI_API_KEY, and give '
            'the address alone')
