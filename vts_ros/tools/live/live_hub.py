# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The state of the live page: the last minute of pictures and answers, and the open pages.

The answerer adds pictures and events, from any thread; each page takes what is new. Everything is
bounded, whatever arrives and however slow a page is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
import threading
import time
from typing import Any, Protocol

from vts_ros.errors import FrameError
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.report import MAX_ANSWER_AGE_SEC, SceneReport
from vts_ros.tools.pictures import encode, fit

#: How far back the timeline goes.
HISTORY_SEC = 60.0
#: Pictures of a camera are shown at most so often; those that windows are made of always are.
PICTURE_HZ = 12.0
#: Most bytes of pictures that are kept of a camera.
MOST_BYTES = 2**26
#: Events that wait for a page; one that is so far behind has lost the oldest.
MOST_EVENTS = 400
#: Larger pictures are scaled down for the page; files above that, too.
WIDTH, HEIGHT, FILE_BYTES = 1280, 1280, 300_000
MAX_QUESTION_CHARS, MAX_QUESTIONS = 500, 8

Event = dict[str, Any]


class Answerer(Protocol):
    """The source of answers: a pipeline in this process, or a ROS node."""

    def ask(self, question: str) -> None:
        """Answer a question about the present; the answer goes to the hub as events."""
        ...

    def change(self, name: str, value: Any) -> None:
        """Change a setting of the state of the hub; raise ValueError if it cannot be."""
        ...

    def close(self) -> None:
        """End."""
        ...


@dataclass(frozen=True)
class ShownPicture:
    """
    A picture as the page gets it.

    Attributes
    ----------
    at_sec
        Its arrival, in the time of the hub.
    data
        JPEG.

    """

    number: int
    camera: str
    stamp_ns: int
    at_sec: float
    data: bytes


def shown_jpeg(frame: Frame) -> bytes:
    """Return a picture as JPEG that a page can load often; raise FrameError if it is broken."""
    data = frame.data
    if isinstance(data, bytes) and data[:2] == b'\xff\xd8' and len(data) <= FILE_BYTES:
        return data
    rgb = frame.rgb()
    if rgb.shape[1] > WIDTH or rgb.shape[0] > HEIGHT:
        rgb, _ = fit(rgb, WIDTH, HEIGHT)
    return encode(rgb, '.jpg', 80)


class Looker:
    """An open page, and what it has not yet seen."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._picture: ShownPicture | None = None
        self._lock = threading.Lock()
        #: Only pictures of this camera are handed over.
        self.camera = ''

    def tell(self, event: Event) -> None:
        """Queue an event for the page."""
        with self._lock:
            self._events.append(event)
        self._wake()

    def show(self, picture: ShownPicture) -> None:
        """Offer a picture to the page; it replaces one that was not yet taken."""
        if picture.camera != self.camera:
            return
        with self._lock:
            self._picture = picture
        self._wake()

    def take_events(self) -> list[Event]:
        """Return the events since the last call."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    def take_picture(self) -> ShownPicture | None:
        """Return the newest picture, if it was not yet taken."""
        with self._lock:
            picture, self._picture = self._picture, None
        return picture


class Hub:
    """
    The last minute, and the pages that look at it.

    Parameters
    ----------
    state
        What a page must know besides: the name of the source, settings, choices.
    clock
        Seconds.

    """

    def __init__(self, state: Mapping[str, Any], clock: Callable[[], float] = time.monotonic
                 ) -> None:
        self._clock, self._began = clock, clock()
        self._state = dict(state)
        self._numbers = count(1)
        self._pictures: dict[str, deque[ShownPicture]] = {}
        self._bytes: dict[str, int] = {}
        self._by_number: dict[int, ShownPicture] = {}
        self._by_frame: dict[tuple[str, int], int] = {}
        self._reports: deque[Event] = deque()
        self._retracted_sec = 0.0
        self._lookers: tuple[Looker, ...] = ()
        self._lock = threading.RLock()

    @property
    def now_sec(self) -> float:
        """Return the time of the hub: seconds since it began."""
        return self._clock() - self._began

    @property
    def lookers(self) -> int:
        """Return the number of open pages."""
        return len(self._lookers)

    def open(self, wake: Callable[[], None]) -> tuple[Looker, Event]:
        """Open a page; return its queue, and everything that it must know first."""
        with self._lock:
            looker = Looker(wake)
            self._lookers += (looker,)
            return looker, {
                'kind': 'hello', 'now': self.now_sec, 'history_sec': HISTORY_SEC,
                'max_answer_age_sec': MAX_ANSWER_AGE_SEC,
                'max_question_chars': MAX_QUESTION_CHARS, 'cameras': list(self._pictures),
                'state': dict(self._state), 'reports': list(self._reports),
                'retracted': self._retracted_sec}

    def close(self, looker: Looker) -> None:
        """Close a page."""
        with self._lock:
            self._lookers = tuple(other for other in self._lookers if other is not looker)

    def tell(self, kind: str, **fields: Any) -> None:
        """Send an event to all pages."""
        event = {'kind': kind, 'at': self.now_sec, **fields}
        for looker in self._lookers:
            looker.tell(event)

    def set_state(self, **changed: Any) -> None:
        """Change the state of the hub, and send it to all pages."""
        with self._lock:
            self._state.update(changed)
        self.tell('state', state=changed)

    def show(self, frame: Frame, is_needed: bool = False) -> None:
        """
        Show a picture, unless the page has enough of them.

        Parameters
        ----------
        is_needed
            Whether an answer may be about it.

        """
        camera = frame.camera
        with self._lock:
            now = self.now_sec
            held = self._pictures.get(camera)
            is_early = held and now - held[-1].at_sec < 1.0 / PICTURE_HZ
        if is_early and not is_needed:
            return
        try:
            data = shown_jpeg(frame)
        except FrameError:
            # Whether it counts is found out by who answers.
            return
        picture = ShownPicture(next(self._numbers), camera, frame.stamp_ns, now, data)
        with self._lock:
            is_new = camera not in self._pictures
            self._keep(picture)
        if is_new:
            self.tell('cameras', cameras=sorted(self._pictures))
        for looker in self._lookers:
            looker.show(picture)

    def report(self, report: SceneReport) -> None:
        """Send an answer, or its risk while it is still being written."""
        found = report.to_dict()
        with self._lock:
            for ref in found['frames']:
                ref['picture'] = self._by_frame.get((ref['camera'], ref['stamp']))
            now = self.now_sec
            event: Event = {'kind': 'report', 'at': now, 'report': found}
            if not report.is_partial:
                self._reports.append(event)
                while self._reports[0]['at'] < now - HISTORY_SEC:
                    self._reports.popleft()
        for looker in self._lookers:
            looker.tell(event)

    def retract(self, reason: str) -> None:
        """Send the retraction of the last answer."""
        with self._lock:
            self._retracted_sec = self.now_sec
        self.tell('retract', text=reason)

    def picture(self, number: int) -> ShownPicture | None:
        """Return a picture by its number, if it is kept."""
        with self._lock:
            return self._by_number.get(number)

    def near(self, camera: str, at_sec: float) -> ShownPicture | None:
        """Return the last picture of a camera up to some time, or the first that is kept."""
        with self._lock:
            held = list(self._pictures.get(camera, ()))
        if not held:
            return None
        place = bisect_left(held, at_sec, key=lambda entry: entry.at_sec)
        return held[max(0, place - 1)]

    def _keep(self, picture: ShownPicture) -> None:
        camera = picture.camera
        held = self._pictures.setdefault(camera, deque())
        held.append(picture)
        self._by_number[picture.number] = picture
        self._by_frame[camera, picture.stamp_ns] = picture.number
        self._bytes[camera] = self._bytes.get(camera, 0) + len(picture.data)
        while held[0].at_sec < picture.at_sec - HISTORY_SEC or self._bytes[camera] > MOST_BYTES:
            old = held.popleft()
            self._bytes[camera] -= len(old.data)
            del self._by_number[old.number]
            # One that is played again has taken its place.
            if self._by_frame.get((camera, old.stamp_ns)) == old.number:
                del self._by_frame[camera, old.stamp_ns]
