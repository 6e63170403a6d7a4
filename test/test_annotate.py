# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded drive in, results for people out; and the pictures themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, ExitStack
from dataclasses import replace
from html.parser import HTMLParser
import json
import os
from pathlib import Path
import resource
import shutil
import signal
import threading
import time

from bag_maker import (
    compressed,
    COMPRESSED_TOPIC,
    drive,
    jpeg,
    picture,
    real_bags,
    START_NS,
    STEP_NS,
    times,
    write,
)
import cv2
import matplotlib
import numpy as np
import pytest
from video_maker import write_video

from vts_ros.errors import BagError
from vts_ros.lab.training.new_checkpoint import create_checkpoint
from vts_ros.pipeline.frames import decode_image, Frame
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.pipeline.report import FrameRef, KeyFrame, RISK_COLOURS, SceneReport
from vts_ros.tools import overlay_picture, picture_fonts, pictures
from vts_ros.tools.annotate import annotate
from vts_ros.tools.answer_files import (
    ANNOTATED_BAG,
    AnnotateError,
    ANSWERS,
    PAGE,
    SHEET,
    TIMELINE,
    VIDEO,
    write_outputs,
)
from vts_ros.tools.answer_video import VIDEO_FPS
from vts_ros.tools.bag_frames import read_frames
from vts_ros.tools.bag_types import TYPESTORE
from vts_ros.tools.bags import Bag
from vts_ros.tools.contact_sheet import contact_sheet, interesting
from vts_ros.tools.described_frames import Pair
from vts_ros.tools.overlay_picture import (
    BAND_HEIGHT,
    FOOTER_HEIGHT,
    overlay,
    PICTURE_HEIGHT,
    STRIP_HEIGHT,
    WIDTH,
)
from vts_ros.tools.timeline import draw_timeline
from vts_ros.vlm.answers import Answer, RISK_LEVELS, RiskLevel

pytestmark = pytest.mark.slow

GRID = (2, 4)
STRING = 'std_msgs/msg/String'


@pytest.fixture(scope='module')
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Return the real pipeline with a tiny language model that has learned nothing."""
    model = tmp_path_factory.mktemp('model') / 'tiny'
    create_checkpoint(
        model, ['a road'], vocab_size=512, text_hidden=64, text_layers=2, text_heads=2,
        text_intermediate=64, hidden_size=32, depth=2, num_heads=2,
        intermediate_size=64)
    return Pipeline.load(PipelineConfig(model=str(model), max_new_tokens=4, threads=1))


def answer(risk: RiskLevel, explanation: str = 'The car ahead brakes.') -> Answer:
    """Return an answer about a car in the middle of the picture."""
    return Answer('A road by day.', risk, 'car', (0.4, 0.4, 0.6, 0.7), explanation, 'slow down')


def report(frames: Sequence[Frame], said: Answer, key: int = 0) -> SceneReport:
    """Return a report that keeps the key frame, and the first token of every other frame."""
    cells = GRID[0] * GRID[1]
    keep = [i for i in range(len(frames) * cells) if i // cells == key or i % cells == 0]
    return SceneReport(
        stamp=frames[-1].stamp_ns, frames=tuple(FrameRef(*frame.key) for frame in frames),
        key_frame=KeyFrame(*frames[key].key, key), answer=said, keep=tuple(keep), grid=GRID,
        latency_ms={'encode': 20.0, 'decode': 200.0, 'total': 230.0}, model='m', engine='e')


def pairs(bag: Path, answers: Sequence[Answer], gap: int = 4) -> list[Pair]:
    """Return windows of two frames, one every so many frames, with the answers given."""
    frames = list(read_frames(bag))
    windows = [frames[gap * i:gap * i + 2] for i in range(len(answers))]
    return [(window, report(window, said)) for window, said in zip(windows, answers, strict=True)]


def video_pictures(path: Path) -> list[np.ndarray]:
    """Return all pictures of a video."""
    video = cv2.VideoCapture(str(path))
    found = []
    while (read := video.read())[0]:
        found.append(read[1])
    return found


class Page(HTMLParser):
    """What a browser would load, and what a person would read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ''
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.sources += [value or '' for name, value in attrs if name in ('src', 'href')]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_bag_to_all_results(tmp_path: Path, pipeline: Pipeline) -> None:
    """Every file is there, can be read, and tells of the same answers."""
    bag, out = drive(tmp_path / 'bag', 16), tmp_path / 'out'
    seen: list[SceneReport] = []
    summary = annotate(bag, out, pipeline, progress=seen.append)
    # Every second frame goes into the window, which is full from the fifth on.
    stamps = [START_NS + i * STEP_NS for i in (8, 10, 12, 14)]
    reports = [SceneReport.from_dict(json.loads(line))
               for line in (out / ANSWERS).read_text().splitlines()]
    assert [answered.stamp for answered in reports] == [known.stamp for known in seen] == stamps
    assert all(len(answered.frames) == 5 and answered.model == 'tiny' for answered in reports)
    assert summary.counters['frames'] == 16
    assert summary.counters['admitted'] == 8
    assert sum(summary.risks.values()) == 4
    # Each answer stays for 0.4 s, the last for 1 s.
    film = video_pictures(out / VIDEO)
    assert len(film) == 3 * 0.4 * VIDEO_FPS + VIDEO_FPS
    assert film[0].shape[0] % 2 == film[0].shape[1] % 2 == 0
    with Bag(out / ANNOTATED_BAG) as opened:
        count = {connection.topic: connection.msgcount for connection in opened.connections}
        lines = [opened.deserialize(data, connection.msgtype).data
                 for connection, _, data in opened.messages(['/vts_node/report'])]
    assert count[COMPRESSED_TOPIC] == 16
    # On a slow machine, newer windows overtake some.
    given = 4 - summary.counters['overtaken']
    assert count['/vts_node/risk'] == count['/vts_overlay/image_annotated/compressed'] == given
    assert len(lines) == given
    # In a recording they have the age at which the node would have said them.
    told = [json.loads(line) for line in lines]
    assert all(answer['age_ms'] > 0.0 for answer in told)
    assert all({**answer, 'age_ms': None} in [report.to_dict() for report in reports]
               for answer in told)
    for name in (SHEET, TIMELINE):
        assert decode_image((out / name).read_bytes()).std() > 10
    assert not list(out.glob('.unfinished*'))


def test_a_video_has_all_results_but_a_bag(tmp_path: Path, pipeline: Pipeline) -> None:
    """Stamps are the time in the video; the bag of an earlier run into the same folder is gone."""
    out = tmp_path / 'out'
    annotate(drive(tmp_path / 'bag', 12), out, pipeline)
    assert (out / ANNOTATED_BAG).exists()
    video = write_video(tmp_path / 'dash cam.mp4', range(0, 3200, 200))
    summary = annotate(video, out, pipeline)
    assert [said.stamp for said in summary.reports] == [1_600_000_000 + 400_000_000 * i
                                                      for i in range(4)]
    assert summary.reports[0].cameras == ('dash_cam',)
    assert summary.counters['frames'] == 16
    assert {path.name for path in out.iterdir()} == {ANSWERS, PAGE, SHEET, TIMELINE, VIDEO}
    assert 'dash cam' in Page(out / PAGE).text


def test_every_and_second_run_replace(tmp_path: Path, pipeline: Pipeline) -> None:
    """Every second window is asked about, and a second run leaves nothing of the first."""
    bag, out = drive(tmp_path / 'bag', 16), tmp_path / 'out'
    annotate(bag, out, pipeline)
    summary = annotate(bag, out, pipeline, every=2)
    assert len((out / ANSWERS).read_text().splitlines()) == len(summary.reports) == 2
    with Bag(out / ANNOTATED_BAG) as opened:
        assert len(list(opened.messages(['/vts_node/report']))) == 2


def test_broken_frame_costs_its_answers_only(tmp_path: Path, pipeline: Pipeline) -> None:
    """A cut JPEG in the drive is dropped, counted and told; answers go on."""
    bag, out = drive(tmp_path / 'bag', 20, broken=10), tmp_path / 'out'
    summary = annotate(bag, out, pipeline)
    assert all(len(said.frames) == 5 for said in summary.reports)
    bad = START_NS + 10 * STEP_NS
    assert summary.counters['broken'] == 1
    assert len(summary.reports) == 6
    assert all(bad not in [frame.stamp for frame in said.frames] for said in summary.reports)
    assert '1' in Page(out / PAGE).text.split('could not be decoded')[1][:30]


def test_cut_off_bag_is_annotated_as_far_as_it_goes(tmp_path: Path, pipeline: Pipeline) -> None:
    """Answers come from what can be read, and the summary says that the bag was cut."""
    bag = drive(tmp_path / 'bag', 1000)
    file = bag / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-200_000])
    summary = annotate(bag, tmp_path / 'out', pipeline, every=60)
    assert summary.counters['truncated'] == 1
    assert 100 < summary.counters['frames'] < 1000
    assert len(summary.reports) >= 2


def test_too_short_and_unreadable_bags_are_refused(tmp_path: Path, pipeline: Pipeline) -> None:
    """One line says why there are no results, and none are left behind."""
    with pytest.raises(AnnotateError, match=r'never full \(5 frames, 3 admitted'):
        annotate(drive(tmp_path / 'bag', 5), tmp_path / 'out', pipeline)
    with pytest.raises(BagError, match='does not exist'):
        annotate(tmp_path / 'missing', tmp_path / 'out', pipeline)
    assert list((tmp_path / 'out').iterdir()) == []


def test_page_is_self_contained_and_safe(tmp_path: Path) -> None:
    """No reference leaves the page, every answer is on it, and words cannot be markup."""
    said = [answer(level) for level in RISK_LEVELS]
    said.append(answer('high', '<script>alert(1)</script> & more'))
    bag, out = drive(tmp_path / 'bag', 40), tmp_path / 'out'
    write_outputs(pairs(bag, said), out, source=bag, counters=Counter(frames=40, back=2),
                  info={'model': 'tiny'})
    page = Page(out / PAGE)
    assert len(page.sources) == page.tags['img'] == 7
    assert all(source.startswith('data:image/') for source in page.sources)
    assert 'http' not in (out / PAGE).read_text().replace('data:', '')
    assert page.tags['script'] == 0
    assert page.tags['article'] == 6
    assert '<script>alert(1)</script> & more' in page.text
    assert 'Advice, not control' in page.text
    for title in pictures.RISK_TITLES.values():
        assert title in page.text
    assert '9 of\n16' in page.text
    assert 'times that time went back' in page.text


def test_video_holds_answers_as_long_as_the_drive_did(tmp_path: Path) -> None:
    """Answers that come late stay longer, up to a limit."""
    bag = drive(tmp_path / 'bag', 90)
    both = [pair for i, pair in enumerate(pairs(bag, [answer('low')] * 20)) if i in (0, 3, 19)]
    write_outputs(both, tmp_path / 'out', source=bag)
    film = video_pictures(tmp_path / 'out' / VIDEO)
    assert len(film) == round((2.4 + 5.0 + 1.0) * VIDEO_FPS)


def test_interrupt_keeps_what_there_is(tmp_path: Path) -> None:
    """Ctrl-C ends the answers, not the writing."""
    bag = drive(tmp_path / 'bag', 40)

    def interrupted() -> Iterator[Pair]:
        yield from pairs(bag, [answer('low'), answer('high')])
        raise KeyboardInterrupt

    summary = write_outputs(interrupted(), tmp_path / 'out', source=bag)
    assert summary.risks == {'none': 0, 'low': 1, 'medium': 0, 'high': 1, 'unknown': 0}
    assert summary.counters['interrupted'] == 1
    assert (tmp_path / 'out' / PAGE).exists()


def test_error_after_an_answer_keeps_what_there_is(tmp_path: Path) -> None:
    """What was said before the error is written, and then the error is told in one line."""
    bag, out = drive(tmp_path / 'bag', 40), tmp_path / 'out'

    def failing(answers: int) -> Iterator[Pair]:
        yield from pairs(bag, [answer('low')] * answers)
        raise RuntimeError('out of\nmemory')

    with pytest.raises(AnnotateError, match=r'ended after 2 answers, .* out of memory$'):
        write_outputs(failing(2), out, source=bag)
    assert len((out / ANSWERS).read_text().splitlines()) == 2
    assert 'ended with an error' in Page(out / PAGE).text
    with pytest.raises(RuntimeError):
        write_outputs(failing(0), tmp_path / 'none', source=bag)


@contextmanager
def no_file_above(limit: int) -> Iterator[None]:
    """Let the system refuse larger files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def interrupt_when(condition: Callable[[], object]) -> threading.Thread:
    """Do to this process what Ctrl-C does, as soon as the condition holds."""
    def wait() -> None:
        while not condition():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(('end', 'reason'), [
    ('disk full', 'File too large'), ('bag gone', 'does not exist'), ('Ctrl-C', 'interrupted')])
def test_without_the_annotated_bag_all_else_is_there(
        tmp_path: Path, end: str, reason: str) -> None:
    """It is a copy of the whole bag, and what it costs must not cost the answers."""
    out = tmp_path / 'out'
    text = TYPESTORE.types[STRING](np.random.default_rng(0).bytes(10_000).hex())
    scan = bytes(TYPESTORE.serialize_cdr(text, STRING))
    bag = write(tmp_path / 'bag', [
        *((COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp, compressed(stamp, jpeg(picture(i))))
          for i, stamp in enumerate(times(40))),
        *(('/scan', STRING, START_NS + i, scan) for i in range(1500))])
    told = [answer('low'), answer('high')]
    windows = pairs(bag, told)
    write_outputs(windows[:1], out, source=bag)

    def gone() -> Iterator[Pair]:
        yield from windows
        shutil.rmtree(bag)

    with ExitStack() as stack:
        if end == 'disk full':
            stack.enter_context(no_file_above(10_000_000))
        if end == 'Ctrl-C':
            interrupt = interrupt_when(
                lambda: list(out.glob('.unfinished-*/**/annotated_bag/*.mcap')))
            stack.callback(interrupt.join)
        with pytest.raises(AnnotateError, match=(
                f'^2 answers, which are in .* without annotated_bag: .*{reason}[^\n]*$')):
            write_outputs(gone() if end == 'bag gone' else windows, out, source=bag)
    assert len((out / ANSWERS).read_text().splitlines()) == 2
    # Nothing of the earlier run is left, and nothing half done.
    assert {path.name for path in out.iterdir()} == {ANSWERS, PAGE, SHEET, TIMELINE, VIDEO}
    assert Page(out / PAGE).tags['article'] == 2
    assert 'annotated bags that could not be written' in Page(out / PAGE).text


def test_broken_frame_of_a_window_is_not_the_end_of_the_window(tmp_path: Path,
                                                               pipeline: Pipeline) -> None:
    """A cut picture that is found late costs the window that picture, as in the node."""
    bag = drive(tmp_path / 'bag', 12, broken=4)
    summary = annotate(bag, tmp_path / 'out', pipeline)
    assert summary.counters['broken'] == 1
    first = summary.reports[0]
    assert [(ref.stamp - START_NS) // STEP_NS for ref in first.frames] == [0, 2, 6, 8]


def test_recorded_drives_are_annotated(tmp_path: Path, pipeline: Pipeline) -> None:
    """Real recordings come out with answers about their own pictures, and all files."""
    for bag in real_bags():
        out = tmp_path / bag.name
        counters: Counter[str] = Counter()
        stamps = {frame.stamp_ns for frame in read_frames(bag, counters=counters)}
        summary = annotate(bag, out, pipeline, every=40)
        assert summary.counters['frames'] == counters['frames']
        told = [SceneReport.from_dict(json.loads(line))
                for line in (out / ANSWERS).read_text().splitlines()]
        assert len(told) == len(summary.reports) >= 1
        assert all(ref.stamp in stamps for answer in told for ref in answer.frames)
        assert all(answer.answer.risk in RISK_LEVELS and answer.model == 'tiny' for answer in told)
        assert decode_image((out / SHEET).read_bytes()).std() > 10
        with Bag(out / ANNOTATED_BAG) as opened:
            written = len(list(opened.messages(['/vts_node/report'])))
            assert written == len(told) - summary.counters['overtaken']


def test_out_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A file in the place of the folder and the own source are told plainly."""
    bag = drive(tmp_path / 'bag', 40)
    told = pairs(bag, [answer('low')])
    (tmp_path / 'file').write_text('')
    with pytest.raises(AnnotateError, match=r'cannot write to .*file'):
        write_outputs(told, tmp_path / 'file', source=bag)
    out = tmp_path / 'out'
    write_outputs(told, out, source=bag)
    with pytest.raises(AnnotateError, match='choose another folder'):
        write_outputs(told, out, source=out / ANNOTATED_BAG)
    shutil.rmtree(out)


def area(drawn: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return the inside of a cell of the main picture of an overlay."""
    height, width = PICTURE_HEIGHT // GRID[0], WIDTH // GRID[1]
    top, left = BAND_HEIGHT + row * height, column * width
    return drawn[top + 40:top + height - 40, left + 10:left + width - 10]


def test_overlay_shows_kept_bright_and_dropped_grey() -> None:
    """Dropped cells have no colour and are darker; the band has the colour of the risk."""
    rgb = np.full((90, 160, 3), (200, 120, 40), np.uint8)
    frames = [Frame('camera', i, rgb) for i in range(2)]
    said = Answer('A road.', 'high', None, None, 'Something.', 'stop')
    told = report(frames, said, key=0)
    drawn = overlay(rgb, told, [rgb, rgb], 0)
    assert drawn.shape[0] % 2 == drawn.shape[1] % 2 == 0
    assert tuple(drawn[4, 4]) == RISK_COLOURS['high']
    kept, dropped = area(drawn, 0, 0), area(drawn, 0, 2)
    assert np.abs(kept.reshape(-1, 3).astype(int) - (200, 120, 40)).max() <= 2
    assert np.ptp(dropped.reshape(-1, 3).astype(int), axis=1).max() <= 2
    assert dropped.mean() < kept.mean()
    assert overlay(rgb, told).shape[0] == drawn.shape[0] - STRIP_HEIGHT


@pytest.mark.parametrize('shape', [(32, 900), (900, 32), (1081, 1919), (17, 17)])
@pytest.mark.parametrize('box', [(0.0, 0.0, 1.0, 1.0), (0.98, 0.0, 1.0, 0.02), None])
def test_overlay_has_one_size_whatever_comes(shape: tuple[int, int], box: tuple | None) -> None:
    """Any picture size, any box and very long words fit into the same picture."""
    rgb = np.full((*shape, 3), 90, np.uint8)
    frames = [Frame('camera_with_a_long_name', i, rgb) for i in range(9)]
    said = Answer('word ' * 200, 'medium', 'x' * 40, box, 'y' * 500, 'do ' * 20)
    drawn = overlay(rgb, report(frames, said, key=8), [None, *[rgb] * 8], 0)
    assert drawn.shape == (908, 960, 3)


@pytest.mark.parametrize(('count', 'key', 'shown'), [
    (1, 0, []), (5, 2, [0, 1, 2, 3]), (5, 4, [0, 1, 2, 3]), (12, 3, [3, 6, 7, 8, 9, 10]),
    (12, 11, [5, 6, 7, 8, 9, 10])])
def test_the_strip_never_leaves_out_the_key_frame(count: int, key: int, shown: list[int]) -> None:
    """However long the window is: it is what the others were compared with."""
    rgb = np.full((90, 160, 3), 90, np.uint8)
    frames = [Frame('camera', i, rgb) for i in range(count)]
    assert overlay_picture._strip_frames(count, key, count - 1) == shown
    drawn = overlay(rgb, report(frames, answer('low'), key=key), [rgb] * count)
    strip = drawn[-STRIP_HEIGHT - FOOTER_HEIGHT:-FOOTER_HEIGHT]
    assert (strip == pictures.KEY).all(axis=2).any() == (key < count - 1)


def test_risk_box_is_drawn_where_the_object_is() -> None:
    """The edge of the box has the colour of the risk, at the place that the answer names."""
    rgb = picture(0, 540, 960)
    told = report([Frame('camera', 0, rgb)], answer('medium'))
    drawn = overlay(rgb, told)
    colour = np.array(RISK_COLOURS['medium'])
    row = drawn[BAND_HEIGHT + int(0.55 * 540)].astype(int)
    edges = np.flatnonzero(np.abs(row - colour).max(axis=1) <= 2)
    assert edges.min() == pytest.approx(0.4 * 960, abs=5)
    assert edges.max() == pytest.approx(0.6 * 960, abs=5)


def test_no_box_is_drawn_where_nobody_knows_in_which_camera_it_lies() -> None:
    rgb = picture(0)
    frames = [Frame('front', 0, rgb), Frame('rear', 0, rgb)]
    said = answer('high')
    told, bare = report(frames, said), report(frames, replace(said, box=None))
    assert np.array_equal(overlay(rgb, told), overlay(rgb, bare))
    sheets = [contact_sheet([rgb], [shown], ['1.0 s'], 'a drive') for shown in (told, bare)]
    assert np.array_equal(sheets[0], sheets[1])


def test_the_picture_is_of_the_camera_that_shows_the_object() -> None:
    front, rear = picture(0, 540, 960), np.full((540, 960, 3), 90, np.uint8)
    frames = [Frame(camera, stamp, rgb) for stamp in (0, 1)
              for camera, rgb in (('front', front), ('rear', rear))]
    said = answer('medium')
    told = {camera: report(frames, replace(said, camera=camera)) for camera in ('front', 'rear')}
    assert [told[camera].shown for camera in ('front', 'rear')] == [2, 3]
    colour = np.array(RISK_COLOURS['medium'])
    for camera, rgb in (('front', front), ('rear', rear)):
        row = overlay(rgb, told[camera])[BAND_HEIGHT + int(0.55 * 540)].astype(int)
        assert (np.abs(row - colour).max(axis=1) <= 2).any()
    # Nobody says where it is: the first camera is shown, without a box.
    unnamed = report(frames, said)
    assert (unnamed.shown, unnamed.risk_object and unnamed.risk_object.box) == (2, None)


def test_wrap_breaks_and_cuts() -> None:
    """No line is wider than allowed, and a cut shows."""
    font = picture_fonts._font(20)
    lines = picture_fonts.wrap('the car ahead brakes hard and the gap closes ' * 5, font, 300, 3)
    assert len(lines) == 3
    assert all(font.getlength(line) <= 300 for line in lines)
    assert lines[-1].endswith('…')
    assert picture_fonts.wrap('short', font, 300, 3) == ['short']
    assert picture_fonts.wrap('', font, 300, 3) == []


JAPANESE = '歩行者が道路を横断している。' * 6


def test_words_without_blanks_are_broken_into_lines() -> None:
    font = picture_fonts._font(20)
    lines = picture_fonts.wrap(JAPANESE, font, 300, 3)
    assert len(lines) == 3
    assert all(font.getlength(line) <= 300 for line in lines)
    assert lines[-1].endswith('…')
    assert JAPANESE.startswith(lines[0] + lines[1])


@pytest.fixture
def fonts_anew() -> Iterator[None]:
    """Have fonts be looked for again, before and after."""
    picture_fonts._place_of_font.cache_clear()
    picture_fonts._note_missing_font.cache_clear()
    yield
    picture_fonts._place_of_font.cache_clear()


@pytest.mark.usefixtures('fonts_anew')
def test_a_font_is_found_that_has_the_signs(caplog: pytest.LogCaptureFixture) -> None:
    assert picture_fonts.font_of('a car, 30 °C, naïve …', 20) is picture_fonts._font(20, False)
    font = picture_fonts.font_of(JAPANESE, 20)
    if font is picture_fonts._font(20, False):
        pytest.skip('no font for Japanese is installed here')
    assert len({bytes(font.getmask(sign)) for sign in '歩行者'}) == 3
    assert not caplog.records


@pytest.mark.usefixtures('fonts_anew')
def test_signs_are_taken_from_another_font(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'STIXGeneral.ttf')
    monkeypatch.setattr(picture_fonts, 'CJK_FONTS', ('/nowhere/font.ttc', str(other)))
    sign = next(chr(code) for code in range(0x2300, 0x2400)
                if picture_fonts._has(picture_fonts._truetype(str(other), 16), chr(code))
                and not picture_fonts._has(picture_fonts._font(16, False), chr(code)))
    assert picture_fonts.font_of(f'a {sign}', 20).path == str(other)


@pytest.mark.usefixtures('fonts_anew')
def test_signs_that_no_font_has_are_noted_once(
        caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_fonts, 'CJK_FONTS', ('/nowhere/font.ttc',))
    monkeypatch.setenv('PATH', '/nowhere')
    rgb = picture(0)
    frames = [Frame('camera', 0, rgb)]
    for said in (answer('high', JAPANESE), answer('low', '道路')):
        assert overlay(rgb, report(frames, said)).any()
    told, = caplog.records
    assert 'fonts-noto-cjk' in told.getMessage()


def test_interesting_prefers_changes_of_risk() -> None:
    """All changes of risk are chosen before anything else, and no more than asked for."""
    rgb = picture(0)
    counts: list[tuple[RiskLevel, int]] = [('none', 50), ('high', 1), ('none', 20), ('medium', 29)]
    levels = [level for level, count in counts for _ in range(count)]
    # The object changes all the time, which must not crowd out the changes of risk.
    told = [report([Frame('camera', i, rgb)], replace(answer(level), label=('car', 'bus')[i % 2]))
            for i, level in enumerate(levels)]
    chosen = interesting(told, 12)
    assert len(chosen) == 12
    assert chosen == sorted(chosen)
    assert {0, 50, 51, 71} <= set(chosen)
    assert interesting(told[:5], 12) == [0, 1, 2, 3, 4]


def test_contact_sheet_and_plots_hold_every_number_of_answers() -> None:
    """One answer and a dozen both give a picture that is not empty."""
    rgb = picture(0)
    for count in (1, 2, 12):
        told = [report([Frame('camera', stamp, rgb)], answer('low')) for stamp in times(count)]
        sheet = contact_sheet([rgb] * count, told, ['1.0 s'] * count, 'a drive')
        assert sheet.std() > 10
        assert draw_timeline(told, START_NS).std() > 10
    assert sheet.shape[0] > 1000
