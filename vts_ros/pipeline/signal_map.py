# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which topics tell what the car does, whatever its messages are: the map ``signals.topics``.

One line per signal: ``name topic type field``, and options such as ``unit=km/h``. No ROS here: the
same lines are read by the node and for recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
import math
import re
from typing import Any

from vts_ros.errors import SignalError

#: What there is to know of a car, and the units it may come in: factors to those of REP 103.
UNITS: Mapping[str, Mapping[str, float]] = {
    'speed': {'m/s': 1.0, 'km/h': 1 / 3.6, 'mph': 0.44704},
    'acceleration': {'m/s2': 1.0, 'g': 9.80665},
    'yaw_rate': {'rad/s': 1.0, 'deg/s': math.pi / 180.0},
    'steering': {'rad': 1.0, 'deg': math.pi / 180.0},
    'brake': {},
    'wipers': {},
    'turn_signal': {},
}
#: From where on a brake is pressed, wipers wipe, and a steering wheel is turned (in rad).
OVER: Mapping[str, float] = {'brake': 0.5, 'wipers': 0.5, 'steering': 0.5}
#: Signals whose value may be an event where the map says from which one on.
WITH_EVENTS = ('acceleration', 'yaw_rate', 'brake', 'steering')
#: What a turn signal says, by the number that a message has for it.
TURNS: Mapping[str, float] = {'off': 0.0, 'left': 1.0, 'right': 2.0, 'hazard': 3.0}
FORM = 'name topic type field, such as: brake /vehicle/brake std_msgs/msg/Float32 data over=0.1'
_TYPE = re.compile(r'\w+/msg/\w+')
_STEP = re.compile(r'([A-Za-z_]\w*)(?:\[(\d+)\])?')


@dataclass(frozen=True)
class Signal:
    """
    A topic that tells something of the car.

    Attributes
    ----------
    name
        What it tells, one of UNITS.
    topic, msgtype
        Where it is published, and as what.
    path
        Fields from the message to the number: names, and places in sequences.
    factor
        From the unit of the message to that of REP 103.
    over
        From where on it counts as pressed, on or turned.
    event
        From which absolute value on it is an event; None: never, or as usual for its kind.
    valid_sec
        How long a value holds; 0 until the next.
    turns
        Of a turn signal, the number of each state.

    """

    name: str
    topic: str
    msgtype: str
    path: tuple[str | int, ...]
    factor: float = 1.0
    over: float = 0.0
    event: float | None = None
    valid_sec: float = 1.0
    turns: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """Return what logs call it."""
        return f'signal {self.name} ({self.topic})'


def parse_signals(lines: Iterable[str], refuse: Callable[[SignalError], object]) -> list[Signal]:
    """Return the signals of a map; what cannot be understood is refused, line by line."""
    found = []
    for line in filter(str.strip, lines):
        try:
            found.append(parse_signal(line))
        except SignalError as error:
            refuse(error)
    return found


def parse_signal(line: str) -> Signal:
    """
    Return the signal of a line.

    Raises
    ------
    SignalError
        If it is none; one line that says what to write.

    """
    words = line.split()
    if len(words) < 4:
        raise SignalError(f'signals.topics: {line!r} is not of the form {FORM}')
    name, topic, msgtype, fields, *options = words
    if name not in UNITS:
        raise SignalError(f'signals.topics: no signal {name!r}, there are: {", ".join(UNITS)}')
    if not _TYPE.fullmatch(msgtype):
        raise SignalError(f'signals.topics: {msgtype!r} of {name} is no type of a message, '
                          'expected one such as std_msgs/msg/Float32')
    steps = [_STEP.fullmatch(part) for part in fields.split('.')]
    if not all(steps):
        raise SignalError(f'signals.topics: {fields!r} of {name} names no field, expected one '
                          'such as data, twist.linear.x or axes[2]')
    path = tuple(step for match in steps if match
                 for step in (match[1], *([int(match[2])] if match[2] else [])))
    given: dict[str, Any] = {'over': OVER.get(name, 0.0)}
    turns = dict(TURNS) if name == 'turn_signal' else {}
    for option in options:
        key, _, text = option.partition('=')
        if key == 'unit' and text in UNITS[name]:
            given['factor'] = UNITS[name][text]
        elif key in turns and _number(text) is not None:
            turns[key] = _number(text) or 0.0
        elif (key in _options_of(name)) and (number := _number(text)) is not None:
            given[key] = number
        else:
            units = f'unit={"|".join(UNITS[name])}' if UNITS[name] else ''
            known = [*filter(None, [units]), *(f'{key}=NUMBER' for key in (
                *_options_of(name), *turns))]
            raise SignalError(f'signals.topics: {option!r} is no option of {name}, which has: '
                              f'{", ".join(known)}')
    if 'valid' in given:
        given['valid_sec'] = given.pop('valid')
    return Signal(name, topic, msgtype, path, turns=turns, **given)


def _options_of(name: str) -> tuple[str, ...]:
    return (*(['over'] if name in OVER else []), *(['event'] if name in WITH_EVENTS else []),
            'valid')


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0.0 else None


def check_path(signal: Signal, fields_of: Callable[[str], Mapping[str, str] | None]) -> None:
    """
    See that the fields of a signal are there.

    Parameters
    ----------
    fields_of
        Returns the fields of a type of message (``std_msgs/msg/Header``) and their types, as
        ``get_fields_and_field_types`` of rclpy writes them (``double``, ``sequence<float>``,
        ``geometry_msgs/Vector3``); None where there is no such type.

    Raises
    ------
    SignalError
        If one is not there, or the last is no number; one line.

    """
    kind: str = signal.msgtype
    walked = kind
    for step in signal.path:
        if isinstance(step, int):
            inner = re.fullmatch(r'sequence<([^,]*)(?:, \d+)?>|(.*)\[\d*\]', kind)
            if not inner:
                raise SignalError(f'{signal.label}: {walked} is no sequence')
            kind, walked = inner[1] or inner[2], f'{walked}[{step}]'
            continue
        fields = fields_of(full_type(kind))
        if fields is None and kind == signal.msgtype:
            raise SignalError(f'{signal.label}: no message {kind} here; is its package installed '
                              'and sourced?')
        if fields is None or step not in fields:
            there = f'; there are: {", ".join(fields)}' if fields else ''
            raise SignalError(f'{signal.label}: {walked} has no field {step!r}{there}')
        kind, walked = fields[step], f'{walked}.{step}'
    if not _is_number(kind):
        raise SignalError(f'{signal.label}: {walked} is a {kind} and no number')


def full_type(kind: str) -> str:
    """Return the name of a type with its ``msg``, as messages of other packages leave it out."""
    package, _, name = kind.partition('/')
    return kind if '/msg/' in kind or not name else f'{package}/msg/{name}'


def _is_number(kind: str) -> bool:
    return bool(re.fullmatch(
        r'float(32|64)?|double|boolean|bool|byte|octet|char|u?int(8|16|32|64)', kind))


def value_of(signal: Signal, message: Any) -> float:
    """
    Return the number of a message, in the unit of REP 103.

    Raises
    ------
    SignalError
        If it has none that is finite.

    """
    found = message
    try:
        for step in signal.path:
            found = found[step] if isinstance(step, int) else getattr(found, step)
        number = float(found[0] if isinstance(found, bytes) else found)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise SignalError(f'{signal.label}: a message has no such number: {error}') from error
    if not math.isfinite(number):
        raise SignalError(f'{signal.label}: a message has {number} as its number')
    return number * signal.factor


def stamp_of(message: Any, now_ns: int) -> int:
    """Return when a message was true by its header; the present where it says nothing."""
    stamp = getattr(getattr(message, 'header', None), 'stamp', None)
    if stamp is None:
        return now_ns
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec) or now_ns
