# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a fleet has said is found again, cut out, shown and reported."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
import json
from pathlib import Path
import re
from typing import Any
import weakref

from bag_maker import COMPRESSED_TOPIC, drive, START_NS, STEP_NS
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from vts_ros.fleet import moments as moments_module
from vts_ros.fleet.answer_tables import (
    ANSWERS,
    Answers,
    FAILURES,
    FleetFolder,
    FleetSettings,
    refused_text,
)
from vts_ros.fleet.fleet_benchmark import measure_search, QUESTIONS
from vts_ros.fleet.fleet_report import fleet_report, write_report
from vts_ros.fleet.fleet_worker import look
from vts_ros.fleet.moments import moments, picture_of, write_clip, write_page
from vts_ros.fleet.search import conditions, Fleet
from vts_ros.fleet.signals import add_signals
from vts_ros.fleet.sources import find_recordings, FleetError
from vts_ros.pipeline.frames import decode_image, Frame
from vts_ros.pipeline.report import FrameRef, KeyFrame, SceneReport
from vts_ros.tools.bag_frames import read_frames_from
from vts_ros.vlm.answers import Answer, RiskLevel

pytest.importorskip('duckdb')

DAY_NS = 86_400 * 10**9
#: What is said of two drives, one answer after the other.
SAID: dict[str, list[tuple[RiskLevel, str | None, str]]] = {
    'north': [('none', None, 'A street by day.'), ('high', 'pedestrian', 'A street at night.'),
              ('low', 'car', "A driver's street; 100 % wet."),
              ('high', 'cyclist', 'A road at nightfall.')],
    'south': [('unknown', None, ''), ('medium', 'pedestrian', 'A lane at night.'),
              ('none', None, 'A lane.')],
}
LATENCY_MS = {'high': 900.0}


def report(stamp: int, camera: str, risk: RiskLevel, label: str | None, text: str) -> SceneReport:
    """Return an answer about two pictures."""
    refs = tuple(FrameRef(camera, stamp - i * STEP_NS) for i in (1, 0))
    said = Answer(text, risk, label, (0.4, 0.4, 0.6, 0.7) if label else None,
                  'It comes <near>.' if label else '', 'brake' if label else '')
    return SceneReport(stamp, refs, KeyFrame(camera, stamp, 1), said, (0, 1, 2), (1, 3),
                       latency_ms={'total': LATENCY_MS.get(risk, 100.0)}, model='m', engine='e',
                       confidence=0.5, in_distribution=risk != 'unknown')


def write_fleet(root: Path, drives: Path, said: dict[str, Any]) -> Path:
    """Write recordings and the answers about them, six frames from one to the next."""
    folder = FleetFolder(root)
    rng = np.random.default_rng(0)
    with folder.opened(FleetSettings()):
        for name, answers in said.items():
            if not (drives / name).exists():
                drive(drives / name, 40)
            recording, = find_recordings([str(drives / name)])
            rows = Answers(recording)
            for number, answer in enumerate(answers):
                stamp = START_NS + (2 + 11 * number) * STEP_NS
                embedding = look(rng.standard_normal((8, 2, 2)).astype(np.float32))
                rows.add(report(stamp, 'camera_front', *answer), stamp, embedding)
            told, timings = rows.tables()
            folder.finish(recording, add_signals(told, drives / name), timings,
                          {'frames': 40, 'broken': 2 if name == 'south' else 0})
        folder.write_failures({'/nowhere': 'it is gone'})
    return root


@pytest.fixture(scope='module')
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('drives')


@pytest.fixture(scope='module')
def root(drives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fleet(tmp_path_factory.mktemp('fleet'), drives, SAID)


@pytest.fixture(scope='module')
def fleet(root: Path) -> Fleet:
    return Fleet(root, threads=1)


@pytest.mark.parametrize(('question', 'found'), [
    ('', 'n0 n1 n2 n3 s0 s1 s2'),
    ('high risk', 'n1 n3'),
    ('pedestrian, high risk, night', 'n1'),
    ('Night', 'n1 n3 s1'),
    ('ight', ''),
    ('night street', 'n1'),
    ("driver's, 100 %", 'n2'),
    ('risk >= medium', 'n1 n3 s1'),
    ('risk < low', 'n0 s2'),
    ('risk != none, risk unknown', 's0'),
    ('object = pedestrian', 'n1 s1'),
    ('object ~ ^(car|cyc)', 'n2 n3'),
    ('recording ~ south$', 's0 s1 s2'),
    ('latency_ms > 500', 'n1 n3'),
    ('confidence < 0.5', ''),
    ('tokens_kept = 3, cameras = 1', 'n0 n1 n2 n3 s0 s1 s2'),
    ('camera = camera_rear', ''),
    ('camera != camera_rear, medium risk', 's1'),
    ('after 2025-10-09 08:53:24, risk none', 's2'),
    ('before 2025-10-09 08:53:21', 'n0 s0'),
    ('before 2025-10-09T10:53:21+02:00', 'n0 s0'),
    ('after 2025-10-09T08:53:24Z, risk none', 's2'),
    ('near 48.1 11.5 2 km', ''),
])
def test_what_is_asked_for_is_found(fleet: Fleet, question: str, found: str) -> None:
    rows = fleet.find(question)
    names = [f'{Path(row["recording"]).name[0]}{(row["stamp"] - START_NS) // STEP_NS // 11}'
             for row in rows]
    assert ' '.join(names) == found
    assert fleet.count(question) == len(rows)
    assert len(fleet.find(question, limit=1)) == min(1, len(rows))


@pytest.mark.parametrize('question', [
    'risk > unknown', 'colour = red', '...', 'after 2026-13-45', 'before 2026', 'near 1 2'])
def test_what_is_not_understood_is_told(question: str) -> None:
    if question == 'near 1 2':
        # Just words: nothing says that a place is meant.
        assert len(conditions(question)) == 1
        return
    with pytest.raises(FleetError):
        conditions(question)


def test_places_are_near_as_the_crow_flies() -> None:
    """A degree of longitude is shorter in the north; the condition is that of a sphere."""
    import duckdb

    condition, = conditions('near 60.0 10.0 60 km')
    found = duckdb.connect().execute(
        'SELECT longitude FROM (VALUES (60.0, 11.0), (60.0, 11.1), (60.5, 10.0), (60.6, 10.0)) '
        f'AS t(latitude, longitude) WHERE {condition.sql}', condition.values).fetchall()
    assert [name for name, in found] == [pytest.approx(11.0), pytest.approx(10.0)]


def test_sql_of_ones_own(fleet: Fleet) -> None:
    found = fleet.query('SELECT a.risk, max(t.total_ms) FROM answers a JOIN timings t USING '
                        "(recording, stamp) WHERE risk <> 'none' GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [('high', 900.0), ('low', 100.0), ('medium', 100.0), ('unknown', 100.0)]
    assert fleet.query('SELECT * FROM failures').fetchall() == [('/nowhere', 'it is gone')]
    with pytest.raises(FleetError, match=r'DuckDB: .*nonsense'):
        fleet.query('SELECT nonsense FROM answers')


def test_a_fleet_that_is_still_described_can_be_searched(drives: Path, tmp_path: Path) -> None:
    """The list of failures is written at the end, and a run that is killed has none."""
    root = write_fleet(tmp_path, drives, SAID)
    (root / FAILURES).unlink()
    fleet = Fleet(root, threads=1)
    assert fleet.count('high risk') == 2
    assert fleet.query('SELECT recording, reason FROM failures').fetchall() == []
    assert fleet_report(root)['failures'] == []


def test_a_file_that_is_damaged_is_told_in_one_line(drives: Path, tmp_path: Path) -> None:
    root = write_fleet(tmp_path, drives, SAID)
    (root / ANSWERS / 'north-0.parquet').write_bytes(b'PAR1')
    with pytest.raises(FleetError, match=r'DuckDB: .*north-0\.parquet') as told:
        Fleet(root, threads=1).count('')
    assert '\n' not in str(told.value)


def test_clips_of_recordings_that_are_called_alike_have_names_of_their_own(
        tmp_path: Path) -> None:
    for car in ('red', 'blue'):
        write_fleet(tmp_path / 'fleet', tmp_path / car, {'north': SAID['north']})
    found = list(moments(tmp_path / 'fleet', Fleet(tmp_path / 'fleet').find('cyclist')))
    clips = [write_clip(moment, tmp_path / 'clips') for moment in found]
    assert len(set(clips)) == 2
    assert all(clip.is_dir() for clip in clips)


def test_of_a_long_moment_few_pictures_are_held(
        fleet: Fleet, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures without compression are megabytes each, and a moment may last an hour."""
    held: weakref.WeakSet[Frame] = weakref.WeakSet()
    most: list[int] = []

    def read(*arguments: Any) -> Iterator[tuple[int, Frame]]:
        for received_ns, frame in read_frames_from(*arguments):
            copy = Frame(frame.camera, frame.stamp_ns, frame.data)
            held.add(copy)
            yield received_ns, copy
            del copy, frame
            most.append(len(held))

    monkeypatch.setattr(moments_module, 'read_frames_from', read)
    rows = fleet.find('recording ~ north')
    moment, = moments(root, rows[:1])
    whole, = [replace(moment, rows=[*moment.rows, *(
        row for part in moments(root, rows[1:]) for row in part.rows)])]
    assert picture_of(whole) is not None
    assert len(most) > 30
    assert max(most) <= 3


def test_moments_are_cut_out_of_their_recordings(fleet: Fleet, root: Path, tmp_path: Path) -> None:
    found = list(moments(root, fleet.find('high risk')))
    assert [[row['object'] for row in moment.rows] for moment in found] == [
        ['pedestrian'], ['cyclist']]
    with AnyReader([write_clip(found[0], tmp_path)]) as clip:
        stamps = [received for _, received, _ in clip.messages()]
        assert [connection.topic for connection in clip.connections] == [COMPRESSED_TOPIC]
    # A second before the window of two frames, and behind it.
    newest = START_NS + 13 * STEP_NS
    assert stamps == [newest + i * STEP_NS for i in range(-6, 6)]
    # Answers that follow each other at once are one moment.
    near = fleet.query('SELECT recording, stamp FROM answers ORDER BY recording, stamp')
    rows = [{'recording': uri, 'stamp': stamp} for uri, stamp in near.fetchall()]
    assert [len(moment.rows) for moment in moments(root, rows)] == [1] * 7


class Page(HTMLParser):
    """The pictures and words of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.text = ''
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += [value or '' for name, value in attrs if (tag, name) == ('img', 'src')]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_plays_the_moments(fleet: Fleet, root: Path, tmp_path: Path) -> None:
    rows = fleet.find('pedestrian')
    write_page('pedestrian', 2, list(moments(root, rows)), tmp_path / 'page.html')
    page = Page(tmp_path / 'page.html')
    # Two frames of each moment, and what lies between them and around.
    pictures = [decode_image(b64decode(uri.partition(',')[2])) for uri in page.pictures]
    assert len(pictures) == 4
    assert 'It comes <near>.' in page.text
    assert '2025-10-09' in page.text
    # The box is drawn where the answer is about, and nowhere else.
    height, width = pictures[0].shape[:2]
    edge = [picture[round(0.7 * height), round(0.55 * width)].astype(int) for picture in pictures]
    assert abs(edge[1] - (222, 60, 40)).max() < 40
    assert abs(edge[3] - (240, 165, 0)).max() < 40
    assert abs(edge[0] - (222, 60, 40)).max() > 60
    assert 'does not know' not in page.text


def test_pages_say_how_many_answers_a_guard_refused(fleet: Fleet, root: Path, tmp_path: Path
                                                    ) -> None:
    assert fleet.refused == 1
    note = refused_text(fleet.refused)
    assert note.startswith('1 answer is unknown, as the model does not know such pictures')
    assert not refused_text(0)
    write_page('unknown', 1, list(moments(root, fleet.find('risk = unknown'))),
               tmp_path / 'page.html', note)
    page = Page(tmp_path / 'page.html')
    assert note in page.text
    assert 'no answer that can be read' not in page.text
    assert 'A click on' in page.text
    write_page('none', 0, [], tmp_path / 'page.html')
    assert 'A click on' not in Page(tmp_path / 'page.html').text
    write_report(root, fleet_report(root), tmp_path / 'report.html')
    text = Page(tmp_path / 'report.html').text
    assert note in text
    # Times as people write them.
    assert not re.search(r'\d{19}', text)
    assert '2025-10-09' in text


def test_the_report_says_what_is_rare_new_and_disputed(
        root: Path, drives: Path, tmp_path: Path) -> None:
    other = {'north': [('none', None, ''), *SAID['north'][1:2], ('high', 'car', 'No.')]}
    found = fleet_report(root, write_fleet(tmp_path / 'other', drives, other))
    assert found['totals']['answers'] == 7
    assert found['risks'] == {'none': 2, 'low': 1, 'medium': 1, 'high': 2, 'unknown': 1}
    assert [Path(row['recording']).name for row in found['recordings']] == ['north', 'south']
    assert found['failures'] == [{'recording': '/nowhere', 'reason': 'it is gone'}]
    assert found['damaged'] == [('frames that could not be decoded (left out)', 1)]
    assert [row['answers'] for row in found['drift']] == [7]
    assert found['drift'][0]['distance'] == 0.0
    assert {Path(row['recording']).name for row in found['rare']} == {'north', 'south'}
    apart = found['disagreement']
    assert (apart['n'], apart['same']) == (3, 0.6667)
    assert apart['matrix']['low']['high'] == 1
    assert [(row['risk'], row['risk_other']) for row in apart['apart']] == [('low', 'high')]
    write_report(root, found, tmp_path / 'report.html')
    page = Page(tmp_path / 'report.html')
    assert len(page.pictures) == len(found['rare']) + len(found['new'])
    assert all(uri.startswith('data:image/jpeg') for uri in page.pictures)
    assert '2 recordings' in page.text
    json.dumps(found, default=str)


def test_rare_scenes_are_those_that_no_other_recording_has(tmp_path: Path, drives: Path) -> None:
    """Of looks along one direction, the one across is the rarest, and comes last in time."""
    folder = FleetFolder(tmp_path)
    with folder.opened(FleetSettings()):
        for name in ('a', 'b', 'c'):
            recording, = find_recordings([str(drive(drives / name, 2))])
            rows = Answers(recording)
            for number in range(30):
                vector = np.array([1.0, 0.01 * number, 0.0], np.float32)
                if (name, number) == ('b', 29):
                    vector = np.array([0.0, 0.0, 1.0], np.float32)
                stamp = START_NS + number * DAY_NS // 10
                rows.add(report(stamp, 'c', 'none', None, name), stamp,
                         look(vector[:, None, None]))
            folder.finish(recording, *rows.tables(), {})
        folder.write_failures({})
    found = fleet_report(tmp_path)
    for kind in ('rare', 'new'):
        first = found[kind][0]
        assert (first['description'], first['distance']) == ('b', pytest.approx(1.0))
        assert first['stamp'] == START_NS + 29 * DAY_NS // 10
        assert all(row['distance'] < 0.1 for row in found[kind][1:])
    assert len(found['drift']) in (3, 4)


def test_without_answers_it_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match='vts fleet annotate SOURCES --out'):
        Fleet(tmp_path)


def test_a_report_comes_back_from_its_row(fleet: Fleet, root: Path) -> None:
    from vts_ros.fleet.answer_tables import report_of

    moment = next(iter(moments(root, fleet.find('pedestrian, high risk'))))
    stamp = START_NS + 13 * STEP_NS
    assert report_of(moment.rows[0]) == replace(
        report(stamp, 'camera_front', *SAID['north'][1]), latency_ms={})


def test_the_search_of_many_is_measured() -> None:
    found = measure_search(3000, 60, repeats=2)
    assert set(found['seconds']) == set(QUESTIONS)
    # Questions that find nothing would measure nothing.
    assert sum(count > 0 for count in found['found'].values()) >= 7
