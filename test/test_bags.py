# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reading frames from bags as cars and careless copies leave them, and writing answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
import json
from math import isnan
from pathlib import Path
import sqlite3
from typing import Any

from bag_maker import (
    compressed,
    COMPRESSED_TOPIC,
    drive,
    jpeg,
    picture,
    raw,
    RAW_TOPIC,
    real_bags,
    START_NS,
    STEP_NS,
    times,
    write,
)
from conftest import ROOT
import layouts
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from vts_ros.errors import BagError
from vts_ros.pipeline import report_messages as messages
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE, IMAGE
from vts_ros.pipeline.report import EventRef, FrameRef, KeyFrame, SceneReport
from vts_ros.pipeline.report_messages import NUMBERS
from vts_ros.tools import foxglove_layout as layout_file
from vts_ros.tools.annotated_bag import write_annotated_bag
from vts_ros.tools.bag_frames import read_frames
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.tools.bags import Bag
from vts_ros.tools.camera_topics import camera_topics, node_inputs
from vts_ros.tools.message_definitions import make_message, serialise, typestore
from vts_ros.tools.recorded_answers import Answered
from vts_ros.vlm.answers import Answer


def report(stamp: int, latency_ms: float = 250.0, camera: str = 'camera_front') -> SceneReport:
    """Return an answer about one frame."""
    return SceneReport(
        stamp=stamp, frames=(FrameRef(camera, stamp),), key_frame=KeyFrame(camera, stamp, 0),
        answer=Answer('a road', 'high', 'car', (0.1, 0.2, 0.3, 0.4), 'it brakes', 'brake'),
        keep=(0, 2), grid=(2, 2), latency_ms={'total': latency_ms}, model='m', engine='e',
        time_to_risk_ms=50.0)


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('alone', [False, True], ids=['directory', 'file'])
def test_frames_are_read_unchanged(tmp_path: Path, storage: StoragePlugin, alone: bool) -> None:
    """JPEG bytes, stamps and the camera's name come out, from the directory or from its file."""
    bag = drive(tmp_path / 'bag', 6, storage)
    if alone:
        bag = next(file for file in bag.iterdir() if file.suffix in ('.mcap', '.db3'))
    counters: Counter[str] = Counter()
    frames = list(read_frames(bag, counters=counters))
    assert [frame.stamp_ns for frame in frames] == times(6)
    assert [frame.data for frame in frames] == [jpeg(picture(i)) for i in range(6)]
    assert {frame.camera for frame in frames} == {'camera_front'}
    assert +counters == Counter(frames=6)
    assert camera_topics(bag) == [(COMPRESSED_TOPIC, COMPRESSED_IMAGE, 6)]


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', '8UC3'])
@pytest.mark.parametrize('padding', [0, 12])
def test_raw_pictures_become_rgb(tmp_path: Path, encoding: str, padding: int) -> None:
    """Channel order and padded rows are undone."""
    rgb = picture(3)
    pixels = {
        'rgb8': rgb, 'bgr8': rgb[..., ::-1], '8UC3': rgb[..., ::-1],
        'rgba8': np.dstack([rgb, rgb[..., :1]]),
        'bgra8': np.dstack([rgb[..., ::-1], rgb[..., :1]]),
        'mono8': rgb[..., 0],
    }[encoding]
    rows = pixels.reshape(pixels.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    message = raw(START_NS, padded, encoding, width=rgb.shape[1])
    bag = write(tmp_path / 'bag', [(RAW_TOPIC, IMAGE, START_NS, message)])
    frame, = read_frames(bag)
    expected = np.repeat(rgb[..., :1], 3, axis=2) if encoding == 'mono8' else rgb
    np.testing.assert_array_equal(frame.rgb(), expected)


def test_raw_pictures_that_lie_are_left_out(tmp_path: Path) -> None:
    """Too few bytes, an unknown encoding and a depth map are counted; the good one is read."""
    rgb = picture(0)
    depth = np.zeros((96, 320), np.uint8)
    stamps = times(4)
    bag = write(tmp_path / 'bag', [
        (RAW_TOPIC, IMAGE, stamps[0], raw(stamps[0], rgb, 'rgb8', width=5000)),
        (RAW_TOPIC, IMAGE, stamps[1], raw(stamps[1], rgb, 'secret9')),
        (RAW_TOPIC, IMAGE, stamps[2], raw(stamps[2], depth, '16UC1', width=160)),
        (RAW_TOPIC, IMAGE, stamps[3], raw(stamps[3], rgb, 'rgb8')),
    ])
    counters: Counter[str] = Counter()
    frames = list(read_frames(bag, counters=counters))
    assert [frame.stamp_ns for frame in frames] == [stamps[3]]
    assert counters['broken'] == 3


def test_zero_stamp_takes_the_receive_time(tmp_path: Path) -> None:
    """A driver that sets no stamp still gives frames in order."""
    data = compressed(0, jpeg(picture(0)))
    bag = write(tmp_path / 'bag', [
        (COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp, data) for stamp in times(3)])
    counters: Counter[str] = Counter()
    assert [frame.stamp_ns for frame in read_frames(bag, counters=counters)] == times(3)
    assert counters['no_stamp'] == 3


def test_stamps_that_go_back_are_kept(tmp_path: Path) -> None:
    """Frames come in the order of receipt, with the stamps that they have."""
    stamps = [*times(3), *times(3)]
    bag = write(tmp_path / 'bag', [
        (COMPRESSED_TOPIC, COMPRESSED_IMAGE, START_NS + i * STEP_NS,
         compressed(stamp, jpeg(picture(i)))) for i, stamp in enumerate(stamps)])
    assert [frame.stamp_ns for frame in read_frames(bag)] == stamps


def test_broken_jpeg_is_left_to_the_pipeline(tmp_path: Path) -> None:
    """A cut JPEG is read as it is: whether a picture is good is found out when it is used."""
    frames = list(read_frames(drive(tmp_path / 'bag', 5, broken=2)))
    assert len(frames) == 5
    assert frames[2].size_bytes < frames[1].size_bytes


@pytest.mark.parametrize(('topics', 'expected'), [
    ([RAW_TOPIC], ('raw', ['camera_front'], {'camera_front/image_raw': RAW_TOPIC})),
    ([COMPRESSED_TOPIC, '/rear/image_raw/compressed'], (
        'compressed', ['camera_front', 'rear'], {
            'camera_front/image_raw/compressed': COMPRESSED_TOPIC,
            'rear/image_raw/compressed': '/rear/image_raw/compressed'})),
    ([COMPRESSED_TOPIC, '/rear/image_raw'], (
        'compressed', ['camera_front'], {'camera_front/image_raw/compressed': COMPRESSED_TOPIC})),
])
def test_node_hears_the_cameras_of_one_kind(
        tmp_path: Path, topics: list[str], expected: tuple[str, list[str], dict[str, str]],
        caplog: pytest.LogCaptureFixture) -> None:
    """Every camera has a name, its topic, and that of the bag; what is left out is told."""
    rgb = picture(0)
    bag = write(tmp_path / 'bag', [
        (topic, COMPRESSED_IMAGE, START_NS, compressed(START_NS, jpeg(rgb)))
        if topic.endswith('compressed') else (topic, IMAGE, START_NS, raw(START_NS, rgb, 'rgb8'))
        for topic in topics])
    assert node_inputs(bag) == expected
    left_out = [topic for topic in topics if topic not in expected[2].values()]
    assert [record.getMessage().split(': ', 1)[1] for record in caplog.records] == [
        f'the node hears the compressed pictures only, not {topic} (vts annotate takes all)'
        for topic in left_out]


def test_same_camera_raw_and_compressed_is_read_once(tmp_path: Path) -> None:
    """The compressed topic is taken; drawn pictures and forms that cannot be read are not."""
    rgb, data = picture(0), jpeg(picture(0))
    bag = write(tmp_path / 'bag', [
        (RAW_TOPIC, IMAGE, START_NS, raw(START_NS, rgb, 'rgb8')),
        (COMPRESSED_TOPIC, COMPRESSED_IMAGE, START_NS, compressed(START_NS, data)),
        ('/vts_overlay/image_annotated/compressed', COMPRESSED_IMAGE, START_NS,
         compressed(START_NS, data)),
        *((f'{RAW_TOPIC}/{transport}', COMPRESSED_IMAGE, START_NS, compressed(START_NS, data))
          for transport in ('compressedDepth', 'theora', 'zstd')),
    ])
    frame, = read_frames(bag)
    assert frame.data == data
    chosen, = read_frames(bag, topics=[RAW_TOPIC])
    np.testing.assert_array_equal(chosen.rgb(), rgb)


def test_topic_without_pictures_is_passed_over(tmp_path: Path) -> None:
    """A compressed topic that was recorded but never published does not hide the raw one."""
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection(COMPRESSED_TOPIC, COMPRESSED_IMAGE, typestore=TYPESTORE)
        used = writer.add_connection(RAW_TOPIC, IMAGE, typestore=TYPESTORE)
        writer.write(used, START_NS, raw(START_NS, picture(0), 'rgb8'))
    assert camera_topics(tmp_path / 'bag') == [(RAW_TOPIC, IMAGE, 1)]
    assert len(list(read_frames(tmp_path / 'bag'))) == 1


@pytest.mark.parametrize('whole_directory', [True, False], ids=['directory', 'file'])
def test_cut_off_mcap_is_read_up_to_the_cut(tmp_path: Path, whole_directory: bool) -> None:
    """A recorder that was killed leaves no index and no metadata: what is there is read."""
    bag = drive(tmp_path / 'bag', 1200)
    file = bag / 'bag.mcap'
    data = file.read_bytes()
    assert len(data) > 2**20  # several chunks, of which the last is cut
    file.write_bytes(data[:len(data) * 3 // 4])
    (bag / 'metadata.yaml').unlink()
    counters: Counter[str] = Counter()
    frames = list(read_frames(bag if whole_directory else file, counters=counters))
    assert 100 < len(frames) < 1200
    assert [frame.stamp_ns for frame in frames] == times(len(frames))
    assert counters['truncated'] == 1


def test_a_database_that_was_cut_off_gives_what_is_left(tmp_path: Path) -> None:
    bag = drive(tmp_path / 'bag', 200, StoragePlugin.SQLITE3)
    file = bag / 'bag.db3'
    data = file.read_bytes()
    file.write_bytes(data[:len(data) // 2])
    counters: Counter[str] = Counter()
    frames = list(read_frames(bag, counters=counters))
    assert 60 < len(frames) < 120
    assert [frame.stamp_ns for frame in frames] == times(len(frames))
    assert counters == Counter(frames=len(frames), truncated=1)
    file.write_bytes(data[:len(data) // 50])
    with pytest.raises(BagError, match='damaged, and no message is left'):
        list(read_frames(bag))


def test_bag_without_camera_names_its_topics(tmp_path: Path) -> None:
    """The error says what there is instead."""
    text = TYPESTORE.types['std_msgs/msg/String']('hello')
    data = bytes(TYPESTORE.serialize_cdr(text, 'std_msgs/msg/String'))
    bag = write(tmp_path / 'bag', [('/chatter', 'std_msgs/msg/String', START_NS, data)])
    with pytest.raises(BagError, match='no camera pictures; its topics: /chatter'):
        camera_topics(bag)
    with pytest.raises(BagError, match='no camera pictures'):
        next(read_frames(bag))


def test_wrong_topic_names_the_cameras(tmp_path: Path) -> None:
    """A mistyped topic is answered with the right ones."""
    bag = drive(tmp_path / 'bag', 2)
    with pytest.raises(BagError, match=f'no camera topic /typo; it has: {COMPRESSED_TOPIC}'):
        list(read_frames(bag, topics=['/typo']))


@pytest.mark.parametrize(('name', 'content', 'reason'), [
    ('missing', None, 'does not exist'),
    ('notes.txt', b'hello', 'not a rosbag2 bag'),
    ('old.bag', b'#ROSBAG V2.0', 'cannot be read'),
    ('noise.mcap', b'noise' * 100, 'cannot be read'),
    ('noise.db3', b'noise' * 100, 'cannot be read'),
    ('empty.mcap', b'', 'cannot be read'),
])
def test_what_is_no_bag_is_refused(tmp_path: Path, name: str, content: bytes | None,
                                   reason: str) -> None:
    """One line that says why."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BagError, match=reason) as caught:
        list(read_frames(path))
    assert '\n' not in str(caught.value)


def test_directory_without_bag_is_refused(tmp_path: Path) -> None:
    """A folder of something else is told from a bag."""
    with pytest.raises(BagError, match='holds no rosbag2 bag'):
        list(read_frames(tmp_path))


def answered(folder: Path, told: SceneReport, overlay: bytes = b'a picture') -> Answered:
    """Return the answer with its picture in a file."""
    path = folder / f'{len(list(folder.glob("*.jpg")))}.jpg'
    path.write_bytes(overlay)
    return Answered(told, path)


def test_annotated_bag_holds_inputs_and_answers(tmp_path: Path) -> None:
    """Every input is there unchanged, and answers come when they would have come in the car."""
    source = drive(tmp_path / 'bag', 10)
    stamps = times(10)
    answers = [answered(tmp_path, report(stamps[4]), b'picture 4'),
               answered(tmp_path, report(stamps[9])), answered(tmp_path, report(stamps[9] + 1))]
    assert write_annotated_bag(source, tmp_path / 'out', answers) == 2
    found: dict[str, list[tuple[int, bytes]]] = {}
    order = []
    with Bag(tmp_path / 'out') as bag:
        for connection, received_ns, data in bag.messages({c.topic for c in bag.connections}):
            found.setdefault(connection.topic, []).append((received_ns, data))
            order.append(received_ns)
        risk = bag.deserialize(
            found['/vts_node/risk'][0][1], 'diagnostic_msgs/msg/DiagnosticArray')
        text = bag.deserialize(found['/vts_node/report'][0][1], 'std_msgs/msg/String')
        drawn = bag.deserialize(
            found['/vts_overlay/image_annotated/compressed'][0][1], COMPRESSED_IMAGE)
    with Bag(source) as bag:
        inputs = [(at, data) for _, at, data in bag.messages([COMPRESSED_TOPIC])]
    assert found[COMPRESSED_TOPIC] == inputs
    assert order == sorted(order)
    assert [at for at, _ in found['/vts_node/report']] == [
        stamps[4] + 250_000_000, stamps[9] + 250_000_000]
    assert text.data == replace(report(stamps[4]), age_ms=250.0).to_json()
    assert (risk.status[0].level, risk.status[0].message) == (2, 'it brakes')
    assert {value.key: value.value for value in risk.status[0].values} == {
        'level': 'high', 'object': 'car', 'action': 'brake'}
    assert risk.header.frame_id == drawn.header.frame_id == 'camera_front_optical_frame'
    assert risk.header.stamp.sec * 10**9 + risk.header.stamp.nanosec == stamps[4]
    assert drawn.data.tobytes() == b'picture 4'
    # The drawn pictures are no camera, so the result can be annotated again.
    assert [camera.topic for camera in camera_topics(tmp_path / 'out')] == [COMPRESSED_TOPIC]
    assert write_annotated_bag(tmp_path / 'out', tmp_path / 'again', answers) == 2


def test_annotated_bag_can_be_looked_at_with_other_tools(tmp_path: Path) -> None:
    """Boxes, marks, numbers and health are there in standard types, defined in the file."""
    source, stamp = drive(tmp_path / 'bag', 2), times(2)[1]
    siren = EventRef('siren', stamp - 1_500_000_000, stamp, 0.5, told=True)
    told = replace(report(stamp), size=(96, 160), confidence=0.75, pruning='exact',
                   events=(siren,))
    write_annotated_bag(source, tmp_path / 'out', [answered(tmp_path, told)],
                        info={'engine': 'e', 'name': 'm'})
    # Read with definitions of the file alone.
    found: dict[str, Any] = {}
    with AnyReader([tmp_path / 'out']) as reader:
        for connection, at, data in reader.messages():
            found[connection.topic] = (
                connection.msgtype, at, reader.deserialize(data, connection.msgtype))
    found = {topic.removeprefix('/vts_node/'): message for topic, message in found.items()}
    assert {at for topic, (_, at, _) in found.items() if topic != COMPRESSED_TOPIC} == {
        stamp + 250_000_000}
    name, _, detections = found['detections']
    assert name == 'vision_msgs/msg/Detection2DArray'
    car, = detections.detections
    assert (car.results[0].hypothesis.class_id, car.results[0].hypothesis.score) == ('car', 0.75)
    assert (car.bbox.center.position.x, car.bbox.center.position.y) == pytest.approx((32.0, 28.8))
    assert (car.bbox.size_x, car.bbox.size_y) == pytest.approx((32.0, 19.2))
    assert car.header.stamp.sec * 10**9 + car.header.stamp.nanosec == stamp
    name, _, drawn = found['annotations']
    assert name == 'foxglove_msgs/msg/ImageAnnotations'
    cells, box = drawn.points
    # Two of four cells, one above the other: eight sides, of which they share one.
    assert (cells.type, len(cells.points)) == (4, 2 * 7)
    assert (box.type, [(round(at.x, 1), round(at.y, 1)) for at in box.points]) == (
        2, [(16.0, 19.2), (48.0, 19.2), (48.0, 38.4), (16.0, 38.4)])
    assert box.outline_color.r > 2 * box.outline_color.g
    assert [text.text for text in drawn.texts] == ['RISK HIGH: brake', 'car, high']
    assert [marker.text[:16] for marker in found['markers'][2].markers] == ['RISK HIGH: brake', '']
    assert {number: found[f'debug/{number}'][2].data for number in NUMBERS} == {
        'processing_time_ms': 250.0, 'pipeline_latency_ms': pytest.approx(250.0),
        'time_to_risk_ms': 50.0, 'tokens_kept': 2.0}
    scene = found['scene'][2]
    assert (scene.risk, scene.objects[0].label, list(scene.keep)) == (3, 'car', [0, 2])
    assert (scene.total_ms, scene.width, scene.height) == (250.0, 160, 96)
    assert [(list(step.frames), step.rows, step.columns) for step in scene.steps] == [([0], 2, 2)]
    assert scene.pruning == 'exact'
    event, = scene.events
    assert (event.kind, event.strength, event.told) == (siren.kind, 0.5, True)
    assert [at.sec * 10**9 + at.nanosec for at in (event.start, event.end)] == [
        siren.start, siren.end]
    assert {status.name: status.level for status in found['/diagnostics'][2].status} == {
        f'vts_node: {part}': 0 for part in ('engine', 'sparsifier', 'vlm', 'pipeline')}


def test_a_typed_report_says_which_pictures_share_a_grid() -> None:
    """Pictures of two sizes, two of them as a step of a video: keep can be read with it alone."""
    alone = report(START_NS)
    told = replace(alone, frames=(*alone.frames * 2, FrameRef('side', START_NS)),
                   steps=((0, 1), (2,)), grids=((2, 2), (1, 3)), grid=(1, 3), keep=(0, 5),
                   pruning='shortened')
    made = messages.scene(make_message, told, 'front')
    found: Any = typestore().deserialize_cdr(
        serialise(made, messages.SCENE), messages.SCENE)
    assert [(list(step.frames), step.rows, step.columns) for step in found.steps] == [
        ([0, 1], 2, 2), ([2], 1, 3)]
    assert (found.tokens_total, list(found.keep), found.pruning) == (7, [0, 5], 'shortened')
    assert messages.scene(make_message, alone, 'front').pruning == ''


def test_an_annotated_bag_has_all_that_the_layouts_show(tmp_path: Path) -> None:
    """The layout beside the bag names its camera, the shipped one leaves that to the viewer."""
    source, stamp = drive(tmp_path / 'bag', 2), times(2)[1]
    told = [answered(tmp_path, report(stamp))]
    for namespace in ('', '/car1'):
        out = tmp_path / f'out{namespace}'
        out.parent.mkdir(exist_ok=True)
        write_annotated_bag(source, out, told, f'{namespace}/vts_node', f'{namespace}/vts_overlay')
        with Bag(out) as bag:
            there = {connection.topic: connection.msgtype for connection in bag.connections
                     if connection.msgcount}
        beside = (out / layout_file.FILE).read_text()
        layouts.check(there, beside, namespace)
        assert COMPRESSED_TOPIC in layouts.foxglove_topics(beside)[0]
        layouts.check(there, layout_file.foxglove_layout(namespace), namespace)
    assert (ROOT / 'config' / layout_file.FILE).read_text() == layout_file.foxglove_layout()


def test_a_confidence_that_is_not_known_is_no_number(tmp_path: Path) -> None:
    """And what has no box has no detection."""
    told = replace(report(START_NS), size=(96, 160))
    detection, = messages.detections(make_message, told, '').detections
    assert isnan(detection.results[0].hypothesis.score)
    for without in (replace(told, size=None), replace(told, answer=Answer()),
                    replace(told, frames=(FrameRef('rear', 0), *told.frames))):
        assert messages.detections(make_message, without, '').detections == []
        drawn = messages.image_annotations(make_message, without)
        assert [lines.type for lines in drawn.points] == (
            [4] if without.size and len(without.frames) == 1 else [])


def test_the_diagnostics_of_a_recording_keep_their_topic(tmp_path: Path) -> None:
    """Those of the drive are copied, and those of the answers come beside them."""
    own = make_message(messages.RISK, header=messages.header(make_message, START_NS))
    source = write(tmp_path / 'bag', [
        (COMPRESSED_TOPIC, COMPRESSED_IMAGE, START_NS, compressed(START_NS, jpeg(picture(0)))),
        ('/diagnostics', messages.RISK, START_NS, serialise(own, messages.RISK))])
    assert write_annotated_bag(source, tmp_path / 'out',
                               [answered(tmp_path, report(START_NS))]) == 1
    with Bag(tmp_path / 'out') as bag:
        told = [len(bag.deserialize(data, connection.msgtype).status)
                for connection, _, data in bag.messages(['/diagnostics'])]
    assert told == [0, 4]


def test_answers_of_the_same_stamp_are_all_written(tmp_path: Path) -> None:
    """Two cameras may have one stamp, and so may two pictures after the clock was set back."""
    left, right = '/left/image_raw/compressed', '/right/image_raw/compressed'
    data = compressed(START_NS, jpeg(picture(0)))
    source = write(tmp_path / 'bag', [
        (topic, COMPRESSED_IMAGE, START_NS + i * STEP_NS, data)
        for i, topic in enumerate((left, right, right))])
    answers = [answered(tmp_path, report(START_NS, 0.0, camera))
               for camera in ('left', 'right', 'right', 'rear')]
    assert write_annotated_bag(source, tmp_path / 'out', answers) == 3
    with Bag(tmp_path / 'out') as bag:
        told = [(at, SceneReport.from_dict(json.loads(
                    bag.deserialize(data, connection.msgtype).data)))
                for connection, at, data in bag.messages(['/vts_node/report'])]
    assert [(at - START_NS, said.frames[-1].camera) for at, said in told] == [
        (0, 'left'), (STEP_NS, 'right'), (2 * STEP_NS, 'right')]


def test_topic_of_unknown_type_is_left_out(tmp_path: Path) -> None:
    """Old recordings do not define their types: one that nobody knows costs nothing else."""
    source = tmp_path / 'bag'
    with Writer(source, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        odd = writer.add_connection('/odd', 'acme/msg/Odd', msgdef='uint8 x', rihs01='RIHS01_0')
        camera = writer.add_connection(COMPRESSED_TOPIC, COMPRESSED_IMAGE, typestore=TYPESTORE)
        writer.write(odd, START_NS, b'\x00\x01\x00\x00\x07')
        writer.write(camera, START_NS, compressed(START_NS, jpeg(picture(0))))
    with sqlite3.connect(source / 'bag.db3') as base:
        base.execute('DELETE FROM message_definitions')
    counters: Counter[str] = Counter()
    answers = [answered(tmp_path, report(START_NS))]
    assert write_annotated_bag(source, tmp_path / 'out', answers, counters=counters) == 1
    assert counters['not_copied'] == 1
    with Bag(tmp_path / 'out') as bag:
        topics = {connection.topic for connection in bag.connections if connection.msgcount}
    assert COMPRESSED_TOPIC in topics
    assert '/odd' not in topics


def test_damaged_lz4_costs_one_chunk(tmp_path: Path) -> None:
    """A codec that complains in its own way does not get through, nor end the reading."""
    file = tmp_path / 'drive.mcap'
    with file.open('wb') as stream:
        writer = McapWriter(stream, chunk_size=20_000, compression=CompressionType.LZ4)
        writer.start(profile='ros2')
        definition, _ = TYPESTORE.generate_msgdef(COMPRESSED_IMAGE, ros_version=2)
        channel = writer.register_channel(
            COMPRESSED_TOPIC, 'cdr',
            writer.register_schema(COMPRESSED_IMAGE, 'ros2msg', definition.encode()))
        for i, stamp in enumerate(times(100)):
            writer.add_message(channel, stamp, compressed(stamp, jpeg(picture(i))), stamp)
        writer.finish()
    data = bytearray(file.read_bytes())
    # The frame header of a block in the middle, and no index.
    middle = data.index(b'\x04\x22\x4d\x18', len(data) // 2)
    data[middle:middle + 64] = b'\xff' * 64
    file.write_bytes(data[:-2000])
    counters: Counter[str] = Counter()
    frames = list(read_frames(file, counters=counters))
    read = {frame.stamp_ns for frame in frames}
    lost = [i for i, stamp in enumerate(times(100)) if stamp not in read]
    # One chunk in the middle, and the one that was cut off.
    assert lost == [*range(64, 80), *range(96, 100)]
    assert (counters['truncated'], counters['damaged']) == (1, 1)


def test_answers_are_put_where_the_node_would_have_given_them(tmp_path: Path) -> None:
    """One at a time, the newest window first: no answer comes after one about later pictures."""
    source, stamps = drive(tmp_path / 'bag', 12), times(12)
    told = [answered(tmp_path, report(stamps[i], ms)) for i, ms in (
        (0, 900.0), (1, 100.0), (2, 100.0), (4, 300.0), (5, 100.0), (10, 2000.0), (11, 10.0))]
    counters: Counter[str] = Counter()
    assert write_annotated_bag(source, tmp_path / 'out', told, counters=counters) == 5
    # While the first was worked out, 4 overtook 1 and 2; then 5 waited for 4.
    assert counters['overtaken'] == 2
    with Bag(tmp_path / 'out') as bag:
        found = [(at, json.loads(bag.deserialize(data, connection.msgtype).data)['stamp'])
                 for connection, at, data in bag.messages(['/vts_node/report'])]
    after_ms = [900, 1200, 1300, 4000, 4010]
    assert found == [(START_NS + ms * 10**6, stamps[i])
                     for ms, i in zip(after_ms, (0, 4, 5, 10, 11), strict=True)]


def test_an_answer_that_none_follows_is_taken_back(tmp_path: Path) -> None:
    """On every topic, after as long as in the node, whether another comes later or none."""
    source, stamps = drive(tmp_path / 'bag', 200), times(200)
    told = [answered(tmp_path, report(stamps[i], 0.0)) for i in (0, 40, 60, 130)]
    counters: Counter[str] = Counter()
    assert write_annotated_bag(source, tmp_path / 'out', told, counters=counters) == 4
    # 8 s and 4 s pass between the first three, then 14 s, and 13.8 s to the end.
    assert counters['retracted'] == 2
    after_ns = stamps[60] + 10 * 10**9
    found: dict[str, list[tuple[int, Any]]] = {}
    order = []
    with AnyReader([tmp_path / 'out']) as reader:
        for connection, at, data in reader.messages():
            order.append(at)
            found.setdefault(connection.topic.removeprefix('/vts_node/'), []).append(
                (at, reader.deserialize(data, connection.msgtype)))
    assert order == sorted(order)
    topics = ('risk', 'scene_description', 'markers', 'detections', 'annotations', 'scene')
    expected = [stamps[0], stamps[40], stamps[60], after_ns, stamps[130],
                stamps[130] + 10 * 10**9]
    assert {topic: [at for at, _ in found[topic]] for topic in topics} == dict.fromkeys(
        topics, expected)
    assert len(found['report']) == 4
    risk, text, markers, detections, drawn, scene = (found[topic][3][1] for topic in topics)
    assert (risk.status[0].level, risk.status[0].message) == (3, 'no answer for 10.0 s')
    assert risk.header.stamp.sec * 10**9 + risk.header.stamp.nanosec == after_ns
    assert text.data == ''
    assert [marker.action for marker in markers.markers] == [3]
    assert len(detections.detections) == len(drawn.points) == len(drawn.texts) == 0
    assert (scene.risk, scene.explanation) == (4, 'no answer for 10.0 s')


def test_the_last_answer_stands_where_the_recording_ends_before(tmp_path: Path) -> None:
    source, counters = drive(tmp_path / 'bag', 40), Counter[str]()
    write_annotated_bag(source, tmp_path / 'out', [answered(tmp_path, report(START_NS, 0.0))],
                        counters=counters)
    assert counters['retracted'] == 0


def test_real_bags_are_read() -> None:
    """Real recordings give frames of the expected size, all of them decodable."""
    for bag in real_bags():
        counters: Counter[str] = Counter()
        frames = list(read_frames(bag, counters=counters))
        assert len(frames) == sum(camera.pictures for camera in camera_topics(bag))
        assert counters['broken'] == counters['truncated'] == 0
        assert frames[0].camera == 'camera_front'
        height, width = frames[len(frames) // 2].rgb().shape[:2]
        assert 360 <= height < width <= 1280
