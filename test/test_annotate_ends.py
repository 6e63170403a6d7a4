# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How `vts annotate` ends early, and what is kept: Ctrl-C, closed pipes, servers that fail."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import signal
from typing import Any

from bag_maker import drive, header, jpeg, picture, raw, START_NS, times, write
import cv2
import numpy as np
from preloaded import EVERY, preloaded, run_module
import pytest
from test_annotate import answer, Page, pairs
from test_served import load, Server, server  # noqa: F401

from vts_ros.errors import VlmError
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE, IMAGE
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.tools.annotate import annotate
from vts_ros.tools.answer_files import ANNOTATED_BAG, AnnotateError, ANSWERS, PAGE, write_outputs
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.tools.cli.terminal import results

pytestmark = pytest.mark.slow

JAPANESE = '歩行者が道路を横断している。'
#: With a language model on a server.
ARGUMENTS = ('vts_ros.tools.cli', 'annotate', '--backend', 'openai', '--engine-threads', '1',
             '--retries', '0')


def answers(out: Path) -> list[Any]:
    """Return the answers in a folder of results."""
    return [json.loads(line) for line in (out / ANSWERS).read_text().splitlines()]


@pytest.mark.parametrize('again', [1, 5])
def test_impatient_interrupts_keep_what_was_answered(
        tmp_path: Path, again: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ends the answers, those while all is written at most the annotated bag."""
    bag, out = drive(tmp_path / 'bag', 40), tmp_path / 'out'
    windows = pairs(bag, [answer('low'), answer('high'), answer('none')])

    def interrupted() -> Any:
        yield from windows[:2]
        os.kill(os.getpid(), signal.SIGINT)
        yield windows[2]

    encode = cv2.imencode

    def slowly(*arguments: Any) -> Any:
        # A thread could not be sure to come at this moment, the middle of the writing.
        if arguments[0] == '.png':
            for _ in range(again):
                os.kill(os.getpid(), signal.SIGINT)
        return encode(*arguments)

    monkeypatch.setattr(cv2, 'imencode', slowly)
    with pytest.raises(AnnotateError, match=f'^2 answers, .* without {ANNOTATED_BAG}: interr'):
        write_outputs(interrupted(), out, source=bag)
    assert len(answers(out)) == Page(out / PAGE).tags['article'] == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_between_answers_waits_until_one_is_written(tmp_path: Path) -> None:
    bag, out = drive(tmp_path / 'bag', 40), tmp_path / 'out'
    summary = write_outputs(
        pairs(bag, [answer('low'), answer('high')]), out, source=bag,
        progress=lambda report: os.kill(os.getpid(), signal.SIGINT))
    assert len(answers(out)) == len(summary.reports) == 1
    assert (out / ANNOTATED_BAG).is_dir()


def test_nobody_who_reads_does_not_end_the_answers(
        tmp_path: Path, server: Server) -> None:  # noqa: F811
    """As with `| head -2`."""
    server.pause_sec = 0.02
    pipe, log = tmp_path / 'pipe', tmp_path / 'errors'
    os.mkfifo(pipe)
    env = {**os.environ, **EVERY, 'OPENAI_API_KEY': 'x'}
    module, *arguments = ARGUMENTS
    process = preloaded(env).start(
        module, [*arguments, '--bag', str(drive(tmp_path / 'bag', 16)), '--out',
                 str(tmp_path / 'out'), '--url', server.url], env, pipe, log)
    with pipe.open() as reads:
        assert reads.readline()
    code, errors = process.wait(500.0), log.read_text()
    assert code == 0, errors
    assert 'Traceback' not in errors
    assert 'Exception' not in errors
    assert len(answers(tmp_path / 'out')) == 4


def test_what_shows_answers_may_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag, out = drive(tmp_path / 'bag', 40), tmp_path / 'out'

    def broken(report: object) -> None:
        raise BrokenPipeError(32, 'Broken pipe')

    summary = write_outputs(pairs(bag, [answer('low')] * 3), out, source=bag, progress=broken)
    assert len(summary.reports) == 3
    assert summary.counters['untold'] == 1
    assert 'cannot be shown' in caplog.text


def test_a_console_without_the_signs_shows_others(
        tmp_path: Path, server: Server) -> None:  # noqa: F811
    server.text = lambda chat: json.dumps({
        'object': {'label': '歩行者', 'box': [0.1, 0.2, 0.3, 0.4]}, 'risk': 'high',
        'explanation': JAPANESE, 'action': 'ブレーキ', 'description': '道路。'},
        ensure_ascii=False)
    done = run_module(*ARGUMENTS, '--bag', drive(tmp_path / 'bag', 12), '--out',
                      tmp_path / 'out', '--url', server.url, PYTHONIOENCODING='latin-1',
                      OPENAI_API_KEY='x')
    assert done.returncode == 0, done.stderr
    assert '????' in done.stdout
    assert {answer['explanation'] for answer in answers(tmp_path / 'out')} == {JAPANESE}


def test_a_question_that_fails_costs_its_answer_only(
        tmp_path: Path, server: Server, load: Callable[..., Pipeline],  # noqa: F811
        caplog: pytest.LogCaptureFixture) -> None:
    bag, out = drive(tmp_path / 'bag', 20), tmp_path / 'out'

    def refuse_the_next(report: object) -> None:
        if len(server.chats) == 1:
            server.refusals = [400] * 4

    summary = annotate(bag, out, load(retries=0), progress=refuse_the_next)
    # More in a row than are hopeless at the beginning: here it has worked before.
    assert summary.counters['unanswered'] == 4
    assert len(answers(out)) == 2
    assert caplog.text.count('no answer at') == 4
    assert 'note: 4 questions that the language model did not answer' in results(summary)
    assert 'did not answer' in Page(out / PAGE).text


@pytest.mark.parametrize(('count', 'asked'), [(12, 2), (40, 3)])
def test_a_server_that_never_answers_ends_it(
        tmp_path: Path, server: Server, load: Callable[..., Pipeline],  # noqa: F811
        count: int, asked: int) -> None:
    server.refusals = [400] * 40
    with pytest.raises(VlmError, match='refuses the request'):
        annotate(drive(tmp_path / 'bag', count), tmp_path / 'out', load(retries=0))
    assert len(server.chats) == asked


def test_the_summary_says_why_pictures_cannot_be_used(
        tmp_path: Path, server: Server, load: Callable[..., Pipeline]) -> None:  # noqa: F811
    """Each kind with its number, whether reading the bag or decoding found it."""
    front, rear = '/camera/front/image_raw/compressed', '/camera/front/image_raw'
    stamps = times(30)
    messages = []
    for i, stamp in enumerate(stamps):
        data = jpeg(picture(i))
        if i in (4, 8):
            data = data[:len(data) * 4 // 5 + i]
        if i == 12:
            data = b'no picture at all'
        message = TYPESTORE.types[COMPRESSED_IMAGE](
            header(stamp), 'jpeg', np.frombuffer(data, np.uint8))
        messages.append((front, COMPRESSED_IMAGE, stamp,
                         bytes(TYPESTORE.serialize_cdr(message, COMPRESSED_IMAGE))))
    messages.append((rear, IMAGE, START_NS, raw(
        START_NS, np.zeros((96, 160), np.uint8), 'secret9')))
    bag = write(tmp_path / 'bag', messages)
    summary = annotate(bag, tmp_path / 'out', load(), topics=[front, rear])
    assert summary.counters['broken'] == 4
    said = results(summary)
    assert 'note: 2 of the broken frames: damaged JPEG: ' in said
    assert 'note: 1 of the broken frames: picture cannot be decoded\n' in said
    assert "note: 1 of the broken frames: 160x96 'secret9' picture cannot be used: " in said
    assert 'damaged JPEG' in Page(tmp_path / 'out' / PAGE).text
