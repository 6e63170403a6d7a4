# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The settings of window and pipeline, declared once.

The parameters of the node, config/vts.yaml, docs/parameters.md and the options of ``vts annotate``
are made from this table. Nothing heavy is imported here: help of the command line is fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from vts_ros.engines.names import BACKEND_NAMES, PRECISIONS
from vts_ros.pipeline.config import (
    FRAMES_AS,
    INSTRUCTIONS,
    MODES,
    PipelineConfig,
    SERVER_PRUNING,
    SPEAK,
    VLM_BACKENDS,
)

#: When a value may change: at any time, while the node is unconfigured, or never.
Change = Literal['live', 'unconfigured', 'never']


@dataclass(frozen=True)
class Setting:
    """
    One setting.

    Attributes
    ----------
    name
        With the group that it belongs to, such as ``vlm.model``.
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


def _of_pipeline(name: str, field: str, description: str, **rest: Any) -> Setting:
    return Setting(name, getattr(PipelineConfig, field), description, field=field, **rest)


SETTINGS: tuple[Setting, ...] = (
    _of_pipeline('pipeline.task', 'task', 'What the cameras are watched for, with prompts, answer '
                 'form, risk words and colours: a shipped task (driving, warehouse), or a folder '
                 'of your own, see docs/tasks.md', change='never'),
    Setting('buffer.frames', 5, 'Frames of a window, per camera', span=(1, 32)),
    _of_pipeline('buffer.interval_sec', 'interval_sec', 'Spacing of the frames of a window',
                 span=(0.0, 60.0)),
    Setting('buffer.max_skew_sec', 0.1, 'Largest time difference between the frames of several '
            'cameras in one set; at most half of buffer.interval_sec is used', span=(0.0, 10.0)),
    _of_pipeline('pipeline.deadline_ms', 'deadline_ms', 'Time limit of a description, met with '
                 'fewer visual tokens (more where there may be a risk) and shorter answers; 0 is '
                 'no limit',
                 change='live', span=(0.0, 600_000.0)),
    _of_pipeline('pipeline.speak', 'speak', 'When the language model is asked. always: about '
                 'every window; change: when the scene may have changed, otherwise the last '
                 'answer is confirmed with a new stamp; risk: as change, but an answer ends '
                 'after the risk if that is unchanged', choices=SPEAK),
    _of_pipeline('pipeline.speak_every_sec', 'speak_every_sec', 'Unless pipeline.speak is always: '
                 'longest time without asking the language model',
                 span=(0.0, 60.0)),
    _of_pipeline('sparsify.keep_ratio', 'keep_ratio', 'Share of the visual tokens that the '
                 'language model gets; 1 keeps all', change='live', span=(0.01, 1.0)),
    _of_pipeline('sparsify.min_keep_ratio', 'min_keep_ratio', 'Smallest share of the visual '
                 'tokens to which a deadline may reduce them', span=(0.01, 1.0)),
    _of_pipeline('sparsify.mode', 'mode', 'window: choose tokens anew in every window; causal: '
                 'choose and prefill the tokens of a frame once, on arrival, so that an answer '
                 'costs only its prompt and text', choices=MODES),
    _of_pipeline('sparsify.group_frames', 'group_frames', 'Causal mode: frames per camera '
                 'with one key frame; an answer is about one to two times as many',
                 span=(1, 64)),
    _of_pipeline('engine.backend', 'engine_backend', 'Engine of the proposal network',
                 choices=('auto', *BACKEND_NAMES)),
    _of_pipeline('engine.precision', 'engine_precision', 'Precision of the proposal network; int8 '
                 'needs `vts compile --precision int8` once', choices=PRECISIONS),
    _of_pipeline('engine.threads', 'engine_threads', 'Threads of the proposal network in ONNX '
                 'Runtime on the CPU; 0 takes a thread per core, none of which waits busily',
                 span=(0, 256)),
    _of_pipeline('vlm.model', 'model', 'Checkpoint: a shipped name, a directory, or a hub id in '
                 'the local cache; on a server the name that it has there'),
    _of_pipeline('vlm.adapter', 'adapter', 'PEFT adapter, such as LoRA, that is merged into the '
                 'weights of vlm.model at loading: a shipped name (warehouse_adapter), a '
                 'directory, or a hub id in the local cache; needs peft. An adapter that names '
                 'its model may also be vlm.model itself'),
    _of_pipeline('vlm.device', 'device', 'Device of the language model: auto, cpu, cuda, cuda:1'),
    _of_pipeline('vlm.tokens_per_frame', 'tokens_per_frame', 'Most visual tokens of a frame '
                 'before pruning: larger pictures are scaled down for the language model, where '
                 'its family takes pictures of any size (Qwen, Molmo2); 0 leaves it to the image '
                 'processor of the checkpoint. `vts models --explain` shows the cost',
                 span=(0, 16384)),
    _of_pipeline('vlm.frames_as', 'frames_as', 'images: every frame is a picture; video: '
                 'frames are those of a video. With Qwen2-VL to Qwen3.5 two of them share the '
                 'tokens of one, and an even buffer.frames costs least; also for '
                 'LLaVA-OneVision, Molmo2 and SmolVLM', choices=FRAMES_AS),
    _of_pipeline('vlm.instructions', 'instructions', 'Where the prompt says what is asked of '
                 'every window. after: behind the pictures, as most models are trained; first: '
                 'before them, where it is read once, so that the first token comes sooner. Try '
                 'what your model says then', choices=INSTRUCTIONS),
    _of_pipeline('vlm.max_new_tokens', 'max_new_tokens', 'Longest answer in tokens',
                 span=(1, 4096)),
    _of_pipeline('vlm.kv_tokens', 'kv_tokens', 'Causal mode: most tokens in the KV cache; '
                 'question and answer come on top', span=(64, 1048576)),
    _of_pipeline('vlm.draft', 'draft', 'Draft descriptions from the last ones, and verify many '
                 'tokens in one pass: faster, and in float32 the same text'),
    _of_pipeline('vlm.structured', 'structured', 'Allow only tokens that fit the form of a '
                 'description, so that any model gives a report that can be parsed; needs '
                 'llguidance'),
    _of_pipeline('vlm.dtype', 'dtype', 'Floats of the language model: auto (those of the '
                 'checkpoint, float32 on a CPU without instructions for them), float32, bfloat16, '
                 'float16'),
    _of_pipeline('vlm.attn_implementation', 'attn_implementation', 'Attention of the language '
                 'model: auto, sdpa, eager, flash_attention_2, or another of transformers'),
    _of_pipeline('vlm.quantization', 'quantization', 'Quantise at loading: int8 (on a CPU), '
                 'or quantization_config of transformers as JSON; empty takes the checkpoint as '
                 'it is; `vts eval quantized` measures what it costs in quality'),
    _of_pipeline('vlm.threads', 'threads', 'Threads of the language model on the CPU, and of all '
                 'that PyTorch runs there; 0 chooses: one for small models, otherwise all cores '
                 'but one', span=(0, 256)),
    _of_pipeline('vlm.local_files_only', 'local_files_only', 'Never download a checkpoint',
                 change='never'),
    _of_pipeline('vlm.backend', 'vlm_backend', 'Where the language model runs: transformers (in '
                 'this process) or openai (behind a server with that protocol)',
                 choices=VLM_BACKENDS, change='never'),
    _of_pipeline('vlm.url', 'url', 'Server of the backend openai; its key is read from the '
                 'environment, OPENAI_API_KEY', change='never'),
    _of_pipeline('vlm.timeout_sec', 'timeout_sec', 'Time limit for an answer of the server, '
                 'including retries; of one that is not complete then, what is there is taken',
                 span=(0.1, 600.0)),
    _of_pipeline('vlm.retries', 'retries', 'Number of retries if the server cannot be reached '
                 'or is busy', span=(0, 10)),
    _of_pipeline('vlm.server_pruning', 'server_pruning', 'What a server is sent: pictures scaled '
                 'down to what is kept (scaled), or the list of tokens to keep (exact), which '
                 'vLLM takes with the plugin of this package, see docs/vllm.md',
                 choices=SERVER_PRUNING, change='never'),
    _of_pipeline('vlm.server_family', 'server_family', 'Family of the model on the server, in '
                 'whose way it is told of pictures and boxes: model_type of its config.json, such '
                 'as qwen3_vl, or plain; empty reads it from the name that the model has there'),
    Setting('signals.topics', [''], 'What the car says of itself beside `twist` and `imu`, a line '
            'per signal: name (speed, acceleration, yaw_rate, steering, brake, wipers or '
            'turn_signal), topic, type, field, and options such as unit=km/h; see docs/senses.md'),
    Setting('signals.evidence', False, 'Hard braking and sharp turns of the car move visual '
            'tokens to the frames of their time, within the same budget', change='live'),
    Setting('vlm.tell_vehicle', False, 'Tell the model what the car does, from `twist`, `imu` '
            'and signals.topics; the embedded model was not trained with that', change='live'),
    _of_pipeline('vlm.language', 'language', 'Language of prompt and answer, one of the prompt '
                 'file', change='live'),
    _of_pipeline('vlm.prompts', 'prompts', 'Prompt file of your own; empty takes '
                 'that of pipeline.task', change='never'),
    Setting('audio.budget', True, 'Give more of the visual tokens to the frames of a moment in '
            'which a warning sound is heard', change='live'),
    Setting('audio.tell', True, 'Tell the language model what is heard; the embedded model was '
            'not trained with that', change='live'),
)


def settings_of(group: str) -> tuple[Setting, ...]:
    """Return the settings whose names begin with a group."""
    return tuple(setting for setting in SETTINGS if setting.name.startswith(f'{group}.'))


class Values(Protocol):
    """A value for the name of each setting."""

    def __getitem__(self, name: str) -> Any:
        """Return the value."""


def pipeline_config(values: Values) -> PipelineConfig:
    """Return the settings of the pipeline from the values of all names."""
    return PipelineConfig(**{
        setting.field: values[setting.name] for setting in SETTINGS if setting.field})
