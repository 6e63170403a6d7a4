# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The node as a process, fed over DDS from a recorded drive and with messages of all kinds.

The tests share one running node and take it to its beginning each. Nothing depends on pace: the
pictures are taken reliably, and what must happen is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
import json
from pathlib import Path
import signal

import pytest

pytest.importorskip('rclpy')

from bag_maker import COMPRESSED_TOPIC, drive, jpeg, picture, START_NS, times
from car import CAMERA, Car, LOSSLESS, start_node, STATUS, values_of
from conftest import Process, ROOT, Ros
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64, String
from std_srvs.srv import SetBool
from test_served import Server
from test_served import server as chat_server  # noqa: F401 (a fixture)
from visualization_msgs.msg import Marker, MarkerArray
import yaml

from vts_ros.lab.scenes.clips import balanced_scenes, render
from vts_ros.nodes.conversions import to_ns, to_stamp
from vts_ros.nodes.qos import LATCHED_QOS
from vts_ros.nodes.questions import MAX_QUESTION_CHARS
from vts_ros.pipeline.guard import NOTHING_KNOWN
from vts_ros.pipeline.report import RISK_STATUS_LEVELS
from vts_ros.sparsify import token_budget
from vts_ros.vlm.answers import RISK_LEVELS

DRIVE = 20

#: Far longer than it takes, for machines that are busy with other things.
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def running(ros: Ros, model: str) -> Iterator[tuple[Process, Car]]:
    """Return the running node and its other side; its start takes seconds."""
    side = Car(ros.domain)
    process = start_node(ros, model, 'vlm.max_new_tokens:=64', *LOSSLESS)
    process.wait_for_output('camera camera_front')
    yield process, side
    side.close()


@pytest.fixture
def node(running: tuple[Process, Car]) -> Process:
    """Return the running node."""
    return running[0]


@pytest.fixture
def car(running: tuple[Process, Car]) -> Car:
    """Return the other side of a node that has seen nothing yet."""
    running[1].begin()
    return running[1]


@pytest.fixture
def own_car(own_ros: Ros) -> Iterator[Car]:
    """Return the other side of a node that one test alone starts."""
    side = Car(own_ros.domain)
    yield side
    side.close()


def test_a_replayed_bag_is_described(ros: Ros, car: Car, tmp_path: Path) -> None:
    described, skipped = (car.counter('pipeline', name) for name in ('described', 'skipped'))
    bag = drive(tmp_path / 'drive', DRIVE)
    stamps = times(DRIVE)
    player = ros.start('vts_ros.nodes.replay_node', str(bag), '--wait-sec', '60')
    car.wait_for_report(stamps[-1])
    assert player.wait(500.0) == 0
    assert f'{DRIVE} messages on {COMPRESSED_TOPIC}' in player.output

    assert set(car.answered) <= set(stamps[4:])
    assert car.answered == sorted(set(car.answered))
    for report in car.reports:
        window = [frame.stamp for frame in report.frames]
        last = stamps.index(report.stamp)
        assert window == stamps[last - 4:last + 1]
        assert {frame.camera for frame in report.frames} == {'camera_front'}
        assert len(report.keep) == token_budget(5, report.grid, 0.6)
        assert list(report.keep) == sorted(set(report.keep))
        assert min(report.keep) >= 0
        assert max(report.keep) < report.tokens_total
        assert report.key_frame.stamp == window[report.key_frame.index]
        assert report.answer.risk in RISK_LEVELS
    # Every window was either described or gave way to a newer one.
    answers = len(car.reports)
    car.wait_for_counters('pipeline', described=described + answers,
                          skipped=skipped + DRIVE - 4 - answers)
    car.wait_for_counters(CAMERA, admitted=DRIVE, received=DRIVE)


def test_risk_and_markers_belong_to_the_report(car: Car) -> None:
    report = car.show_window()
    car.until(lambda: car.risks and to_ns(car.risks[-1].header.stamp) == report.stamp)
    car.until(lambda: car.markers and (
        to_ns(car.markers[-1].markers[0].header.stamp) == report.stamp))
    risk, marker = car.risks[-1], car.markers[-1].markers[0]
    assert risk.header.frame_id == 'camera_front'
    assert risk.status[0].level[0] == RISK_STATUS_LEVELS[report.answer.risk]
    assert risk.status[0].message == report.answer.explanation
    assert marker.header.frame_id == 'base_link'
    assert report.answer.risk.upper() in marker.text


def test_times_can_be_plotted(car: Car) -> None:
    processing, latency = (car.listen(Float64, f'/vts_node/debug/{name}_ms')
                           for name in ('processing_time', 'pipeline_latency'))
    report = car.show_window()
    car.until(lambda: processing and latency)
    assert processing[-1].data == pytest.approx(report.latency_ms['total'], abs=0.01)
    assert latency[-1].data == pytest.approx(report.age_ms, abs=0.01)


def test_who_joins_late_gets_the_last_answer(car: Car) -> None:
    # It stands until then, however late that is.
    with car.parameter('max_answer_age_sec', 3600.0), car.parameter('no_image_warn_sec', 0.0):
        report = car.show_window()
        texts = car.listen(String, '/vts_node/scene_description', LATCHED_QOS)
        risks = car.listen(DiagnosticArray, '/vts_node/risk', LATCHED_QOS)
        car.until(lambda: texts and risks)
        assert texts[0].data == report.answer.description


def test_describe_now_answers_about_the_newest_window(car: Car) -> None:
    report = car.show_window()
    before = len(car.reports)
    answer = car.describe_now()
    car.until(lambda: len(car.reports) == before + 1)
    assert answer.success
    assert answer.message == car.reports[-1].answer.description
    assert car.reports[-1].stamp == report.stamp


def test_a_question_is_answered(car: Car) -> None:
    clip = render(next(balanced_scenes('test', 1)))
    stamps = [car.show(jpeg(rgb)) for rgb in clip.frames]
    report = car.wait_for_report(stamps[-1])
    assert report.in_distribution is True
    answers = car.listen(String, '/vts_node/answer')
    pieces = car.listen(String, '/vts_node/answer_partial')
    car.publisher(String, '/vts_node/question').publish(String(data='Is it safe to drive on?'))
    car.until(lambda: answers)
    reply = json.loads(answers[0].data)
    assert reply['answer'].startswith(('Yes', 'No'))
    assert (reply['question'], reply['error']) == ('Is it safe to drive on?', None)
    car.until(lambda: ''.join(json.loads(piece.data)['text'] for piece in pieces).strip()
              == reply['answer'])
    assert len(pieces) > 1
    assert {json.loads(piece.data)['id'] for piece in pieces} == {reply['id']}


def test_every_question_gets_a_reply(node: Process, car: Car) -> None:
    answers = car.listen(String, '/vts_node/answer')
    refused = car.counter('pipeline', 'questions_refused')
    asks = car.publisher(String, '/vts_node/question')

    def replies(*questions: str) -> list[tuple[str, str | None]]:
        before = len(answers)
        for text in questions:
            asks.publish(String(data=text))
        car.until(lambda: len(answers) == before + len(questions))
        found = [json.loads(answer.data) for answer in answers[before:]]
        assert len({reply['id'] for reply in found}) == len(questions)
        found.sort(key=lambda reply: reply['id'])
        return [(reply['answer'], reply['error']) for reply in found]

    assert replies('Is there a car?') == [('', 'no window of pictures yet')]
    # Not rendered: whatever the model would say of these pictures, it is not said.
    report = car.show_window()
    assert (report.answer.risk, report.in_distribution) == ('unknown', False)
    assert report.answer.label is None
    wrong = replies('', ' ', '?' * (MAX_QUESTION_CHARS + 1))
    assert wrong == [('', 'expected 1 to 500 characters')] * 3
    untaught, unlike = replies('危険はありますか', 'Is there a car?')
    assert unlike == (NOTHING_KNOWN, None)
    assert untaught[0].startswith('This model was not taught to answer that.')
    car.wait_for_counters('pipeline', questions_refused=refused + 3)
    assert 'expected 1 to 500 characters' in node.output


def test_the_speed_of_the_car_is_told_where_it_is_wanted(car: Car) -> None:
    def shown_speed() -> str | None:
        status = car.statuses.get(f'{STATUS}vlm', DiagnosticStatus())
        return values_of(status).get('vehicle_speed_mps')

    twist = car.publisher(TwistStamped, '/twist')
    message = TwistStamped()
    message.twist.linear.x = 12.5

    def drive() -> bool:
        twist.publish(message)
        return shown_speed() == '12.5'

    with car.parameter('vlm.tell_vehicle', True):
        car.until(drive)
        car.show_window()
    # Who says nothing more is not quoted any longer.
    car.until(lambda: shown_speed() is None)


def test_a_silent_camera_takes_the_risk_back_once(car: Car) -> None:
    def because_of_silence() -> list[DiagnosticStatus]:
        return [status for status in car.retracted if 'no picture for' in status.message]

    car.show_window()
    car.until(because_of_silence)
    car.spin(2.5)
    (status,) = because_of_silence()
    assert status.level == DiagnosticStatus.STALE
    assert status.message.startswith('camera_front: ')
    # Who joins late sees nothing of the last answer.
    late = car.listen(DiagnosticArray, '/vts_node/risk', LATCHED_QOS)
    texts = car.listen(String, '/vts_node/scene_description', LATCHED_QOS)
    markers = car.listen(MarkerArray, '/vts_node/markers', LATCHED_QOS)
    car.until(lambda: late and texts and markers)
    assert late[0].status[0] == status
    assert texts[0].data == ''
    assert [marker.action for marker in markers[0].markers] == [Marker.DELETEALL]


def test_disabled_is_silent_until_asked(car: Car) -> None:
    assert car.call(SetBool, '/vts_node/enable', SetBool.Request(data=False)).success
    try:
        stamps = car.show_good(6)
        car.wait_for_counters(CAMERA, admitted=6)
        assert car.describe_now().success
        car.wait_for_report(stamps[-1])
        assert len(car.reports) == 1
    finally:
        assert car.call(SetBool, '/vts_node/enable', SetBool.Request(data=True)).success
    car.wait_for_report(car.show_good()[-1])


def test_parameters_are_refused_with_the_reason(car: Car) -> None:
    for name, value, reason in (
            ('sparsify.keep_ratio', 1.5, 'out of range'),
            ('pipeline.period_sec', -1.0, 'out of range'),
            ('vlm.model', 'other', 'read on configure'),
            ('buffer.frames', 7, 'read on configure'),
            ('autostart', False, 'read-only')):
        result = car.set_parameter(name, value)
        assert not result.successful
        assert reason in result.reason
        assert name in result.reason


def test_keep_ratio_changes_live(car: Car) -> None:
    with car.parameter('sparsify.keep_ratio', 0.3):
        report = car.show_window()
        assert len(report.keep) == token_budget(5, report.grid, 0.3)
    report = car.wait_for_report(car.show_good()[-1])
    assert len(report.keep) == token_budget(5, report.grid, 0.6)


def test_language_changes_live_and_the_prompt_file_does_not(
        own_ros: Ros, own_car: Car, chat_server: Server, tmp_path: Path) -> None:  # noqa: F811
    """What the model is really asked is seen by the server on which it runs."""
    pytest.importorskip('openai')
    texts = yaml.safe_load((ROOT / 'config/tasks/driving/prompts.yaml').read_text())
    own = tmp_path / 'prompts.yaml'
    own.write_text(yaml.safe_dump({
        'en': {**texts['en'], 'system': 'Look out for tractors.'}, 'de': texts['de']}))
    process = start_node(own_ros, 'embedded', 'vlm.backend:=openai',
                         f'vlm.url:={chat_server.url}', f'vlm.prompts:={own}', *LOSSLESS)
    process.wait_for_output('camera camera_front')
    own_car.wait_until_seen()

    def asked() -> str:
        own_car.show_window()
        return json.dumps(chat_server.chats[-1]['messages'], ensure_ascii=False)

    assert 'Look out for tractors.' in asked()
    with own_car.parameter('vlm.language', 'de'):
        assert 'Du beobachtest die Straße' in asked()
    refused = own_car.set_parameter('vlm.language', 'xx')
    assert not refused.successful
    assert f"no prompt in language 'xx' in {own}; there are: de, en" in refused.reason
    # Whoever can set parameters must not choose files that are read, nor where pictures go.
    for name, value in (('vlm.prompts', '/etc/passwd'), ('vlm.url', 'http://127.0.0.1:1/v1'),
                        ('vlm.backend', 'transformers'), ('vlm.local_files_only', False)):
        refused = own_car.set_parameter(name, value)
        assert not refused.successful, name
        assert 'read-only' in refused.reason


def test_broken_pictures_are_counted_and_left_out(node: Process, car: Car) -> None:
    car.show_window()
    whole = jpeg(picture(1))
    bad = []
    for data in (whole[:len(whole) // 2], b'no picture at all', b''):
        bad.append(car.show(data))
        report = car.wait_for_report(car.show(whole))
        assert not {frame.stamp for frame in report.frames} & set(bad)
    car.wait_for_counters(CAMERA, refused=1, broken=2)
    assert ' bytes: Premature end of JPEG file (said once' in node.output
    car.wait_for_status(CAMERA, DiagnosticStatus.WARN, 'empty picture',
                        doing=lambda: car.show(b''))


def test_period_spares_windows(car: Car) -> None:
    car.show_window()
    before, skipped = len(car.reports), car.counter('pipeline', 'skipped')
    with car.parameter('pipeline.period_sec', 3600.0):
        car.show_good(4)
        car.wait_for_counters('pipeline', skipped=skipped + 4)
        assert len(car.reports) == before
    car.wait_for_report(car.show_good()[-1])


def test_old_pictures_are_not_described(car: Car) -> None:
    car.show_window()
    with car.parameter('max_frame_age_sec', 600.0):
        answer = car.describe_now()
        assert not answer.success
        assert 'use_sim_time' in answer.message
        car.wait_for_status(CAMERA, DiagnosticStatus.ERROR, 'use_sim_time', doing=car.show_good)


def test_time_going_back_starts_a_new_window(node: Process, car: Car) -> None:
    car.show_window()
    car.reports.clear()
    before = len(node.output)
    car.stamp_ns = START_NS
    # A single picture from the past would be a stray.
    stamps = car.show_good(6)[1:]
    report = car.wait_for_report(stamps[-1])
    assert [frame.stamp for frame in report.frames] == stamps
    assert len(car.reports) == 1
    assert 'time went back' in node.output[before:]


def test_a_bag_in_a_loop_is_described_in_every_pass(ros: Ros, car: Car, tmp_path: Path) -> None:
    # Long enough for an answer in every pass of a machine that is busy.
    bag, stamps = drive(tmp_path / 'drive', 2 * DRIVE), times(2 * DRIVE)
    with car.parameter('use_sim_time', True):
        player = ros.start('vts_ros.nodes.replay_node', str(bag), '--clock', '--loop',
                           '--wait-sec', '60')
        try:
            car.until(lambda: any(old > new for old, new in pairwise(car.answered)))
        finally:
            player.interrupt()
            assert player.wait(500.0) == 0
    for report in car.reports:
        last = stamps.index(report.stamp)
        assert [frame.stamp for frame in report.frames] == stamps[last - 4:last + 1]


def test_the_node_answers_after_every_way_through_its_lifecycle(car: Car) -> None:
    car.show_window()
    car.change_state(Transition.TRANSITION_DEACTIVATE)
    car.until(lambda: car.compressed.get_subscription_count() == 0)
    refused = car.describe_now()
    assert (refused.success, refused.message) == (False, 'the node is not active')

    car.change_state(Transition.TRANSITION_ACTIVATE)
    car.wait_until_seen()
    stamps = car.show_good(5)
    assert [frame.stamp for frame in car.wait_for_report(stamps[-1]).frames] == stamps

    for frames in (3, 5):  # 5 is what the other tests expect
        car.change_state(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
        assert car.set_parameter('buffer.frames', frames).successful
        car.change_state(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
        car.wait_until_seen()
        stamps = car.show_good(frames)
        assert [frame.stamp for frame in car.wait_for_report(stamps[-1]).frames] == stamps


def test_managed_start_with_raw_pictures(own_ros: Ros, model: str, own_car: Car) -> None:
    car = own_car
    process = start_node(own_ros, model, 'autostart:=false', 'image_transport:=raw',
                         'use_sim_time:=true', 'vlm.max_new_tokens:=8', *LOSSLESS)
    # Diagnostics come although no /clock ticks.
    car.wait_for_status('pipeline', DiagnosticStatus.OK, 'not active')
    refused = car.describe_now()
    assert (refused.success, refused.message) == (False, 'the node is not active')
    car.change_state(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    car.wait_until_seen(car.raw)

    bad = [('rgb8', 0, 0, 0), ('bgr8', 0, 0, 0), ('mono8', 0, 0, 0), ('yuv422', 63, 64, 8064),
           ('16UC1', 64, 64, 8192), ('rgb8', 64, 64, 5000), ('sonar', 64, 64, 4096)]
    for encoding, width, height, size in bad:
        car.show_raw(encoding, width, height, size)
    good = (('rgb8', 3), ('bgr8', 3), ('bgra8', 4), ('mono8', 1), ('mono16', 2))
    for encoding, pixel_bytes in good:
        car.show_raw(encoding, 64, 64, 64 * 64 * pixel_bytes)
    car.wait_for_counters(CAMERA, refused=len(bad), admitted=len(good))
    # The first reason is in the log, the last one in the diagnostics.
    assert '0x0' in process.output
    assert process.output.count('said once') == 1
    assert 'sonar' in car.statuses[STATUS + CAMERA].message

    clock = car.publisher(Clock, '/clock')

    def tick(second: int) -> None:
        clock.publish(Clock(clock=to_stamp(second * 1_000_000_000)))

    for second in (100, 101):
        car.until(lambda second=second: car.node_time_ns == second * 1_000_000_000,
                  doing=lambda second=second: tick(second))
    assert 'time went back' not in process.output
    car.until(lambda: 'time went back' in process.output, doing=lambda: tick(50))


def test_in_causal_mode_pictures_are_read_as_they_come(
        own_ros: Ros, model: str, own_car: Car) -> None:
    car = own_car
    process = start_node(own_ros, model, 'sparsify.mode:=causal', 'sparsify.group_frames:=6',
                         'vlm.draft:=true', 'vlm.max_new_tokens:=16', *LOSSLESS)
    process.wait_for_output('camera camera_front')
    car.wait_until_seen()
    car.show_window()
    with car.parameter('pipeline.period_sec', 3600.0):
        read, reports = car.counter('vlm', 'tokens_read'), len(car.reports)
        car.show_good(3)
        # Nothing is described, but all is read.
        car.until(lambda: car.counter('vlm', 'tokens_read') > read)
        assert len(car.reports) == reports
    report = car.wait_for_report(car.show_good()[-1])
    assert len(report.frames) == 9  # more than the window: all that was shown
    assert car.counter('sparsifier', 'groups') >= 2
    assert car.counter('sparsifier', 'groups_first') == 1  # nothing was forgotten on the way
    assert car.counter('vlm', 'kv_tokens') > len(report.keep)
    assert car.counter('vlm', 'tokens_reused') > 0
    assert car.counter('vlm', 'drafted') >= 15
    assert 0 <= car.counter('vlm', 'accepted') <= car.counter('vlm', 'drafted')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_generating_ends_the_node(
        own_ros: Ros, model: str, own_car: Car, number: int) -> None:
    process = start_node(own_ros, model, 'vlm.max_new_tokens:=4000', *LOSSLESS)
    process.wait_for_output('camera camera_front')
    own_car.wait_until_seen()
    own_car.show_good(5)
    own_car.wait_for_counters(CAMERA, admitted=5)
    process.interrupt(number)
    assert process.wait(500.0) == 0, process.output
    assert 'Traceback' not in process.output


def test_a_model_that_is_not_there_ends_the_start_with_the_reason(own_ros: Ros) -> None:
    process = start_node(own_ros, '/nowhere')
    assert process.wait(500.0) == 1
    assert 'on_configure failed' in process.output
    assert '/nowhere' in process.output
    assert 'Traceback' not in process.output
