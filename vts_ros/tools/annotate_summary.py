# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What came out of a drive, and what happened to its frames, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.bag_frames import REASON
from vts_ros.vlm.answers import RISK_LEVELS

COUNTER_TEXTS = {
    'frames': 'frames read from the recording',
    'admitted': 'frames that went into a window',
    'thinned': 'frames left out because they came sooner than the window wants them',
    'duplicate': 'frames with the stamp of the frame before',
    'back': 'times that time went back (the window started anew)',
    'broken': 'frames that could not be decoded (left out)',
    'no_stamp': 'frames without a stamp (the receive time was taken)',
    'truncated': 'files of the bag that were cut off (read as far as possible)',
    'damaged': 'places where the recording is damaged (what is there is left out)',
    'missing': 'files of the bag that are not there',
    'not_understood': 'topics that are neither of ROS 2 nor pictures of Foxglove (left out)',
    'overtaken': 'answers that the node would not have given, as a newer window came first (left '
                 'out of the annotated bag)',
    'retracted': 'times that the node would have taken its answer back, as none followed it for '
                 '10 s (so it is in the annotated bag)',
    'late': 'frames older than the one before (left out)',
    'gap': 'times that no picture came for long (the window started anew)',
    'unmatched': 'frames too far in time from those of the other cameras (left out)',
    'not_copied': 'topics of unknown type (left out of the annotated bag)',
    'unanswered': 'questions that the language model did not answer (left out)',
    'untold': 'times that answers could no longer be shown while they came (they are all here)',
    'no_bag': 'annotated bags that could not be written (all other results are here)',
    'interrupted': 'times that the run was stopped by hand',
    'failed': 'times that the run ended with an error (what came before is here)',
}


def counter_texts(counters: Mapping[str, int], without: Sequence[str] = ()
                  ) -> list[tuple[str, int]]:
    """Return counters in words, without those that are zero; why pictures are broken is last."""
    words = [(COUNTER_TEXTS.get(name, name), count) for name, count in counters.items()
             if count and name not in without and not name.startswith(REASON)]
    return words + [(f'of the broken frames: {name.removeprefix(REASON)}', count)
                    for name, count in counters.items() if count and name.startswith(REASON)]


@dataclass(frozen=True)
class Summary:
    """
    What came out of a drive.

    Attributes
    ----------
    out
        Folder of the results.
    reports
        All answers in their order.
    counters
        What happened to the frames; see ``COUNTER_TEXTS``.
    info
        Model and engine.

    """

    out: Path
    reports: tuple[SceneReport, ...]
    counters: Mapping[str, int]
    info: Mapping[str, str]

    @property
    def start_ns(self) -> int:
        """Return the stamp of the oldest frame of all answers."""
        return min(frame.stamp for report in self.reports for frame in report.frames)

    @property
    def duration_sec(self) -> float:
        """Return the time between the oldest and the newest frame."""
        return 1e-9 * (max(report.stamp for report in self.reports) - self.start_ns)

    @property
    def risks(self) -> dict[str, int]:
        """Return the number of answers per risk level, all levels in their order."""
        found = Counter(report.answer.risk for report in self.reports)
        return {level: found[level] for level in RISK_LEVELS}

    @property
    def tokens(self) -> tuple[float, float]:
        """Return the mean number of visual tokens per answer: kept, total."""
        return (float(np.mean([len(report.keep) for report in self.reports])),
                float(np.mean([report.tokens_total for report in self.reports])))

    def latency_ms(self, percentile: float) -> float:
        """Return a percentile of the time per answer in milliseconds."""
        return float(np.percentile(
            [report.latency_ms.get('total', 0.0) for report in self.reports], percentile))
