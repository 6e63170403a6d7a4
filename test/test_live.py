# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The live page without a browser: what is kept, who may look, what is asked and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
import http.client
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import json
from pathlib import Path
import re
import socket
import threading
import time
from typing import Any

from bag_maker import drive, jpeg, picture, START_NS, STEP_NS
import numpy as np
import pytest
from video_maker import write_video
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from vts_ros.errors import VideoError, VlmError
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.frames import Frame, FrameBuffer
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport
from vts_ros.tools.live.live_hub import (
    HISTORY_SEC,
    Hub,
    MAX_QUESTION_CHARS,
    MOST_BYTES,
    MOST_EVENTS,
    PICTURE_HZ,
)
from vts_ros.tools.live.live_pipeline import LivePipeline
from vts_ros.tools.live.live_server import (
    FILES,
    LiveServer,
    MOST_PAGES,
    PAGE,
    ServerError,
)
from vts_ros.tools.live.live_sources import Recording, Stream
from vts_ros.vlm.answers import Answer

pytestmark = pytest.mark.slow

#: A guard against hanging.
PATIENCE_SEC = 600.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def frame(number: int, camera: str = 'front') -> Frame:
    """Return a JPEG picture of a drive at 5 Hz."""
    return Frame(camera, START_NS + number * STEP_NS, jpeg(picture(number)))


def report(number: int, risk: str = 'high', **changed: Any) -> SceneReport:
    """Return an answer about one picture."""
    stamp = START_NS + number * STEP_NS
    return replace(SceneReport(
        stamp=stamp, frames=(FrameRef('front', stamp),), key_frame=KeyFrame('front', stamp, 0),
        answer=Answer('a road', risk, 'car', (.1, .2, .3, .4),  # type: ignore[arg-type]
                      'it brakes', 'brake'),
        keep=(0, 2), grid=(2, 2), latency_ms={'total': 250.0}, model='m', engine='e'), **changed)


class Recorded:
    """Answers nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.changed: list[tuple[str, Any]] = []
        self.is_closed = False

    def ask(self, question: str) -> None:
        self.asked.append(question)

    def change(self, name: str, value: Any) -> None:
        if name != 'keep_ratio':
            raise ValueError(f'{name} cannot be changed here')
        self.changed.append((name, value))

    def close(self) -> None:
        self.is_closed = True


# ---- The hub ------------------------------------------------------------------------------------


def test_a_minute_is_kept_and_no_more() -> None:
    clock = Clock()
    hub = Hub({}, clock)
    for number in range(1000):
        clock.now += 0.2
        hub.show(frame(number))
        hub.report(report(number))
    _, hello = hub.open(lambda: None)
    assert len(hello['reports']) == HISTORY_SEC / 0.2 + 1
    assert hello['now'] - hello['reports'][0]['at'] == pytest.approx(HISTORY_SEC)
    shown = [shown['report']['frames'][0]['picture'] for shown in hello['reports']]
    assert all(hub.picture(number) for number in shown)
    assert hub.picture(shown[0] - 1) is None
    newest = hub.picture(shown[-1])
    assert newest is not None
    assert newest.data == frame(999).data
    # No index keeps what the history has let go.
    for held in vars(hub).values():
        if isinstance(held, dict) and len(held) > 10:
            assert len(held) == len(shown)


def test_many_bytes_are_kept_for_a_shorter_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('vts_ros.tools.live.live_hub.MOST_BYTES', 10_000)
    clock = Clock()
    hub = Hub({}, clock)
    size = frame(0).size_bytes
    assert size * 4 < 10_000 < MOST_BYTES
    for number in range(50):
        clock.now += 0.2
        hub.show(frame(number))
    kept = sum(hub.picture(number) is not None for number in range(60))
    assert kept == pytest.approx(10_000 / size, abs=1.5)


def test_a_fast_camera_is_thinned_but_for_pictures_of_windows() -> None:
    clock = Clock()
    hub = Hub({}, clock)
    for number in range(60):
        clock.now += 1 / 60
        hub.show(frame(number), is_needed=number % 24 == 23)
    kept = [number for number in range(1, 61) if hub.picture(number)]
    assert PICTURE_HZ - 2 <= len(kept) <= PICTURE_HZ + 4
    clock.now += 1
    hub.report(report(23))
    _, hello = hub.open(lambda: None)
    number = hello['reports'][0]['report']['frames'][0]['picture']
    found = hub.picture(number)
    assert found is not None
    assert found.stamp_ns == START_NS + 23 * STEP_NS


def test_a_page_that_sleeps_loses_the_oldest_and_gets_the_newest_picture() -> None:
    hub = Hub({}, Clock())
    looker, _ = hub.open(lambda: None)
    looker.camera = 'front'
    for number in range(MOST_EVENTS + 100):
        hub.tell('note', text=str(number))
        hub.show(frame(number), is_needed=True)
        hub.show(frame(number, 'rear'), is_needed=True)
    texts = [event['text'] for event in looker.take_events() if event['kind'] == 'note']
    assert len(texts) <= MOST_EVENTS
    assert texts[-1] == str(MOST_EVENTS + 99)
    taken = looker.take_picture()
    assert taken is not None
    assert (taken.camera, taken.stamp_ns) == ('front', START_NS + (MOST_EVENTS + 99) * STEP_NS)
    assert looker.take_picture() is None
    hub.close(looker)
    hub.tell('note', text='later')
    assert looker.take_events() == []
    assert hub.lookers == 0


def test_the_past_is_found_by_its_time() -> None:
    clock = Clock()
    hub = Hub({}, clock)
    for number in range(10):
        clock.now += 1.0
        hub.show(frame(number))
    # The first came at 1 s of the hub.
    for at_sec, expected in ((-5.0, 0), (1.5, 0), (4.2, 3), (99.0, 9)):
        found = hub.near('front', at_sec)
        assert found is not None
        assert found.stamp_ns == START_NS + expected * STEP_NS
    assert hub.near('rear', 1.0) is None


def test_large_and_other_pictures_become_jpeg_of_the_page() -> None:
    hub = Hub({}, Clock())
    hub.show(Frame('front', 1, np.full((2000, 3000, 3), 90, np.uint8)), is_needed=True)
    hub.show(Frame('front', 2, b'no picture'), is_needed=True)
    held = hub.picture(1)
    assert held is not None
    assert held.data[:2] == b'\xff\xd8'
    assert Frame('front', 1, held.data).rgb().shape == (853, 1280, 3)
    assert hub.picture(2) is None


# ---- The server ---------------------------------------------------------------------------------


@contextmanager
def serving(hub: Hub, answerer: Any, host: str = '127.0.0.1') -> Iterator[LiveServer]:
    """Run a server in a thread."""
    server = LiveServer(hub, host, 0)
    thread = threading.Thread(target=server.run, args=(answerer,))
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30.0)
        assert not thread.is_alive()


def get(server: LiveServer, path: str, **headers: str) -> http.client.HTTPResponse:
    """Ask for a file; headers that are empty are left out."""
    connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=30.0)
    connection.putrequest('GET', path, skip_host=True)
    for name, value in {'Host': f'localhost:{server.port}', **headers}.items():
        if value:
            connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def opened(server: LiveServer, **headers: str) -> ClientConnection:
    """Open the WebSocket of a page."""
    return connect(f'ws://127.0.0.1:{server.port}/ws', additional_headers=headers,
                   open_timeout=PATIENCE_SEC, max_size=2**22)


def events(page: ClientConnection, until: Callable[[dict[str, Any]], bool],
           patience_sec: float = PATIENCE_SEC) -> list[dict[str, Any]]:
    """Return what is told up to an event; pictures are passed over."""
    deadline = time.monotonic() + patience_sec
    found: list[dict[str, Any]] = []
    while time.monotonic() < deadline:
        said = page.recv(timeout=max(0.1, deadline - time.monotonic()))
        if isinstance(said, bytes):
            page.send('{"shown": 1}')
            continue
        found.append(json.loads(said))
        if until(found[-1]):
            return found
    raise AssertionError(f'not told: {[event["kind"] for event in found]}')


@pytest.fixture(scope='module')
def server() -> Iterator[LiveServer]:
    """Return a server that only this machine reaches."""
    with serving(Hub({}), Recorded()) as running:
        yield running


@pytest.mark.parametrize(('headers', 'status'), [
    ({'Host': 'localhost:{port}'}, 200),
    ({'Host': '127.0.0.1:{port}'}, 200),
    ({'Host': '[::1]:{port}'}, 200),
    ({'Host': 'localhost:{port}', 'Origin': 'http://localhost:{port}'}, 200),
    ({'Host': 'evil.example:{port}'}, 403),
    ({'Host': 'localhost.evil.example:{port}'}, 403),
    ({'Host': '10.0.0.5:{port}'}, 403),
    ({'Host': '127.0.0.1.evil.example'}, 403),
    ({'Host': '[::1'}, 403),
    ({'Host': ''}, 400),
    ({'Host': 'localhost:{port}', 'Origin': 'http://evil.example'}, 403),
    ({'Host': 'localhost:{port}', 'Origin': 'http://localhost:1'}, 403),
    ({'Host': 'localhost:{port}', 'Origin': 'null'}, 403),
])
def test_only_names_of_this_machine_are_answered(
        server: LiveServer, headers: dict[str, str], status: int) -> None:
    """A page elsewhere can have its own name lead here, or open a WebSocket from there."""
    given = {name: value.format(port=server.port) for name, value in headers.items()}
    answer = get(server, '/', **given)
    # Without Host it is no HTTP/1.1; who refuses that does not matter.
    assert answer.status in ({400, 403} if status == 400 else {status})
    if status == 403:
        assert b'html' not in answer.read()


@pytest.mark.parametrize(('origin', 'is_open'), [
    (None, True), ('http://127.0.0.1:{port}', True), ('http://evil.example', False),
    ('http://127.0.0.1:1', False), ('https://127.0.0.1.evil.example', False)])
def test_pages_of_others_cannot_look_or_ask(
        server: LiveServer, origin: str | None, is_open: bool) -> None:
    headers = {'Origin': origin.format(port=server.port)} if origin else {}
    if is_open:
        with opened(server, **headers) as page:
            assert json.loads(page.recv(timeout=30.0))['kind'] == 'hello'
        return
    with pytest.raises(InvalidStatus) as refused, opened(server, **headers):
        pass
    assert refused.value.response.status_code == 403


def test_beyond_this_machine_addresses_are_answered_and_foreign_names_are_not() -> None:
    with serving(Hub({}), Recorded(), '0.0.0.0') as server:
        for host, status in (('192.168.1.7:8090', 200), (f'{socket.gethostname()}:8090', 200),
                             ('evil.example', 403)):
            assert get(server, '/', Host=host).status == status


def test_the_page_loads_nothing_from_elsewhere(server: LiveServer) -> None:
    for path, (name, kind) in FILES.items():
        answer = get(server, path)
        text = answer.read().decode()
        assert answer.status == 200
        assert answer.headers['Content-Type'].startswith(kind)
        assert text == (PAGE / name).read_text()
        policy = answer.headers['Content-Security-Policy']
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert 'unsafe' not in policy
        assert not re.findall(r'https?://(?!www\.w3\.org)', text)
    assert get(server, '/../setup.py').status == 404
    assert get(server, '/picture/7').status == 404
    assert get(server, '/near/front?at=x').status == 400
    assert get(server, '/near/front?at=nan').status == 404


def test_a_second_server_on_a_port_is_told_in_one_line(server: LiveServer) -> None:
    with pytest.raises(ServerError, match=r'cannot listen at 127\.0\.0\.1:\d+: .* --port'):
        LiveServer(Hub({}), '127.0.0.1', server.port)
    with pytest.raises(ServerError, match=r'cannot listen at no\.such\.host\.invalid'):
        LiveServer(Hub({}), 'no.such.host.invalid', 0)


def test_a_page_asks_changes_and_is_told_what_cannot_be() -> None:
    hub, answerer = Hub({'source': 'a drive'}), Recorded()
    with serving(hub, answerer) as server, opened(server) as page:
        hello = json.loads(page.recv(timeout=30.0))
        assert hello['state'] == {'source': 'a drive'}
        for said in ('no json', '[1]', '{"ask": 7}', '{"change": []}', '[' * 5000,
                     json.dumps({'ask': 'Is it safe?',
                                 'change': {'keep_ratio': 0.4, 'url': 'x'}})):
            page.send(said)
        told = events(page, lambda event: event['kind'] == 'note')
        assert told[-1]['text'] == 'url cannot be changed here'
        assert answerer.asked == ['Is it safe?']
        assert answerer.changed == [('keep_ratio', 0.4)]
        # Longer than any question: the connection ends, the server does not.
        page.send(json.dumps({'ask': 'x' * 100_000}))
        with pytest.raises(ConnectionClosedError, match='1009'):
            events(page, lambda event: False)
        assert answerer.asked == ['Is it safe?']
        assert get(server, '/').status == 200


def test_pictures_come_one_at_a_time_and_only_of_one_camera() -> None:
    hub = Hub({})
    with serving(hub, Recorded()) as server, opened(server) as page:
        page.recv(timeout=30.0)
        page.send('{"watch": "front"}')
        deadline = time.monotonic() + 30.0
        while not (hub._lookers and hub._lookers[0].camera) and time.monotonic() < deadline:
            time.sleep(0.01)
        taken = []
        for number in range(5):
            hub.show(frame(number, 'rear'), is_needed=True)
            hub.show(frame(number), is_needed=True)
            time.sleep(0.05)
        for _ in range(2):
            while isinstance(said := page.recv(timeout=30.0), str):
                pass
            length = int.from_bytes(said[:4], 'big')
            taken.append((json.loads(said[4:4 + length]), said[4 + length:]))
            page.send('{"shown": 1}')
        # The first when it came, then the newest of those that came meanwhile.
        assert [head['stamp'] for head, _ in taken] == [START_NS, START_NS + 4 * STEP_NS]
        assert taken[1][1] == frame(4).data
        number = taken[1][0]['number']
        assert get(server, f'/picture/{number}').read() == frame(4).data
        assert get(server, '/near/front?at=1e9').read() == frame(4).data
        assert get(server, '/near/rear?at=0').read() == frame(0).data


def test_pages_are_bounded() -> None:
    with serving(Hub({}), Recorded()) as server:
        pages = [opened(server) for _ in range(MOST_PAGES)]
        for page in pages:
            page.recv(timeout=30.0)
        with pytest.raises(InvalidStatus), opened(server):
            pass
        for page in pages:
            page.close()


# ---- The pipeline behind it ---------------------------------------------------------------------


@pytest.fixture(scope='module')
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a language model that has learned nothing."""
    model = tmp_path_factory.mktemp('model') / 'tiny'
    create_checkpoint(
        model, ['a road'], vocab_size=512, text_hidden=64, text_layers=2, text_heads=2,
        text_intermediate=64, hidden_size=32, depth=2, num_heads=2, intermediate_size=64)
    return str(model)


class Frames:
    """A source of pictures that are always due."""

    name = 'frames'
    senses = None

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames

    def play(self, push: Callable[[Frame], None], restart: Callable[[], None],
             stop: threading.Event) -> None:
        for frame in self._frames:
            push(frame)
            if stop.wait(0.01):
                return


class Page:
    """What a page would be told."""

    def __init__(self, hub: Hub) -> None:
        self._news = threading.Event()
        self._looker, self.hello = hub.open(self._news.set)
        self.told: list[dict[str, Any]] = []

    def wait_for(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return the first event of a kind with such fields that was not returned before."""
        deadline = time.monotonic() + PATIENCE_SEC
        while time.monotonic() < deadline:
            self.told += self._looker.take_events()
            for event in self.told:
                if event['kind'] == kind and all(event.get(name) == value or event.get(
                        'state', {}).get(name) == value for name, value in fields.items()):
                    self.told.remove(event)
                    return event
            self._news.wait(0.1)
            self._news.clear()
        raise AssertionError(f'no {kind} {fields} in {[event["kind"] for event in self.told]}')


@contextmanager
def answering(model: str, frames: Sequence[Frame], **options: Any) -> Iterator[
        tuple[LivePipeline, Page]]:
    """Run a live pipeline on frames."""
    hub = Hub({})
    page = Page(hub)
    live = LivePipeline(hub, Frames(frames), Pipeline.load(
        PipelineConfig(model=model, max_new_tokens=6, threads=1)), FrameBuffer(), **options)
    live.start()
    try:
        yield live, page
    finally:
        live.close()
        assert not [thread for thread in live._threads if thread.is_alive()]


def test_a_drive_is_described_asked_about_and_changed(tiny: str) -> None:
    broken = Frame('front', START_NS + 9 * STEP_NS, jpeg(picture(9))[:300])
    frames = [broken if number == 9 else frame(number) for number in range(20)]
    with answering(tiny, frames) as (live, page):
        first = page.wait_for('report')['report']
        assert first['model'] == 'tiny'
        assert [ref['picture'] is not None for ref in first['frames']] == [True] * 5
        assert first['age_ms'] >= first['latency_ms']['total']
        page.wait_for('state', status='the recording is over')
        live.ask('Is it safe?')
        question = page.wait_for('question', question='Is it safe?')
        answer = page.wait_for('answer', id=question['id'])
        pieces = [event['text'] for event in page.told if event['kind'] == 'piece']
        assert answer['error'] is None
        assert ''.join(pieces).strip() == answer['text']
        live.change('keep_ratio', 0.3)
        page.wait_for('state', keep_ratio=0.3)
        live.change('mode', 'causal')
        page.wait_for('state', mode='causal', model=tiny)
        live.ask('And now?')
        assert page.wait_for('answer')['error'] is None


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('keep_ratio', 0.0, '0.01 to 1'), ('keep_ratio', '0.5', '0.01 to 1'),
    ('keep_ratio', True, '0.01 to 1'), ('mode', 'other', 'mode is one of'),
    ('model', '/etc', 'not named at the start'), ('url', 'http://x', 'cannot be changed'),
    ('prompts', '/etc/passwd', 'cannot be changed')])
def test_what_a_page_may_not_change(tiny: str, name: str, value: Any, reason: str) -> None:
    with answering(tiny, []) as (live, _), pytest.raises(ValueError, match=reason):
        live.change(name, value)


def test_an_adapter_stays_with_its_model(tiny: str) -> None:
    loaded: list[tuple[str, str]] = []

    def load(config: PipelineConfig) -> Pipeline:
        loaded.append((config.model, config.adapter))
        pipeline = Pipeline.load(replace(config, model=tiny, adapter=''))
        pipeline.config = config
        return pipeline

    hub, config = Hub({}), PipelineConfig(model=tiny, max_new_tokens=6, threads=1, adapter='mine')
    page = Page(hub)
    live = LivePipeline(hub, Frames([]), load(config), FrameBuffer(), models=['other'], load=load)
    live.start()
    try:
        for model in ('other', tiny):
            live.change('model', model)
            page.wait_for('state', status=f'loading {model}, window mode')
    finally:
        live.close()
    assert loaded == [(tiny, 'mine'), ('other', ''), (tiny, 'mine')]


def test_a_model_that_cannot_be_loaded_leaves_the_one_before(tiny: str) -> None:
    loaded: list[str] = []

    def load(config: PipelineConfig) -> Pipeline:
        loaded.append(config.model)
        if config.model != tiny:
            raise VlmError('it lacks config.json')
        return Pipeline.load(config)

    with answering(tiny, [frame(number) for number in range(20)], models=['other'],
                   load=load) as (live, page):
        live.change('model', 'other')
        assert page.wait_for('note')['text'] == 'it lacks config.json'
        assert page.wait_for('state', model=tiny)
        assert loaded == ['other', tiny]
        live.ask('Are you there?')
        assert page.wait_for('answer')['error'] is None


def test_questions_are_bounded(tiny: str) -> None:
    with answering(tiny, []) as (live, page):
        live.ask('?' * (MAX_QUESTION_CHARS + 1))
        assert '1 to 500' in page.wait_for('answer')['error']
        live.ask('Anybody?')
        assert page.wait_for('answer')['error'] == 'there is no picture yet'


# ---- Recordings ---------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['bag', 'video'])
def test_recordings_are_played_at_their_pace_and_again(tmp_path: Path, kind: str) -> None:
    """Never sooner; on a busy machine later."""
    if kind == 'bag':
        source = Recording.bag(drive(tmp_path / 'bag', 6), None, loop=True)
    else:
        source = Recording.video(write_video(tmp_path / 'a.mp4', range(0, 1200, 200)), loop=True)
    stop, began = threading.Event(), time.monotonic()
    pushed: list[tuple[float, int]] = []
    restarts: list[int] = []

    def push(frame: Frame) -> None:
        pushed.append((time.monotonic() - began, frame.stamp_ns))
        if len(pushed) == 9:
            stop.set()

    source.play(push, lambda: restarts.append(len(pushed)), stop)
    assert restarts == [6]
    stamps = [stamp for _, stamp in pushed]
    assert stamps[6:] == stamps[:3]
    assert np.diff(stamps[:6]).tolist() == [STEP_NS] * 5
    assert all(at - pushed[0][0] >= 0.2 * number - 0.02
               for number, (at, _) in enumerate(pushed[:6]))


def test_a_stream_that_ends_is_looked_for_again(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamps are when pictures come; what follows is a new drive."""
    monkeypatch.setattr('vts_ros.tools.live.live_sources.RETRY_SEC', 0.05)
    write_video(tmp_path / 'camera.ts', range(0, 1000, 100), bf='0')
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *_: None)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        source = Stream(f'http://user:secret@127.0.0.1:{web.server_port}/camera.ts')
        assert source.name == f'http://127.0.0.1:{web.server_port}/camera.ts'
        stop, began = threading.Event(), time.time_ns()
        pushed: list[Frame] = []
        restarts: list[int] = []

        def push(frame: Frame) -> None:
            pushed.append(frame)
            if len(pushed) == 15:
                stop.set()

        source.play(push, lambda: restarts.append(len(pushed)), stop)
        web.shutdown()
        thread.join(30.0)
    assert restarts == [10]
    assert all(frame.stamp_ns >= began for frame in pushed)
    assert {frame.camera for frame in pushed} == {'127_0_0_1'}
    with pytest.raises(VideoError, match='cannot be reached'):
        Stream(f'http://127.0.0.1:{web.server_port}/camera.ts')


def test_a_failed_answer_takes_back_what_was_said() -> None:
    clock = Clock()
    hub = Hub({}, clock)
    hub.report(report(0))
    clock.now += 1
    looker, _ = hub.open(lambda: None)
    hub.retract('the model failed')
    assert looker.take_events()[-1] == {'kind': 'retract', 'at': 1.0, 'text': 'the model failed'}
    # Who comes later is told, too.
    assert hub.open(lambda: None)[1]['retracted'] == 1.0
