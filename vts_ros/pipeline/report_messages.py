# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Reports as ROS messages, whoever has their types: the node (rclpy) and recordings (rosbags).

Every function gets what makes messages, and so nothing here needs ROS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan
import textwrap
from typing import Any, Protocol

from vts_ros.pipeline.report import RISK_STATUS_LEVELS, SceneReport
from vts_ros.vlm.answers import RISK_LEVELS, UNKNOWN_ACTION

#: What a status is about that names no camera.
HARDWARE_ID = 'vts_ros'

DETECTIONS = 'vision_msgs/msg/Detection2DArray'
ANNOTATIONS = 'foxglove_msgs/msg/ImageAnnotations'
SCENE = 'vts_interfaces/msg/SceneReport'
RISK = 'diagnostic_msgs/msg/DiagnosticArray'
MARKERS = 'visualization_msgs/msg/MarkerArray'
#: Topics of plain numbers about an answer, to be plotted.
NUMBERS = 'processing_time_ms', 'pipeline_latency_ms', 'time_to_risk_ms', 'tokens_kept'

#: RViz cannot wrap text. Width in characters, height of a letter and place in metres (REP 103).
MARKER_WIDTH = 60
MARKER_LETTER_M = 0.6
MARKER_TEXT = 12.0, 0.0, 4.0
MARKER_LAMP = 12.0, 0.0, 6.5
#: Of visualization_msgs/Marker.
_SPHERE, _TEXT_VIEW_FACING, _ADD, _DELETE_ALL = 2, 9, 0, 3

#: Of foxglove_msgs/PointsAnnotation.
_LINE_LOOP, _LINE_LIST = 2, 4
#: Height of letters and width of lines in pictures, as shares of their height.
_LETTER, _STROKE = 1 / 28, 1 / 180
_GRID = 1.0, 1.0, 1.0, 0.3
_INK = 0.05, 0.06, 0.07, 1.0


class Make(Protocol):
    """Makes a message of a type; fields that are not given are zero, empty or false."""

    def __call__(self, msgtype: str, /, **fields: Any) -> Any:
        """Return the message."""


def stamp(make: Make, time_ns: int) -> Any:
    """Return nanoseconds as a stamp."""
    sec, nanosec = divmod(time_ns, 1_000_000_000)
    return make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)


def header(make: Make, time_ns: int, frame_id: str = '') -> Any:
    """Return the header of a message about that time."""
    return make('std_msgs/msg/Header', stamp=stamp(make, time_ns), frame_id=frame_id)


def status(make: Make, name: str, level: int, message: str, hardware_id: str,
           values: Mapping[str, object]) -> Any:
    """Return a diagnostic status; floats are shown with two decimals."""
    texts = {key: f'{value:.2f}' if isinstance(value, float) else str(value)
             for key, value in values.items()}
    return make('diagnostic_msgs/msg/DiagnosticStatus', name=name, level=level, message=message,
                hardware_id=hardware_id, values=[
                    make('diagnostic_msgs/msg/KeyValue', key=key, value=text)
                    for key, text in texts.items()])


def risk(make: Make, report: SceneReport, name: str, frame_id: str) -> Any:
    """Return level and reason of the risk, stamped with the newest picture."""
    answer = report.answer
    reason = 'the reason is being written' if report.is_partial else answer.explanation
    return make(RISK, header=header(make, report.stamp, frame_id), status=[status(
        make, name, RISK_STATUS_LEVELS[answer.risk], reason,
        ', '.join(report.cameras), report.risk_values)])


def unknown_risk(make: Make, reason: str, name: str, time_ns: int) -> Any:
    """Return what takes the place of a risk that no longer holds."""
    return make(RISK, header=header(make, time_ns), status=[status(
        make, name, RISK_STATUS_LEVELS['unknown'], reason, HARDWARE_ID,
        {'level': 'unknown', 'object': '', 'action': UNKNOWN_ACTION})])


def markers(make: Make, report: SceneReport, frame_id: str, lifetime_sec: float) -> Any:
    """Return description and reason as text, with a lamp in the colour of the risk."""
    answer = report.answer
    paragraphs = [f'RISK {answer.risk.upper()}: {answer.action}', answer.description,
                  answer.explanation]
    lines = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, MARKER_WIDTH)]

    def marker(number: int, kind: int, place: Sequence[float], size: Sequence[float],
               colour: Sequence[float], **fields: Any) -> Any:
        sec, nanosec = divmod(round(lifetime_sec * 1e9), 1_000_000_000)
        return make(
            'visualization_msgs/msg/Marker', header=header(make, report.stamp, frame_id),
            ns='vts', id=number, type=kind, action=_ADD,
            pose=make('geometry_msgs/msg/Pose',
                      position=_xyz(make, 'geometry_msgs/msg/Point', place),
                      orientation=make('geometry_msgs/msg/Quaternion', w=1.0)),
            scale=_xyz(make, 'geometry_msgs/msg/Vector3', size),
            color=_colour(make, 'std_msgs/msg/ColorRGBA', colour),
            lifetime=make('builtin_interfaces/msg/Duration', sec=sec, nanosec=nanosec), **fields)

    return make(MARKERS, markers=[
        marker(0, _TEXT_VIEW_FACING, MARKER_TEXT, (0.0, 0.0, MARKER_LETTER_M),
               (1.0, 1.0, 1.0, 1.0), text='\n'.join(lines)),
        marker(1, _SPHERE, MARKER_LAMP, (1.0, 1.0, 1.0), _risk_colour(report))])


def no_markers(make: Make) -> Any:
    """Return the message that deletes all markers."""
    return make(MARKERS, markers=[make('visualization_msgs/msg/Marker', action=_DELETE_ALL)])


def detections(make: Make, report: SceneReport, frame_id: str) -> Any:
    """
    Return the risk object with its box in pixels of the newest picture of its camera.

    Empty where there is none, or nobody knows its place. The score is NaN where the confidence is
    not known. ``frame_id`` is that of the frame ``shown`` of the report.
    """
    head = header(make, report.shown_frame.stamp, frame_id)
    found, box = report.risk_object, _pixels(report)
    if found is None or box is None:
        return make(DETECTIONS, header=head)
    left, top, right, bottom = box
    place = make('vision_msgs/msg/Pose2D', position=_xy(
        make, 'vision_msgs/msg/Point2D', (left + right) / 2, (top + bottom) / 2))
    return make(DETECTIONS, header=head, detections=[make(
        'vision_msgs/msg/Detection2D', header=head,
        results=[make('vision_msgs/msg/ObjectHypothesisWithPose', hypothesis=make(
            'vision_msgs/msg/ObjectHypothesis', class_id=found.label,
            score=_number(report.confidence)))],
        bbox=make('vision_msgs/msg/BoundingBox2D', center=place, size_x=right - left,
                  size_y=bottom - top))])


def image_annotations(make: Make, report: SceneReport) -> Any:
    """
    Return what is drawn over the newest picture: risk, box with its label, and the kept cells.

    With several cameras the cells are left out: these annotations do not name their camera.
    """
    if report.size is None:
        return make(ANNOTATIONS)
    time, (height, width) = stamp(make, report.stamp), report.size
    colour, answer = _risk_colour(report), report.answer

    def lines(kind: int, points: Sequence[tuple[float, float]], colour: Sequence[float],
              thickness: float) -> Any:
        return make('foxglove_msgs/msg/PointsAnnotation', timestamp=time, type=kind,
                    points=[_xy(make, 'foxglove_msgs/msg/Point2', *point) for point in points],
                    outline_color=_colour(make, 'foxglove_msgs/msg/Color', colour),
                    thickness=thickness)

    def text(words: str, x: float, y: float) -> Any:
        return make('foxglove_msgs/msg/TextAnnotation', timestamp=time, text=words,
                    position=_xy(make, 'foxglove_msgs/msg/Point2', x, y),
                    font_size=height * _LETTER,
                    text_color=_colour(make, 'foxglove_msgs/msg/Color', _INK),
                    background_color=_colour(make, 'foxglove_msgs/msg/Color', colour))

    margin = height * _LETTER / 2
    headline = f'RISK {answer.risk.upper()}' + (f': {answer.action}' if answer.action else '')
    drawn, said = [], [text(headline, margin, 3 * margin)]
    if len(report.cameras) == 1 and (edges := list(_kept_edges(report, width, height))):
        drawn.append(lines(_LINE_LIST, edges, _GRID, 1.0))
    if (box := _pixels(report)) and report.shown == len(report.frames) - 1:
        left, top, right, bottom = box
        drawn.append(lines(_LINE_LOOP, [(left, top), (right, top), (right, bottom),
                                        (left, bottom)], colour, max(2.0, height * _STROKE)))
        said.append(text(f'{answer.label}, {answer.risk}', left, max(top - margin / 2, margin)))
    return make(ANNOTATIONS, points=drawn, texts=said)


def scene(make: Make, report: SceneReport, frame_id: str) -> Any:
    """Return the whole report as a typed message."""
    answer, found = report.answer, report.risk_object
    box = found.box if found else None
    height, width = report.size or (0, 0)
    rows, columns = report.grid
    return make(
        SCENE, header=header(make, report.stamp, frame_id),
        frames=[make('vts_interfaces/msg/FrameRef', camera=frame.camera,
                     stamp=stamp(make, frame.stamp)) for frame in report.frames],
        key_frame=report.key_frame.index, width=width, height=height,
        description=answer.description, risk=RISK_LEVELS.index(answer.risk),
        objects=[] if found is None else [make(
            'vts_interfaces/msg/RiskObject', label=found.label, camera=found.camera or '',
            has_box=box is not None,
            **dict(zip(('left', 'top', 'right', 'bottom'), map(float, box or ()))))],
        explanation=answer.explanation, action=answer.action,
        events=[make('vts_interfaces/msg/Event', kind=event.kind, start=stamp(make, event.start),
                     end=stamp(make, event.end), strength=float(event.strength),
                     told=event.told) for event in report.events],
        tokens_total=report.tokens_total, tokens_kept=len(report.keep), rows=rows,
        columns=columns, steps=[
            make('vts_interfaces/msg/Step', frames=list(frames), rows=high, columns=wide)
            for frames, (high, wide) in zip(report.step_frames, report.step_grids)],
        keep=list(report.keep), pruning=report.pruning or '',
        latency=[make('vts_interfaces/msg/StageTime', stage=name, ms=float(ms))
                 for name, ms in report.latency_ms.items()],
        total_ms=float(report.latency_ms.get('total', nan)),
        time_to_risk_ms=_number(report.time_to_risk_ms), age_ms=_number(report.age_ms),
        model=report.model, engine=report.engine,
        confidence=_number(report.confidence),
        is_guarded=report.in_distribution is not None,
        in_distribution=bool(report.in_distribution), confirmed=report.is_confirmed,
        asked_stamp=stamp(make, _or(report.asked_stamp, report.stamp)),
        text_stamp=stamp(make, _or(report.text_stamp, report.stamp)))


def unknown_scene(make: Make, reason: str, time_ns: int) -> Any:
    """Return the message that replaces a report that no longer holds."""
    return make(SCENE, header=header(make, time_ns), risk=RISK_LEVELS.index('unknown'),
                explanation=reason, total_ms=nan, time_to_risk_ms=nan, age_ms=nan,
                confidence=nan)


def numbers(report: SceneReport) -> dict[str, float]:
    """Return those of ``NUMBERS`` that are known."""
    found = zip(NUMBERS, (report.latency_ms.get('total'), report.age_ms, report.time_to_risk_ms,
                          len(report.keep)))
    return {name: float(number) for name, number in found if number is not None}


def _number(given: float | None) -> float:
    return nan if given is None else given


def _or(given: int | None, otherwise: int) -> int:
    return otherwise if given is None else given


def _pixels(report: SceneReport) -> tuple[float, float, float, float] | None:
    """Return the box of the risk object in pixels of the picture that is shown; None without."""
    found = report.risk_object
    if found is None or found.box is None or report.size is None:
        return None
    height, width = report.size
    left, top, right, bottom = found.box
    return left * width, top * height, right * width, bottom * height


def _kept_edges(report: SceneReport, width: int, height: int) -> Iterator[tuple[float, float]]:
    """Yield both ends of each side of the cells that were kept of the newest picture, once."""
    rows, columns = report.frame_grids[-1]
    begin = report.tokens_total - rows * columns
    sides = set()
    for position in report.keep:
        if position >= begin:
            row, column = divmod(position - begin, columns)
            sides |= {(row, column, row, column + 1), (row + 1, column, row + 1, column + 1),
                      (row, column, row + 1, column), (row, column + 1, row + 1, column + 1)}
    for top, left, bottom, right in sorted(sides):
        yield left * width / columns, top * height / rows
        yield right * width / columns, bottom * height / rows


def _risk_colour(report: SceneReport) -> tuple[float, float, float, float]:
    red, green, blue = (channel / 255 for channel in report.colour)
    return red, green, blue, 1.0


def _colour(make: Make, msgtype: str, rgba: Sequence[float]) -> Any:
    return make(msgtype, **dict(zip('rgba', rgba)))


def _xyz(make: Make, msgtype: str, values: Sequence[float]) -> Any:
    return make(msgtype, **dict(zip('xyz', values)))


def _xy(make: Make, msgtype: str, x: float, y: float) -> Any:
    return make(msgtype, x=x, y=y)
