# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A window as a video for a server, which is what vLLM's own pruning takes."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vts_ros.vlm.prompts import Prompt
from vts_ros.vlm.served_keep_lists import KeepListPrompt, KeepListServedVlm
from vts_ros.vlm.served_prompt import ServedFrame, video_part

_IMAGE = "{% if part['type'] == 'image' %}"
_VIDEO = ("{% if part['type'] == 'video' %}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
          "{% elif part['type'] == 'image' %}")
#: What pictures and videos have in common.
_SAME = ('do_convert_rgb', 'do_normalize', 'do_rescale', 'do_resize', 'image_mean', 'image_std',
         'merge_size', 'patch_size', 'resample', 'rescale_factor', 'temporal_patch_size')
_MOST_FRAMES = 64


class VideoPrompt(KeepListPrompt):
    """A window whose frames are sent as one video."""

    def request(self, keep: NDArray[np.int32] | None) -> dict[str, Any]:
        """Return what a request says; what is kept is for the server to choose."""
        return {'messages': self.chat([video_part([frame.picture for frame in self.frames])])}


class VideoServedVlm(KeepListServedVlm):
    """A model behind a server that is sent videos, scaled as its pictures are."""

    def _check_server(self) -> None:
        """Ask for nothing: the server needs no plugin."""

    def prepare(self, features: Sequence[ServedFrame], captions: Sequence[str],
                prompt: Prompt) -> VideoPrompt:
        """Put frames, oldest first, in a prompt."""
        return VideoPrompt(tuple(features), tuple(captions), prompt)


def video_checkpoint(source: Path, folder: Path) -> None:
    """
    Write a checkpoint that takes videos, too: the embedded one, whose template knows pictures.

    Its weights are the same file.

    Parameters
    ----------
    source, folder
        The checkpoint, and an empty folder.

    """
    for path in source.iterdir():
        (folder / path.name).symlink_to(path.resolve())
    template = (source / 'chat_template.jinja').read_text()
    assert _IMAGE in template
    (folder / 'chat_template.jinja').unlink()
    (folder / 'chat_template.jinja').write_text(template.replace(_IMAGE, _VIDEO))
    pictures = json.loads((source / 'preprocessor_config.json').read_text())
    size = {**pictures['size'], 'longest_edge': _MOST_FRAMES * pictures['size']['longest_edge']}
    (folder / 'video_preprocessor_config.json').write_text(json.dumps({
        **{name: pictures[name] for name in _SAME}, 'size': size,
        'video_processor_type': 'Qwen3VLVideoProcessor'}))
