# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The answers of ``vts annotate`` over a folder of recordings, in one process, and nothing else.

No video, no pages: what a fleet does beside the answers is to be seen against this.
"""

from __future__ import annotations

from collections import Counter
import json
from pathlib import Path
import sys
import time
from typing import Any

from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.tools.bag_frames import read_frames, until_damage
from vts_ros.tools.described_frames import describe_frames


def describe_all(folder: Path, config: PipelineConfig) -> dict[str, Any]:
    """
    Describe all recordings of a folder.

    Returns
    -------
    ``done``: when each recording was done, in seconds since the epoch, and its answers;
    ``stages_ms``: means per answer, in computing time, which other programs do not lengthen.

    """
    pipeline = Pipeline.load(config)
    pipeline.clock = time.process_time
    done = []
    total_ms: Counter[str] = Counter()
    for bag in sorted(folder.iterdir()):
        counters: Counter[str] = Counter()
        pipeline.clear()
        frames = until_damage(read_frames(bag, None, counters), counters)
        answers = 0
        for _, report in describe_frames(pipeline, frames, counters=counters):
            answers += 1
            total_ms.update(report.latency_ms)
        done.append((time.time(), answers))
    count = sum(answers for _, answers in done)
    return {'done': done, 'stages_ms': {name: ms / count for name, ms in total_ms.items()}}


if __name__ == '__main__':
    path, settings = sys.argv[1:]
    print(json.dumps(describe_all(Path(path), PipelineConfig(**json.loads(settings)))))
