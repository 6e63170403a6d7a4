# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A language model behind a server: real HTTP to a server that the test starts."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import itertools
from itertools import pairwise
import json
from pathlib import Path
import sys
import threading
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from preloaded import run_module
import pytest
import yaml

from vts_ros.errors import ServerNotReady
from vts_ros.lab.evaluation.batches import describe_batch
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.sparsify import token_budget
from vts_ros.vlm import chat_client, VlmError
from vts_ros.vlm.answers import Answer, render, schema
from vts_ros.vlm.boxes import BoxForm
from vts_ros.vlm.prompts import Prompt, Prompts
from vts_ros.vlm.served import ServedVlm
from vts_ros.vlm.served_prompt import ServedFrame, ServedPrompt
from vts_ros.vlm.tasks import load_task
from vts_ros.vlm.vehicle import Vehicle

ANSWER = Answer('A road.', 'high', 'car', (0.4, 0.4, 0.6, 0.7), 'It brakes.', 'brake')
HEIGHT, WIDTH = 360, 640
FRAMES = 4


@dataclass
class Server:
    """
    What a server is to do, and what was asked of it.

    Attributes
    ----------
    text
        The answer to a chat.
    refusals
        Statuses, one per request from the first, before it answers.
    refuse_after_sec
        Before each of them.
    pause_sec
        Before every piece of an answer.
    held_at, go_on
        Text after which an answer waits, and what lets it go on.
    endless
        Whether an answer never ends.
    cut
        Whether the connection is cut in the middle of an answer.
    chats
        All requests for an answer, as they came.
    list_after_sec, list_refusals
        Before it lists its models, and statuses instead of that, as ``refusals``.
    models
        What it says of each of its models, beside what all say.
    left
        Set when a client went away in the middle of an answer.

    """

    text: Callable[[dict[str, Any]], str] = lambda chat: render(ANSWER)
    refusals: list[int] = field(default_factory=list)
    refuse_after_sec: float = 0.0
    pause_sec: float = 0.0
    held_at: str = ''
    go_on: threading.Event = field(default_factory=threading.Event)
    endless: bool = False
    cut: bool = False
    chats: list[dict[str, Any]] = field(default_factory=list)
    list_after_sec: float = 0.0
    list_refusals: list[int] = field(default_factory=list)
    models: list[dict[str, Any]] = field(
        default_factory=lambda: [{'id': 'first'}, {'id': 'second'}])
    left: threading.Event = field(default_factory=threading.Event)
    url: str = ''


class Handler(BaseHTTPRequestHandler):
    """The part of the OpenAI protocol that is used, over HTTP/1.1 with chunks."""

    protocol_version = 'HTTP/1.1'
    plan: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        time.sleep(self.plan.list_after_sec)
        if self.plan.list_refusals:
            self._send(self.plan.list_refusals.pop(0), {'error': {'message': 'Loading model'}})
            return
        self._send(200, {'object': 'list', 'data': [
            {'object': 'model', 'created': 0, 'owned_by': 'test', **model}
            for model in self.plan.models]})

    def do_POST(self) -> None:
        chat = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        self.plan.chats.append(chat)
        if self.plan.refusals:
            status = self.plan.refusals.pop(0)
            time.sleep(self.plan.refuse_after_sec)
            self._send(status, {'error': {'message': f'said\n {status}', 'type': 'test'}})
            return
        self.send_response(200)
        self.send_header('Content-Type', 'text/event-stream')
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        try:
            self._answer(self.plan.text(chat))
        except OSError:
            self.plan.left.set()
            self.close_connection = True

    def _answer(self, text: str) -> None:
        if self.plan.held_at:
            before, mark, text = text.partition(self.plan.held_at)
            self._event({'choices': [{'index': 0, 'delta': {'content': before + mark}}]})
            self.plan.go_on.wait(600.0)
        pieces: Iterator[str] = (text[start:start + 7] for start in range(0, len(text), 7))
        for count, piece in enumerate(itertools.cycle(pieces) if self.plan.endless else pieces):
            time.sleep(self.plan.pause_sec)
            if self.plan.cut and count == 2:
                self.close_connection = True
                return
            self._event({'choices': [{'index': 0, 'delta': {'content': piece}}]})
        self._event({'choices': [], 'usage': {
            'prompt_tokens': 321, 'completion_tokens': 1, 'total_tokens': 322}})
        self._chunk(b'data: [DONE]\n\n')
        self._chunk(b'')

    def _event(self, data: dict[str, Any]) -> None:
        whole = {'id': 'x', 'object': 'chat.completion.chunk', 'created': 0, 'model': 'm', **data}
        self._chunk(f'data: {json.dumps(whole)}\n\n'.encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f'{len(data):x}\r\n'.encode() + data + b'\r\n')
        self.wfile.flush()

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        if status == 503:
            self.send_header('Retry-After-Ms', '20')
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    """Serve on a port, or on any that is free."""
    plan = Server()
    http = ThreadingHTTPServer(('127.0.0.1', port), type('Planned', (Handler,), {'plan': plan}))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={'poll_interval': 0.02})
    thread.start()
    plan.url = f'http://127.0.0.1:{http.server_port}/v1'
    try:
        yield plan
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as plan:
        yield plan


@contextmanager
def pipelines_on(url: str) -> Iterator[Callable[..., Pipeline]]:
    """Give what makes a pipeline whose language model is on a server; all are closed again."""
    made: list[Pipeline] = []

    def make(**settings: Any) -> Pipeline:
        made.append(Pipeline.load(PipelineConfig(
            **{'vlm_backend': 'openai', 'url': url, 'engine_threads': 1, **settings})))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.close()


@pytest.fixture
def load(server: Server) -> Iterator[Callable[..., Pipeline]]:
    """Return what makes a pipeline whose language model is on the server."""
    with pipelines_on(server.url) as make:
        yield make


@pytest.fixture(scope='module')
def frames() -> list[Frame]:
    """Return frames in which a bright box moves over a still background."""
    random = np.random.default_rng(0)
    still = cv2.resize(random.integers(0, 120, (9, 16, 3), np.uint8), (WIDTH, HEIGHT))
    found = []
    for index in range(FRAMES):
        rgb = np.asarray(still, np.uint8).copy()
        rgb[200:280, 80 + 100 * index:180 + 100 * index] = 250
        found.append(Frame('front', index * 400_000_000, rgb))
    return found


def content(chat: dict[str, Any]) -> list[str | NDArray[np.uint8]]:
    """Return the texts and the pictures, RGB, that the user of a chat sends."""
    found: list[str | NDArray[np.uint8]] = []
    for part in chat['messages'][1]['content']:
        if part['type'] == 'text':
            found.append(part['text'])
        else:
            head, data = part['image_url']['url'].split(',')
            assert head == 'data:image/jpeg;base64'
            bgr = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR)
            assert bgr is not None
            found.append(np.asarray(bgr[..., ::-1], np.uint8))
    return found


def test_each_frame_is_as_large_as_what_is_kept_of_it(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    report = load(keep_ratio=0.5).describe(frames, vehicle=Vehicle(speed_mps=10.0))
    assert report.answer == ANSWER
    assert (report.model, report.stamp) == ('first', frames[-1].stamp_ns)
    rows, columns = report.grid
    assert len(report.keep) == token_budget(FRAMES, (rows, columns), 0.5)
    chat, = server.chats
    assert (chat['model'], chat['max_tokens'], chat['temperature']) == ('first', 160, 0.0)
    assert 'response_format' not in chat
    prompts = Prompts.load()
    assert chat['messages'][0]['content'] == prompts.description.system
    *parts, instruction = content(chat)
    assert instruction == f'The car drives at 36 km/h. {prompts.description.instruction}'
    kept = np.zeros(FRAMES * rows * columns, bool)
    kept[list(report.keep)] = True
    shares = kept.reshape(FRAMES, -1).mean(axis=1)
    assert shares.min() < shares.max() < 1.0
    assert parts[::2] == ['-1.2s', '-0.8s', '-0.4s', '0.0s']
    pixels = 0
    for frame, share, sent in zip(frames, shares, parts[1::2], strict=True):
        assert isinstance(sent, np.ndarray)
        assert sent.shape[0] / HEIGHT == pytest.approx(share ** 0.5, abs=0.01)
        assert sent.shape[1] / WIDTH == pytest.approx(share ** 0.5, abs=0.01)
        shown = cv2.resize(frame.rgb(), sent.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(shown.astype(int) - sent).mean() < 12
        pixels += sent.shape[0] * sent.shape[1]
    assert pixels / (FRAMES * HEIGHT * WIDTH) == pytest.approx(0.5, abs=0.02)
    assert {'read', 'propose', 'encode', 'select', 'prepare', 'prefill', 'decode', 'total'} <= set(
        report.latency_ms)


def test_of_little_a_little_is_sent_and_of_nothing_nothing() -> None:
    frame = ServedFrame(np.zeros((400, 800, 3), np.uint8), (8, 16))
    assert frame.at(0.25).shape == (200, 400, 3)
    assert frame.at(1 / 128).shape == (100, 200, 3)
    assert ServedFrame(np.zeros((40, 80, 3), np.uint8), (1, 2)).at(0.1).shape == (32, 64, 3)
    assert ServedFrame(np.zeros((8, 8, 3), np.uint8), (1, 1)).at(0.1).shape == (8, 8, 3)
    prompt = ServedPrompt((frame, frame), ('first', 'second'), Prompt('', 'I'))
    texts = [part['text'] for part in prompt.messages(
        np.array([128], np.int32))[0]['content'] if part['type'] == 'text']
    assert texts == ['second', 'I']


def user_parts(chat: dict[str, Any]) -> list[Any]:
    return list(chat['messages'][1]['content'])


def test_instructions_first_stand_before_the_pictures_of_every_prompt(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    pipeline = load(instructions='first', keep_ratio=1.0)
    pipeline.describe(frames[:2], vehicle=Vehicle(speed_mps=10.0))
    pipeline.describe(frames[:2])
    pipeline.ask(frames[:2], 'What is ahead?')
    asked = Prompts.load().description.instruction
    ends = [['The car drives at 36 km/h.'], [],
            [Prompts.load().ask('What is ahead?').instruction]]
    for chat, end in zip(server.chats, ends, strict=True):
        texts = [part for part in content(chat) if isinstance(part, str)]
        assert texts == [asked, '-0.4s', '0.0s', *end]
        assert isinstance(content(chat)[-1 - len(end)], np.ndarray)


def test_in_causal_mode_a_prompt_goes_on_where_the_one_before_ended(
        load: Callable[..., Pipeline], server: Server) -> None:
    """A server that caches prefixes reads only what is new."""
    rng = np.random.default_rng(3)
    road = cv2.resize(rng.integers(0, 256, (9, 16, 3), np.uint8), (WIDTH, HEIGHT))
    drive = [Frame('front', index * 400_000_000, np.asarray(
        np.roll(road, 3 * index, axis=1), np.uint8))
             for index in range(12)]
    pipeline = load(mode='causal', group_frames=4, keep_ratio=0.5)
    reports = []
    for end in range(3, 13):
        window = drive[max(0, end - 4):end]
        pipeline.ingest(window)
        reports.append(pipeline.describe(window))
    assert [report.answer for report in reports] == [ANSWER] * 10
    asked = [user_parts(chat) for chat in server.chats]
    goes_on = [now[:len(before) - 1] == before[:-1] for before, now in pairwise(asked)]
    # Of eight moments the older four are forgotten when the ninth comes, once.
    assert goes_on.count(False) == 1
    assert [len(report.frames) for report in reports] == [3, 4, 5, 6, 7, 8, 5, 6, 7, 8]
    texts = [part['text'] for part in asked[5] if part['type'] == 'text']
    assert texts[:-1] == [f'{0.4 * index:.1f}s' for index in range(8)]
    first, *rest = (part.shape for part in content(server.chats[5]) if not isinstance(part, str))
    assert all(picture[0] < first[0] for picture in rest[:3])
    found = pipeline.stats()
    assert (found['groups'], found['groups_full'], found['groups_evicted']) == (2, 2, 1)


def test_in_causal_mode_another_drive_and_a_camera_that_is_gone_begin_anew(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    pipeline = load(mode='causal')
    other = [replace(frame, camera='rear') for frame in frames]
    both = sorted([*frames, *other], key=lambda frame: frame.stamp_ns)
    assert len(pipeline.describe(both).frames) == 2 * FRAMES
    assert len(pipeline.describe(frames).frames) == FRAMES
    late = [replace(frame, stamp_ns=frame.stamp_ns + 10 ** 12) for frame in frames[:2]]
    report = pipeline.describe(late)
    assert [(frame.camera, frame.stamp) for frame in report.frames] == [
        ('front', frame.stamp_ns) for frame in late]
    assert pipeline.frames_of(report) == late
    assert describe_batch(pipeline, [frames, late])[1].frames == report.frames


def test_all_is_sent_whole_when_all_is_kept(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    load(keep_ratio=1.0).describe(frames)
    pictures = [part for part in content(server.chats[0]) if not isinstance(part, str)]
    assert [picture.shape for picture in pictures] == [(HEIGHT, WIDTH, 3)] * FRAMES


def test_the_form_is_left_to_the_server(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    pipeline = load(structured=True)
    pipeline.describe(frames[:2])
    pipeline.ask(frames[:2], 'What is ahead?')
    described, asked = server.chats
    assert described['response_format'] == {'type': 'json_schema', 'json_schema': {
        'name': 'report', 'strict': True, 'schema': schema()}}
    assert 'response_format' not in asked


def test_the_server_is_told_the_form_of_other_prompts(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame], tmp_path: Path
        ) -> None:
    texts = yaml.safe_load(load_task().prompts.read_text(encoding='utf-8'))
    path = tmp_path / 'prompts.yaml'
    path.write_text(yaml.safe_dump({'en': {**texts['en'], 'box_scale': 1000}}), encoding='utf-8')
    server.text = lambda chat: render(ANSWER).replace(
        '[0.40, 0.40, 0.60, 0.70]', '[400, 400, 600, 700]')
    pipeline = load(structured=True)
    pipeline.set_prompts('en', str(path))
    assert pipeline.describe(frames[:2]).answer == ANSWER
    sent, = server.chats
    assert sent['response_format']['json_schema']['schema'] == schema(BoxForm(scale=1000.0))


def test_an_answer_comes_in_pieces(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    server.text = lambda chat: 'A white van, on the left.'
    pieces: list[str] = []
    answer = load().ask(frames[:2], 'What is ahead?', on_text=pieces.append)
    assert answer == ''.join(pieces) == 'A white van, on the left.'
    assert len(pieces) == 4


def test_a_batch_keeps_its_order(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    def echo(chat: dict[str, Any]) -> str:
        pictures = sum(not isinstance(part, str) for part in content(chat))
        return render(replace(ANSWER, action=f'{pictures} pictures'))

    server.text = echo
    server.pause_sec = 0.005
    reports = describe_batch(load(keep_ratio=1.0),
        [frames[:count] for count in (3, 1, 4, 2, 3, 1)])
    assert [report.answer.action for report in reports] == [
        f'{count} pictures' for count in (3, 1, 4, 2, 3, 1)]


def test_the_length_of_the_prompt_is_what_the_server_counts(
        load: Callable[..., Pipeline], frames: list[Frame]) -> None:
    model = load().language_model
    prompt = model.prepare([model.encode(frames[0].rgb())], ['0.0s'], Prompts.load().description)
    generation, = model.generate_batch([prompt], [np.arange(5, dtype=np.int32)])
    assert (generation.prompt_tokens, generation.visual_tokens) == (321, 5)
    assert generation.latency_ms['prefill'] > 0.0


def test_who_no_longer_wants_an_answer_hangs_up(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    server.endless, server.pause_sec = True, 0.01
    pieces: list[str] = []
    report_text = load(timeout_sec=3600.0).ask(
        frames[:2], 'What?', stop=lambda: len(pieces) >= 3, on_text=pieces.append)
    assert report_text == ''.join(pieces).strip()
    assert server.left.wait(500.0)


def test_stopping_before_the_first_piece_leaves_the_risk_unknown(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    # Longer than a test may take.
    server.pause_sec = 3600.0
    report = load(timeout_sec=3600.0).describe(frames[:2], stop=lambda: True)
    assert report.answer.risk == 'unknown'


def test_an_answer_that_does_not_begin_in_time_is_given_up(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    pipeline = load(timeout_sec=3.0)
    server.pause_sec = 4.0
    with pytest.raises(VlmError, match=r'^http://127\S+/v1 did not answer within 3 s$'):
        pipeline.describe(frames[:2])
    assert server.left.wait(500.0)
    # The next window is answered as if nothing had been.
    server.pause_sec = 0.0
    assert pipeline.describe(frames[:2]).answer == ANSWER


def test_of_an_answer_that_is_late_what_was_said_in_time_is_taken(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame],
        caplog: pytest.LogCaptureFixture) -> None:
    pipeline = load(timeout_sec=3.0)
    server.held_at = '"explanation": "'
    report = pipeline.describe(frames[:2])
    assert report.answer == replace(ANSWER, explanation='', action='', description='')
    assert 'did not answer within 3 s; what it had said by then is taken' in caplog.text
    server.go_on.set()
    assert pipeline.describe(frames[:2]).answer == ANSWER


def test_of_clients_that_overload_a_server_each_gets_what_was_said_in_time(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    server.endless, server.pause_sec = True, 0.05
    pipelines = [load(timeout_sec=3.0) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(lambda pipeline: pipeline.describe(frames[:2]), pipelines))
    assert [report.answer.risk for report in reports] == ['high'] * 6


def test_in_a_batch_an_answer_that_has_not_begun_is_not_taken_for_one(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    def slow_for_one_picture(chat: dict[str, Any]) -> str:
        if sum(not isinstance(part, str) for part in content(chat)) == 1:
            time.sleep(5.0)
        return render(ANSWER)

    server.text, server.held_at = slow_for_one_picture, '"explanation": "'
    with pytest.raises(VlmError, match='did not answer within 3 s'):
        describe_batch(load(timeout_sec=3.0, keep_ratio=1.0), [frames[:1], frames[:2]])


def test_a_server_without_room_is_asked_again_when_it_says(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    server.refusals = [503, 503]
    assert load(retries=2).describe(frames[:2]).answer == ANSWER
    assert len(server.chats) == 3


@pytest.mark.parametrize(('status', 'message', 'requests'), [
    (503, 'is busy: .*503', 2), (400, 'refuses the request: .*400', 1),
    (401, 'refuses the request: .*401', 1)])
def test_a_refusal_is_one_line(load: Callable[..., Pipeline], server: Server,
                               frames: list[Frame], status: int, message: str,
                               requests: int) -> None:
    pipeline = load(retries=1)
    server.refusals = [status] * 2
    with pytest.raises(VlmError, match=rf'^http://127\S+ {message}.*$') as caught:
        pipeline.describe(frames[:2])
    assert '\n' not in str(caught.value)
    assert len(server.chats) == requests


def test_an_answer_that_breaks_off_is_an_error(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    pipeline = load()
    server.cut = True
    with pytest.raises(VlmError, match=r'^no connection to http://127\S+: .+$'):
        pipeline.describe(frames[:2])
    server.cut = False
    assert pipeline.describe(frames[:2]).answer == ANSWER


def test_the_failure_of_one_window_ends_the_requests_of_all(
        load: Callable[..., Pipeline], server: Server, frames: list[Frame]) -> None:
    pipeline = load(retries=0)
    server.endless, server.pause_sec = True, 0.01
    server.refusals, server.refuse_after_sec = [400], 0.5
    with pytest.raises(VlmError, match='refuses the request'):
        describe_batch(pipeline, [frames[:1], frames[:2], frames[:3]])
    assert server.left.wait(500.0)


def test_a_model_is_chosen_by_name(load: Callable[..., Pipeline], server: Server) -> None:
    assert load(model='second').info()['name'] == 'second'
    assert load().info()['device'] == server.url
    with pytest.raises(VlmError, match=r'does not serve third; it has: first, second$'):
        load(model='third')


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ServerNotReady,
                       match=r'^no connection to http://127\.0\.0\.1:9/v1: .+$'):
        ServedVlm('http://127.0.0.1:9/v1', retries=0)


def test_a_server_that_is_loading_is_told_from_one_that_refuses(
        server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.list_refusals = [503]
    with pytest.raises(ServerNotReady, match=r'is busy: .*Loading model'):
        ServedVlm(server.url, retries=0)
    server.list_refusals = [401]
    with pytest.raises(VlmError, match=r'refuses the request: .*401') as refused:
        ServedVlm(server.url, retries=0)
    assert not isinstance(refused.value, ServerNotReady)
    # The connection is taken, and nothing comes: so vLLM while it loads.
    monkeypatch.setattr(chat_client, 'CONTACT_SEC', 0.5)
    server.list_after_sec = 2.0
    with pytest.raises(ServerNotReady, match=r'within 0\.5 s: it may still be loading$'):
        ServedVlm(server.url, retries=0)


def test_the_time_for_an_answer_does_not_bound_the_first_contact(server: Server) -> None:
    server.list_after_sec = 1.5
    vlm = ServedVlm(server.url, timeout_sec=0.5)
    assert vlm.name == 'first'
    vlm.close()


#: A program that asks and ends, as commands do: it closes nothing.
PROGRAM = """
import sys
import numpy as np
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm.tasks import load_task
pipeline = Pipeline.load(PipelineConfig(vlm_backend='openai', url=sys.argv[1], engine_threads=1))
window = [Frame('front', stamp, np.zeros((90, 160, 3), np.uint8)) for stamp in range(3)]
for _ in range(3):
    print(pipeline.describe(window).answer.risk)
"""


@pytest.mark.slow
def test_it_can_be_closed_while_another_loop_runs(server: Server) -> None:
    """The garbage collector asks nobody when it comes."""
    vlm = ServedVlm(server.url)

    async def close() -> None:
        vlm.close()

    asyncio.run(close())
    assert vlm._client.is_closed


def test_a_program_that_closes_nothing_ends_quietly(server: Server, tmp_path: Path) -> None:
    program = tmp_path / 'program.py'
    program.write_text(PROGRAM)
    done = run_module(str(program), server.url, OPENAI_API_KEY='x')
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['high'] * 3
    for noise in ('was destroyed', 'Traceback', 'asyncgen'):
        assert noise not in done.stderr


def test_a_missing_client_and_an_unknown_backend_are_one_line(
        monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VlmError, match=r"^no backend 'x', there are: transformers, openai$"):
        Pipeline.load(PipelineConfig(vlm_backend='x'))
    monkeypatch.setitem(sys.modules, 'openai', None)
    with pytest.raises(VlmError, match=r'needs its client: pip install openai$'):
        Pipeline.load(PipelineConfig(vlm_backend='openai'))


def test_tools_that_look_inside_are_told_that_they_cannot(load: Callable[..., Pipeline]) -> None:
    with pytest.raises(VlmError, match='in this process, not on a server'):
        _ = load().vlm


@pytest.mark.parametrize(('size', 'sent', 'grid'), [
    ((720, 1280), (720, 1280), (8, 15)), ((1080, 1920), (720, 1280), (8, 15)),
    ((128, 224), (128, 224), (4, 7)), ((1280, 720), (1280, 720), (15, 8)),
    ((8, 8), (8, 8), (1, 1))])
def test_frames_have_about_as_many_cells_whatever_their_size(
        load: Callable[..., Pipeline], size: tuple[int, int], sent: tuple[int, int],
        grid: tuple[int, int]) -> None:
    found: Any = load().language_model.encode(np.zeros((*size, 3), np.uint8))
    assert (found.picture.shape[:2], found.grid) == (sent, grid)
