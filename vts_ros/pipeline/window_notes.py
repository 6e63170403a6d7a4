# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Notes in the log about windows, each once: their cost, and pruning that does nothing."""

from __future__ import annotations

import logging

from vts_ros.pipeline.context import PreparedWindow
from vts_ros.pipeline.cost import readable

LOG = logging.getLogger(__name__)
#: So many windows of one frame in a row are no start that is still short of frames.
_ALONE = 3


class WindowNotes:
    """
    Writes notes about windows.

    Parameters
    ----------
    kv_token_bytes
        Bytes of the keys and values of a token; 0 if not known, as on a server.
    knows_cameras
        Whether the model has learned several cameras.

    """

    def __init__(self, kv_token_bytes: int, *, knows_cameras: bool = True) -> None:
        self._kv_token_bytes, self._knows_cameras = kv_token_bytes, knows_cameras
        self._told: set[object] = set()
        self._alone = 0

    def look(self, window: PreparedWindow) -> None:
        """Log what was not yet logged about windows like this."""
        cameras = {entry.frame.camera: (entry.size, entry.features.grid)
                   for entry in window.entries}
        kept, total = len(window.selection.keep), sum(
            rows * columns for rows, columns in window.grids)
        kinds = frozenset(cameras.values())
        if kinds not in self._told:
            self._told.add(kinds)
            LOG.info(self._cost(sorted(kinds), len(window.frames), kept, total))
        if window.plan.keep_ratio < 1.0 and kept == total:
            self._once('all', 'nothing is pruned: a keep ratio of '
                              f'{window.plan.keep_ratio:g} keeps all {total} visual tokens')
        if len(cameras) > 1 and not self._knows_cameras:
            self._once('cameras', 'the model was trained with one camera, so it may see nothing '
                                  'in the others and does not say in which one something is: set '
                                  'vlm.adapter to cameras_adapter (of the model embedded)')
        self._alone = self._alone + 1 if len(window.frames) == 1 else 0
        if self._alone >= _ALONE and kept < total:
            self._once('alone', 'windows have one frame, so no other frame shows what is '
                                'pruned: set sparsify.keep_ratio to 1.0 or buffer.frames above 1')

    def _cost(self, kinds: list[tuple[tuple[int, int], tuple[int, int]]], frames: int, kept: int,
              total: int) -> str:
        pictures = ', '.join(
            f'{width}x{height} px are {rows * columns} visual tokens ({rows}x{columns})'
            for (height, width), (rows, columns) in kinds)
        text = f'pictures of {pictures}; of {total} in {frames} frames {kept} are kept'
        if self._kv_token_bytes:
            text += f', {readable(kept * self._kv_token_bytes)} of keys and values'
        return text

    def _once(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            LOG.warning(text)
