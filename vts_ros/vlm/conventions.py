# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How each family was trained to be told of pictures and to say where something is.

The words of a prompt are in the folder of its task; what is in them of a family is here. Of
transformers the processors and chat templates are the source, of boxes what the authors publish.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vts_ros.vlm.boxes import BoxForm, ZERO_TO_ONE


@dataclass(frozen=True)
class Convention:
    """
    What a family knows.

    Attributes
    ----------
    caption
        Before each picture: ``{age}`` in seconds, 0.0 for the newest; ``{time}`` in seconds since
        the first; ``{number}`` of the picture among those of its camera, from 1.
    caption_causal
        The same in causal mode, where no age is known when a picture comes.
    box
        How a box is written.
    has_system
        Whether it knows a system message. To others its text is said before the instruction.
    names_camera
        Whether it can be asked, of several cameras, in which one something is.
    numbers_cameras
        Whether it has learned to tell several cameras apart by number, in the order of their
        names, see Prompt.said.
    signal_tokens
        Learned tokens for what the car does that an adapter has brought, see Vehicle.tokens.

    """

    caption: str = '{age}s'
    caption_causal: str = '{time}s'
    box: BoxForm = ZERO_TO_ONE
    has_system: bool = True
    names_camera: bool = True
    # An adapter brings these: the family is the same.
    numbers_cameras: bool = field(default=False, compare=False)
    signal_tokens: tuple[str, ...] = field(default=(), compare=False)


#: Of all whose authors name nothing else.
PLAIN = Convention()
#: Of the models that are trained here: with pictures of one camera.
TRAINED_HERE = Convention(names_camera=False)

#: By ``model_type`` of a checkpoint's config.json.
CONVENTIONS: dict[str, Convention] = {
    # Boxes from 0 to 1000 (https://nvidia.github.io/cosmos-framework/skills/
    # cosmos3-inference-reasoning/SKILL/). "<1.2 seconds>" before each step of a video:
    # processing_cosmos3_edge.py of transformers.
    'cosmos3_edge': Convention('<{time} seconds>', '<{time} seconds>', BoxForm(scale=1000.0)),
    # Nothing is published of several pictures, of time or of boxes.
    'fast_vlm': PLAIN,
    # Nothing is published of time or of boxes.
    'gemma3': PLAIN,
    # Its model card shows turns of user and assistant alone, and no boxes:
    # https://huggingface.co/HuggingFaceM4/Idefics3-8B-Llama3
    'idefics3': Convention(has_system=False),
    # "Frame1: " before each frame: processing_internvl.py of transformers. Boxes from 0 to 1000
    # after their label:
    # https://internvl.readthedocs.io/en/latest/get_started/chat_data_format.html
    'internvl': Convention('Frame{number}: ', 'Frame{number}: ', BoxForm(scale=1000.0)),
    # Frames of a video have no text. Boxes from 0 to 1 since LLaVA 1.5:
    # https://github.com/haotian-liu/LLaVA/issues/606
    'llava_onevision': PLAIN,
    # Its chat template numbers the pictures and takes no system message. Points from 0 to 1000
    # (olmo/preprocessing/point_formatter.py of https://github.com/allenai/molmo2); nothing is
    # published of boxes.
    'molmo2': Convention(box=BoxForm(scale=1000.0), has_system=False),
    # Tells frames in whole seconds (processing_smolvlm.py of transformers), which those of a
    # window share, so that they are told by age. Boxes: nothing is published.
    'smolvlm': PLAIN,
    # Frames have no text. Boxes from 0 to 1000 after their label, between tokens of their own:
    # https://arxiv.org/abs/2409.12191 and https://github.com/QwenLM/Qwen3-VL/issues/866
    'qwen2_vl': Convention(box=BoxForm(scale=1000.0)),
    # Frames have no text. Boxes in pixels of the resized picture, before their label:
    # https://github.com/QwenLM/Qwen3-VL/issues/676 and the notebook spatial_understanding that is
    # named there.
    'qwen2_5_vl': Convention(box=BoxForm('bbox_2d', None, label_first=False)),
    # "<1.2 seconds>" before each step of a video, from its start: processing_qwen3_vl.py of
    # transformers. Boxes from 0 to 1000, before their label:
    # https://github.com/QwenLM/Qwen3-VL/blob/main/cookbooks/2d_grounding.ipynb
    'qwen3_vl': Convention('<{time} seconds>', '<{time} seconds>',
                           BoxForm('bbox_2d', 1000.0, label_first=False)),
    # transformers give it the processor of Qwen3-VL. Its own authors say nothing of boxes that is
    # known here: taken to be those of Qwen3-VL.
    'qwen3_5': Convention('<{time} seconds>', '<{time} seconds>',
                          BoxForm('bbox_2d', 1000.0, label_first=False)),
}
