# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a pipeline is made from; ``settings`` says what each value means and may be."""

from __future__ import annotations

from dataclasses import dataclass

from vts_ros.engines.names import Precision

#: Where the language model runs: in this process, or behind a server with the OpenAI protocol.
VLM_BACKENDS = ('transformers', 'openai')
#: What a server is told of tokens to keep: smaller pictures, or the list itself, which vLLM takes
#: with the plugin of this package.
SERVER_PRUNING = ('scaled', 'exact')
#: When tokens are chosen: anew for every window, or once for every frame when it comes.
MODES = ('window', 'causal')
#: How frames are handed over: each as a picture, or two as one step of a video.
FRAMES_AS = ('images', 'video')
#: When the language model is asked: for every window; where the scene has changed; the same, and
#: then only about the risk unless that has changed.
SPEAK = ('always', 'change', 'risk')
#: Where a prompt says what is asked of every window: after the pictures, or before them.
INSTRUCTIONS = ('after', 'first')
#: The default task.
DRIVING = 'driving'
#: The default model; a server has none of this name, and is then asked for its first.
EMBEDDED = 'embedded'


@dataclass(frozen=True)
class PipelineConfig:
    """
    Settings of the pipeline.

    Attributes
    ----------
    task
        What the cameras are watched for: a shipped task, or a folder of one's own.
    model
        Checkpoint: a shipped name, a directory, or a hub id that is in the local cache. With the
        backend ``openai`` the name on the server; ``embedded`` takes the first it has.
    keep_ratio
        Share of the visual tokens that the language model gets; 1 keeps all.
    deadline_ms
        Time for a description. Keep ratio and length of the answer are lowered as far as that
        takes; 0 leaves them as they are.
    min_keep_ratio
        With a deadline: never keeps less.
    language
        Language of prompt and answer.
    prompts
        Prompt file of one's own; empty takes that of the task.
    instructions
        One of INSTRUCTIONS.
    structured
        Whether descriptions are held to their form while they are written.
    adapter
        PEFT adapter that is merged into the weights of the model; empty is none.
    dtype, attn_implementation, local_files_only
        See ``Vlm.load``.
    threads
        Threads of the language model on the CPU; 0 chooses, see ``factory``.
    quantization
        Quantisation of the weights at loading: ``int8``, or JSON of a ``quantization_config``;
        empty takes the checkpoint as it is.
    vlm_backend
        One of VLM_BACKENDS.
    url, timeout_sec, retries
        Of the server, see ``ServedVlm``.
    server_family
        Family of a served model by ``model_type``, or ``plain``; empty leaves that to its name.
    server_pruning
        One of SERVER_PRUNING: what a server is told of tokens to keep.
    engine_backend, engine_precision, engine_threads
        What runs the proposal network and the window step, see :func:`make_engines`.
    tokens_per_frame, frames_as, interval_sec
        See ``Vlm.load``.
    mode
        One of MODES: ``window`` chooses among all frames of a window and has the language model
        read it whole; ``causal`` prunes and reads a frame once, when it comes.
    group_frames
        Causal mode: frames per camera that are compared with one key frame, at most; an answer is
        about as many at least where the scene has not changed, and about twice as many at most.
    kv_tokens
        Causal mode: most tokens whose keys and values are kept; question and answer come on top.
    draft
        Whether the last descriptions are drafts of the next one: sooner, in float32 the same
        words. Not with a model behind a server.
    speak
        One of SPEAK.
    speak_every_sec
        Where it is not ``always``: nothing is said for longer without asking the language model.

    """

    task: str = DRIVING
    model: str = EMBEDDED
    keep_ratio: float = 0.6
    deadline_ms: float = 0.0
    min_keep_ratio: float = 0.2
    language: str = 'en'
    prompts: str = ''
    instructions: str = 'after'
    max_new_tokens: int = 160
    structured: bool = False
    device: str = 'auto'
    dtype: str = 'auto'
    attn_implementation: str = 'auto'
    quantization: str = ''
    adapter: str = ''
    threads: int = 0
    local_files_only: bool = True
    vlm_backend: str = 'transformers'
    url: str = 'http://localhost:8000/v1'
    timeout_sec: float = 10.0
    retries: int = 2
    server_pruning: str = 'scaled'
    server_family: str = ''
    engine_backend: str = 'auto'
    engine_precision: Precision = 'fp32'
    engine_threads: int = 0
    tokens_per_frame: int = 256
    frames_as: str = 'images'
    interval_sec: float = 0.4
    mode: str = 'window'
    group_frames: int = 5
    kv_tokens: int = 8192
    draft: bool = True
    speak: str = 'always'
    speak_every_sec: float = 5.0
