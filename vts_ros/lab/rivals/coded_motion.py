# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What moves by itself, from the motion vectors that a camera's H.264 stream carries already.

An encoder says for each block of a picture where it takes it from in the picture before. That is
meant to save bits, not to be right: sky, road and shadows go anywhere. As with optical flow, what
one plane explains of it is taken for the motion of the own car.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
from av.sidedata.motionvectors import MotionVectors
import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.lab.rivals.motion import cell_means, Flow, FLOW_WIDTH, Motion, own_motion

#: Side in pixels of a cell of the map of vectors: the smallest block that x264 makes here.
BLOCK_PX = 8
#: The own motion is fitted to a map in which every so many pixels are one.
_FINE_PX = 4
#: As the encoder of a camera is set: no picture waits for a later one, or is made from one.
_OPTIONS = {'preset': 'veryfast', 'tune': 'zerolatency', 'crf': '23', 'bf': '0', 'refs': '1'}


def encoded(frames: Sequence[NDArray[np.uint8]]) -> list[bytes]:
    """Return the packets of H.264 for pictures [H, W, 3] of the same size, one each."""
    context = av.CodecContext.create('libx264', 'w')
    assert isinstance(context, av.VideoCodecContext)
    context.height, context.width = frames[0].shape[:2]
    context.pix_fmt, context.time_base, context.options = 'yuv420p', Fraction(1, 10), _OPTIONS
    packets: list[bytes] = []
    for number, rgb in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(rgb, format='rgb24')
        frame.pts, frame.time_base = number, Fraction(1, 10)
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets + [bytes(packet) for packet in context.encode(None)]


def decoded(packets: Sequence[bytes], with_vectors: bool = True) -> list[av.VideoFrame]:
    """Return the pictures of a stream, with the vectors of each if they are wanted."""
    context = av.CodecContext.create('h264', 'r')
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    if with_vectors:
        context.options = {'flags2': '+export_mvs'}
    frames: list[av.VideoFrame] = []
    for packet in (*map(av.Packet, packets), None):
        frames += context.decode(packet)
    return frames


def flow_of(frame: av.VideoFrame) -> Flow:
    """
    Return where each block is in the picture before, as an offset (x, y) in pixels.

    Returns
    -------
    float32 [H / 8, W / 8, 2]; NaN where a block has no vector, as it is made from nothing.

    """
    flow = np.full((-(-frame.height // BLOCK_PX), -(-frame.width // BLOCK_PX), 2), np.nan,
                   np.float32)
    vectors = frame.side_data.get('MOTION_VECTORS')
    if not isinstance(vectors, MotionVectors):
        return flow
    for block in vectors.to_ndarray():
        # The middle of the block; a vector of the past has a source below 0.
        x, y = block['dst_x'] - block['w'] // 2, block['dst_y'] - block['h'] // 2
        place = (slice(max(y, 0) // BLOCK_PX, -(-(y + block['h']) // BLOCK_PX)),
                 slice(max(x, 0) // BLOCK_PX, -(-(x + block['w']) // BLOCK_PX)))
        scale = float(block['motion_scale']) or 1.0
        flow[place] = block['motion_x'] / scale, block['motion_y'] / scale
    return flow


def vector_residual(flow: Flow, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Return how much of each cell moves by itself, 0 to 1, float32 [rows * columns]."""
    is_known = np.asarray(np.isfinite(flow).all(axis=-1), np.uint8)
    # In pixels of a map that is fine enough for points of the own motion to be found in it.
    size = (flow.shape[1] * BLOCK_PX // _FINE_PX, flow.shape[0] * BLOCK_PX // _FINE_PX)
    known = np.asarray(np.nan_to_num(flow), np.float32)
    dense = np.asarray(cv2.resize(known, size, interpolation=cv2.INTER_NEAREST) / _FINE_PX,
                       np.float32)
    # As large as optical flow has it.
    scale = FLOW_WIDTH / size[0]
    left = Motion(dense * scale, own_motion(dense) * scale).residual
    # What has no vector says nothing.
    left[cv2.resize(is_known, size, interpolation=cv2.INTER_NEAREST) == 0] = 0.0
    return np.minimum(cell_means(left, grid).ravel(), 1.0)
