# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ask about the end of a recording: python examples/ask.py my_drive 'Is it safe to drive on?'."""

from collections import deque
import sys

from vts_ros.pipeline import Pipeline
from vts_ros.tools.bag_frames import read_windows

bag, question = sys.argv[1:]
window = deque(read_windows(bag), maxlen=1).pop()
# Piece by piece, as it is written.
Pipeline.load().ask(window, question, on_text=lambda text: print(text, end='', flush=True))
print()
