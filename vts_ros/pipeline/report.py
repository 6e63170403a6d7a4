# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The scene report: the result of the pipeline, and its JSON form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
import json
from typing import Any

from vts_ros.vlm.answers import Answer, RISK_LEVELS, RiskLevel
from vts_ros.vlm.boxes import Box
from vts_ros.vlm.pruning import Pruning
from vts_ros.vlm.tasks import Colour, load_task

SCHEMA_VERSION = 2
#: No answer stands for longer without another: the default of the node, and what recordings and
#: the live page keep to.
MAX_ANSWER_AGE_SEC = 10.0

#: RGB, of reports that have no other colours.
RISK_COLOURS: Mapping[RiskLevel, Colour] = load_task().colours
#: As diagnostic_msgs/DiagnosticStatus has it: OK, WARN, ERROR, and STALE, which says that
#: nothing is known. A message of rclpy wants ``bytes([level])``, one of rosbags the number.
RISK_STATUS_LEVELS: dict[RiskLevel, int] = {
    'none': 0, 'low': 0, 'medium': 1, 'high': 2, 'unknown': 3,
}

@dataclass(frozen=True)
class FrameRef:
    """Camera and stamp of a frame; the stamp in nanoseconds."""

    camera: str
    stamp: int


@dataclass(frozen=True)
class KeyFrame(FrameRef):
    """The key frame and its place in the window."""

    index: int


@dataclass(frozen=True)
class RiskObject:
    """
    The object that the risk is about.

    The box is None where the model named no place, and both are where the window has several
    cameras and the model does not say in which of them it saw the object.
    """

    label: str
    camera: str | None
    box: Box | None


@dataclass(frozen=True)
class EventRef:
    """
    An event that other senses noticed, as a report names it.

    Attributes
    ----------
    kind
        Such as ``hard_braking``.
    start, end
        Nanoseconds of the clock of the pictures.
    strength
        How much its moment matters, 0 to 1; 0 if it moved no visual tokens.
    told
        Whether the language model was to be told.

    """

    kind: str
    start: int
    end: int
    strength: float
    told: bool


@dataclass(frozen=True)
class SceneReport:
    """
    Everything that is known about one window.

    Attributes
    ----------
    stamp
        Stamp of the newest frame used, nanoseconds.
    frames
        The window, oldest first.
    keep
        Visual tokens kept, ascending positions in the window (frame-major, row-major).
    grid
        Rows and columns of visual tokens per frame, of the newest one where they differ.
    grids
        Those of each frame where they differ, as with cameras of different sizes.
    size
        Height and width of the newest picture in pixels; None in reports of before.
    steps
        As a video, which frames have their visual tokens in common, by their place in ``frames``;
        grids and ``keep`` are then those of steps, in this order. Empty where each has its own.
    answer_tokens
        Length of the answer in tokens; 0 where nobody counts, as on a server.
    latency_ms
        Milliseconds per stage and ``total``.
    time_to_risk_ms
        Milliseconds until the level was known; None where nobody watched.
    is_partial
        Whether the answer is still being written: level, perhaps the object, and no texts.
    pruning
        What it means that tokens were dropped, see :mod:`vts_ros.vlm.pruning`; None where
        that is not known.
    age_ms
        Age of the newest frame when the report was ready, in its own clock; None if not known.
    confidence
        Probability that object and risk level are right; None if not known.
    in_distribution
        Whether the pictures are of the kind that the model was trained on; None if not checked.
    rejected_output
        What the model wrote about pictures that are not: raw text, for whoever debugs, and
        nobody's answer. None otherwise.
    events
        What other senses noticed of these frames.
    colours
        Of the levels of risk, where its task has others than driving.
    asked_stamp
        Stamp of the newest frame that the language model was asked about, where it was not asked
        about this window; None where it was.
    text_stamp
        The same of the window that description, explanation and action were written about; None
        where that is this one.

    """

    stamp: int
    frames: tuple[FrameRef, ...]
    key_frame: KeyFrame
    answer: Answer
    keep: tuple[int, ...]
    grid: tuple[int, int]
    answer_tokens: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)
    age_ms: float | None = None
    model: str = ''
    engine: str = ''
    confidence: float | None = None
    in_distribution: bool | None = None
    rejected_output: str | None = None
    asked_stamp: int | None = None
    text_stamp: int | None = None
    time_to_risk_ms: float | None = None
    is_partial: bool = False
    pruning: Pruning | None = None
    grids: tuple[tuple[int, int], ...] = ()
    size: tuple[int, int] | None = None
    steps: tuple[tuple[int, ...], ...] = ()
    events: tuple[EventRef, ...] = ()
    colours: Mapping[RiskLevel, Colour] | None = field(default=None, hash=False)

    @property
    def colour(self) -> Colour:
        """Return red, green and blue of its level of risk."""
        return (self.colours or RISK_COLOURS)[self.answer.risk]

    @property
    def is_confirmed(self) -> bool:
        """Return whether this confirms an earlier answer, without asking the model."""
        return self.asked_stamp is not None

    @property
    def step_frames(self) -> tuple[tuple[int, ...], ...]:
        """Return the places of the frames that each grid of visual tokens is of."""
        return self.steps or tuple((index,) for index in range(len(self.frames)))

    @property
    def step_grids(self) -> tuple[tuple[int, int], ...]:
        """Return rows and columns of visual tokens of each step."""
        return self.grids or (self.grid,) * len(self.step_frames)

    @property
    def frame_grids(self) -> tuple[tuple[int, int], ...]:
        """Return rows and columns of visual tokens of each frame; those of a step share theirs."""
        grids = {index: grid for frames, grid in zip(self.step_frames, self.step_grids)
                 for index in frames}
        return tuple(grids[index] for index in range(len(self.frames)))

    @property
    def tokens_total(self) -> int:
        """Return the number of visual tokens before sparsification."""
        return sum(rows * columns for rows, columns in self.step_grids)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras of the window, in alphabetical order."""
        return tuple(sorted({frame.camera for frame in self.frames}))

    @property
    def risk_object(self) -> RiskObject | None:
        """Return the risk object, with its box if its camera is known."""
        if self.answer.label is None:
            return None
        camera = self.answer.camera if len(self.cameras) > 1 else self.cameras[0]
        if camera not in self.cameras:
            return RiskObject(self.answer.label, None, None)
        return RiskObject(self.answer.label, camera, self.answer.box)

    @property
    def shown(self) -> int:
        """
        Return the place in ``frames`` of the one that a picture of the answer shows.

        The newest of the camera that shows the risk object; where no camera is named, of the first
        in alphabetical order.
        """
        found = self.risk_object
        camera = (found and found.camera) or self.cameras[0]
        return max(place for place, frame in enumerate(self.frames) if frame.camera == camera)

    @property
    def shown_frame(self) -> FrameRef:
        """Return the frame that a picture of the answer shows."""
        return self.frames[self.shown]

    @property
    def risk_values(self) -> dict[str, str]:
        """Return the keys and values of a DiagnosticStatus about the risk."""
        answer = self.answer
        values = {'level': answer.risk, 'object': answer.label or '', 'action': answer.action}
        if self.confidence is not None:
            values['confidence'] = f'{self.confidence:.2f}'
        if self.in_distribution is not None:
            values['in_distribution'] = str(self.in_distribution).lower()
        if self.is_confirmed:
            values['confirmed'] = 'true'
        if self.is_partial:
            values['partial'] = 'true'
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return the report in the form of the JSON schema, version ``SCHEMA_VERSION``."""
        answer, risk_object = self.answer, self.risk_object
        return {
            'schema': SCHEMA_VERSION,
            'stamp': self.stamp,
            'frames': [asdict(frame) for frame in self.frames],
            'key_frame': asdict(self.key_frame),
            'picture': self.size and {'width': self.size[1], 'height': self.size[0]},
            'description': answer.description,
            'risk': {'level': answer.risk},
            'object': asdict(risk_object) if risk_object else None,
            'explanation': answer.explanation,
            'action': answer.action,
            'tokens': {'total': self.tokens_total, 'kept': len(self.keep),
                       'grid': list(self.grid), 'keep': list(self.keep),
                       **({'grids': [list(grid) for grid in self.grids]} if self.grids else {}),
                       **({'steps': [list(step) for step in self.steps]} if self.steps else {}),
                       'answer': self.answer_tokens},
            'pruning': self.pruning,
            'events': [asdict(event) for event in self.events],
            'latency_ms': {name: round(ms, 2) for name, ms in self.latency_ms.items()},
            'time_to_risk_ms': _rounded(self.time_to_risk_ms, 2),
            'partial': self.is_partial,
            'age_ms': _rounded(self.age_ms, 2),
            'model': self.model,
            'engine': self.engine,
            'confidence': _rounded(self.confidence, 4),
            'in_distribution': self.in_distribution,
            'rejected_output': self.rejected_output,
            'confirmed': self.is_confirmed,
            'asked_stamp': self.stamp if self.asked_stamp is None else self.asked_stamp,
            'text_stamp': self.stamp if self.text_stamp is None else self.text_stamp,
            **({'colours': {level: list(colour) for level, colour in self.colours.items()}}
               if self.colours else {}),
        }

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SceneReport:
        """
        Read a report back.

        Raises
        ------
        ValueError
            If it has another schema or a field is missing.

        """
        if data.get('schema') != SCHEMA_VERSION:
            raise ValueError(f'report schema {data.get("schema")!r}, expected {SCHEMA_VERSION}')
        try:
            found, picture = data['object'], data.get('picture')
            return cls(
                stamp=data['stamp'],
                frames=tuple(FrameRef(**frame) for frame in data['frames']),
                key_frame=KeyFrame(**data['key_frame']),
                answer=Answer(
                    description=data['description'], risk=data['risk']['level'],
                    label=found and found['label'],
                    box=tuple(found['box']) if found and found['box'] else None,
                    explanation=data['explanation'], action=data['action'],
                    # Where there is one, that is not what the model said.
                    camera=found['camera'] if found and len(
                        {frame['camera'] for frame in data['frames']}) > 1 else None),
                keep=tuple(data['tokens']['keep']), grid=tuple(data['tokens']['grid']),
                answer_tokens=data['tokens']['answer'],
                latency_ms=data['latency_ms'], age_ms=data['age_ms'],
                model=data['model'], engine=data['engine'],
                confidence=data['confidence'], in_distribution=data['in_distribution'],
                rejected_output=data['rejected_output'],
                # Not in reports of before.
                time_to_risk_ms=data.get('time_to_risk_ms'),
                is_partial=data.get('partial', False),
                pruning=data.get('pruning'),
                events=tuple(EventRef(**event) for event in data.get('events', ())),
                grids=tuple(tuple(grid) for grid in data['tokens'].get('grids', ())),
                size=picture and (picture['height'], picture['width']),
                colours=_colours(data.get('colours')),
                steps=tuple(tuple(step) for step in data['tokens'].get('steps', ())),
                # Reports of before have none of these, and are all answers of their own.
                **{name: None if data.get(name) == data['stamp'] else data.get(name)
                   for name in ('asked_stamp', 'text_stamp')})
        except (KeyError, TypeError) as error:
            raise ValueError(f'report has no valid {error}') from error


def colours_of(reports: Iterable[SceneReport]) -> Mapping[RiskLevel, Colour]:
    """Return the colours of the levels of risk in some reports, which are of one task."""
    return next((report.colours for report in reports if report.colours), RISK_COLOURS)


def _colours(data: Mapping[RiskLevel, Sequence[int]] | None) -> dict[RiskLevel, Colour] | None:
    if not data:
        return None
    found: dict[RiskLevel, Colour] = {}
    for level in RISK_LEVELS:
        red, green, blue = (min(255, max(0, int(part))) for part in data[level])
        found[level] = (red, green, blue)
    return found


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
