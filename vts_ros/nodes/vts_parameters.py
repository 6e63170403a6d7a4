# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of vts_node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from vts_ros.engines import BACKENDS, PRECISIONS
from vts_ros.errors import PromptError
from vts_ros.nodes.parameter_table import CAMERAS, Parameters, Spec
from vts_ros.pipeline.pipeline import MODES, PipelineConfig, VLM_BACKENDS
from vts_ros.vlm.prompts import Prompts


def _of_pipeline(name: str, field: str, description: str, **rest: Any) -> Spec:
    return Spec(name, getattr(PipelineConfig, field), description, field=field, **rest)


TABLE: tuple[Spec, ...] = (
    Spec('autostart', True, 'Configure and activate at start; false waits for a lifecycle manager',
         change='never'),
    *CAMERAS,
    Spec('max_frame_age_sec', 3.0, 'Cameras whose newest picture is older, by its stamp or by '
         'when it came, are left out; 0 takes any age', change='live', span=(0.0, 3600.0)),
    Spec('max_answer_age_sec', 10.0, 'Nothing stays on ~/risk, ~/markers and ~/scene_description '
         'for longer without a new answer: the risk is then unknown', change='live',
         span=(0.5, 3600.0)),
    Spec('no_answer_warn_sec', 30.0, 'Without an answer for so long although pictures arrive, the '
         'diagnostics warn; 0 never warns', change='live', span=(0.0, 3600.0)),
    Spec('buffer.frames', 5, 'Frames of a window, per camera', span=(1, 32)),
    Spec('buffer.interval_sec', 0.4, 'Spacing of the frames of a window', span=(0.0, 60.0)),
    Spec('buffer.max_skew_sec', 0.1, 'How far apart the frames of several cameras may be to be '
         'taken as of one moment; at most half of buffer.interval_sec is used', span=(0.0, 10.0)),
    Spec('pipeline.lazy', False, 'Describe only while somebody subscribes to what is described',
         change='live'),
    Spec('pipeline.period_sec', 0.0, 'Shortest time between the starts of two descriptions; '
         '0 describes as often as the machine can', change='live', span=(0.0, 3600.0)),
    _of_pipeline('pipeline.deadline_ms', 'deadline_ms', 'Time for a description: fewer visual '
                 'tokens and shorter answers keep it, more tokens where risk is; 0 is without',
                 change='live', span=(0.0, 600_000.0)),
    _of_pipeline('sparsify.keep_ratio', 'keep_ratio', 'Share of the visual tokens that the '
                 'language model gets; 1 keeps all', change='live', span=(0.01, 1.0)),
    _of_pipeline('sparsify.min_keep_ratio', 'min_keep_ratio', 'Share of the visual tokens that is '
                 'kept whatever the deadline', span=(0.01, 1.0)),
    _of_pipeline('sparsify.alpha', 'alpha', 'Weight of dissimilarity to the key frame against '
                 'saliency', span=(0.0, 1.0)),
    _of_pipeline('sparsify.search_radius', 'search_radius', 'Cells around a token in which the '
                 'key frame is searched for the like', span=(0, 8)),
    _of_pipeline('sparsify.hysteresis', 'hysteresis', 'How much more salient a frame must be to '
                 'take over as key frame', span=(0.0, 1.0)),
    _of_pipeline('sparsify.mode', 'mode', 'window: choose anew among all frames of every window; '
                 'causal: choose once for every frame when it comes, and read it at once, so that '
                 'an answer pays for question and answer only', choices=MODES),
    _of_pipeline('sparsify.group_frames', 'group_frames', 'Causal mode: frames per camera that '
                 'are compared with one key frame; an answer is about one to two times as many',
                 span=(1, 64)),
    _of_pipeline('engine.backend', 'engine_backend', 'What runs the proposal network',
                 choices=('auto', *BACKENDS)),
    _of_pipeline('engine.precision', 'engine_precision', 'Precision of the proposal network; int8 '
                 'needs `vts compile --precision int8` once', choices=PRECISIONS),
    Spec('engine.frame_size', '', 'Width and height of the pictures, such as 848x480: engines are '
         'then ready before the first picture; empty leaves it to the first picture'),
    Spec('engine.build_only', False, 'Build the engines for engine.frame_size, or else for '
         '848x480, and end', change='never'),
    _of_pipeline('engine.threads', 'threads', 'Threads on the CPU, of engines and language model; '
                 '0 chooses: one for small models, else all cores but one',
                 span=(0, 256)),
    _of_pipeline('vlm.model', 'model', 'Checkpoint: a shipped name, a directory, or a hub id in '
                 'the local cache; on a server the name that it has there'),
    _of_pipeline('vlm.device', 'device', 'Device of the language model: auto, cpu, cuda, cuda:1'),
    _of_pipeline('vlm.tokens_per_frame', 'tokens_per_frame', 'Most visual tokens of a frame '
                 'before pruning: larger pictures are scaled down for the language model, where '
                 'its family takes pictures of any size (Qwen); 0 leaves it to the image '
                 'processor of the checkpoint. `vts models --explain` tells what it costs',
                 span=(0, 16384)),
    _of_pipeline('vlm.max_new_tokens', 'max_new_tokens', 'Longest answer in tokens',
                 span=(1, 4096)),
    _of_pipeline('vlm.kv_tokens', 'kv_tokens', 'Causal mode: most tokens whose keys and values '
                 'are kept; question and answer come on top', span=(64, 1048576)),
    _of_pipeline('vlm.draft', 'draft', 'Guess descriptions from the last one, token by token '
                 'checked by the model: the same answers, sooner where scenes stay alike'),
    _of_pipeline('vlm.structured', 'structured', 'Hold descriptions to their form while they are '
                 'written, so that any model gives a report that can be read; needs llguidance'),
    _of_pipeline('vlm.dtype', 'dtype', 'Floats of the language model: auto (those of the '
                 'checkpoint, float32 where the processor has no half floats), float32, bfloat16, '
                 'float16'),
    _of_pipeline('vlm.attn_implementation', 'attn_implementation', 'Attention of the language '
                 'model: auto, sdpa, eager, flash_attention_2, or what else transformers know'),
    _of_pipeline('vlm.quantization', 'quantization', 'Quantise at loading: quantization_config of '
                 'transformers as JSON; empty takes the checkpoint as it is'),
    _of_pipeline('vlm.local_files_only', 'local_files_only', 'Never download a checkpoint',
                 change='never'),
    _of_pipeline('vlm.backend', 'vlm_backend', 'Where the language model runs: transformers (in '
                 'this process) or openai (behind a server with that protocol)',
                 choices=VLM_BACKENDS, change='never'),
    _of_pipeline('vlm.url', 'url', 'Server of the backend openai; its key is read from the '
                 'environment, OPENAI_API_KEY', change='never'),
    _of_pipeline('vlm.timeout_sec', 'timeout_sec', 'Longest time for an answer of the server, '
                 'retries included', span=(0.1, 600.0)),
    _of_pipeline('vlm.retries', 'retries', 'How often a request is repeated when the server '
                 'cannot be reached or has no room', span=(0, 10)),
    Spec('vlm.tell_vehicle', False, 'Tell the model the speed of the car and whether it turns, '
         'from `twist`; the embedded model does not know such sentences', change='live'),
    _of_pipeline('vlm.language', 'language', 'Language of prompt and answer, one of the prompt '
                 'file', change='live'),
    _of_pipeline('vlm.prompts', 'prompts', 'Prompt file of your own; empty takes '
                 'config/prompts.yaml of the package', change='never'),
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
        return PipelineConfig(**{spec.field: self[spec.name] for spec in TABLE if spec.field})

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
            Prompts.load(*(given[name] if name in given else self[name] for name in PROMPTS))
        except PromptError as error:
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
