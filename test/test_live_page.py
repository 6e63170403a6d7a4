# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The live page as a person has it: the real command, the real model, a real browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
import os
from pathlib import Path
import re
import shutil
import signal
import threading
import time
from typing import Any

from bag_maker import compressed, COMPRESSED_TOPIC, jpeg, START_NS, write
from conftest import Process, ROOT
import psutil
import pytest
from test_live import frame, Recorded, report, serving
from video_maker import write_video

from vts_ros.lab.scenes.drive import make_drive
from vts_ros.lab.scenes.ground_truth import window_truth
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.tools.live.live_hub import Hub

sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')

BROWSER = next(filter(None, map(shutil.which, (
    'chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason='no Chromium is installed'),
    pytest.mark.skipif(not (ROOT / 'models' / 'embedded').is_dir(),
                       reason='the language model is not in this checkout')]

WIDTH, HEIGHT, HZ = 960, 540, 10
#: Machines that run tests are busy.
PATIENCE_MS = 240_000.0
#: The first minute fills what is kept; then nothing may grow.
FILL_SEC, WARM_UP_SEC, WATCH_SEC = 55, 5, 30
MB = 2**20


@pytest.fixture(scope='module')
def dangerous_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp('drive') / 'bag', WIDTH, HEIGHT)


def write_drive(path: Path, width: int, height: int) -> Path:
    """Write a few rendered seconds in which a car in front brakes hard, at 10 Hz."""
    scene = make_drive(0, ('lead braking',))
    risks = [window_truth(scene, index, height / width).risk for index in range(len(scene.times))]
    first = risks.index('high')
    renderer = Renderer(scene, width, height)
    indices = range(max(0, first - 16), min(len(risks), first + 20))
    return write(path, [
        (COMPRESSED_TOPIC, COMPRESSED_IMAGE, stamp,
         compressed(stamp, jpeg(renderer.frame(index))))
        for number, index in enumerate(indices)
        for stamp in [START_NS + number * 1_000_000_000 // HZ]])


class Live:
    """The command, and its address."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.process = Process('vts_ros.tools.cli', [
            'live', '--port', '0', '--threads', '1', *arguments], {
                **os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'})
        self.process.wait_for_output('(Ctrl-C ends)', 500.0)
        found = re.search(r'http://localhost:\d+', self.process.output)
        assert found is not None
        self.address = found[0]

    @property
    def megabytes(self) -> float:
        """Return the memory of the server."""
        return float(psutil.Process(self.process.pid).memory_info().rss / MB)

    def end(self) -> None:
        """Interrupt it as a person does; it ends by itself, without an error."""
        self.process.interrupt(signal.SIGINT)
        assert self.process.wait(60.0) == 0, self.process.output
        assert 'Traceback' not in self.process.output


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    """Return a Chromium without a window."""
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=[
            '--no-sandbox', '--enable-precise-memory-info', '--js-flags=--expose-gc'])
        yield started
        started.close()


class Visit:
    """A page that is open, and whatever it should not have done."""

    def __init__(self, browser: Any, address: str, width: int = 1600, height: int = 900) -> None:
        self.page = browser.new_page(viewport={'width': width, 'height': height})
        self.page.set_default_timeout(PATIENCE_MS)
        self.faults: list[str] = []
        self.page.on('console', lambda said: self.faults.append(said.text)
                     if said.type == 'error' else None)
        self.page.on('pageerror', lambda error: self.faults.append(str(error)))
        self.page.on('request', lambda request: None if request.url.startswith(
            (address, address.replace('http', 'ws'), 'data:')) else self.faults.append(
                f'asked for {request.url}'))
        self.page.goto(address)

    def until(self, condition: str) -> None:
        """Wait for a condition in the page; Playwright's own wait needs what the page forbids."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(f'() => {condition}'):
            assert time.monotonic() < deadline, condition
            self.page.wait_for_timeout(100)

    def picture_sum(self) -> int:
        """Return a number that changes with the picture that is shown."""
        return int(self.page.evaluate("""() => {
            const canvas = document.getElementById('picture');
            const data = canvas.getContext('2d').getImageData(
                0, 0, canvas.width, canvas.height).data;
            let sum = 0;
            for (let i = 0; i < data.length; i += 397) sum = (sum * 31 + data[i]) % 1e9;
            return sum; }"""))

    def heap_megabytes(self) -> float:
        """Return the memory of the script after what is not used any more was freed."""
        return float(self.page.evaluate(
            '() => { gc(); gc(); return performance.memory.usedJSHeapSize; }') / MB)


def renderer_megabytes() -> float:
    """Return the memory of the processes that show pages, bitmaps included."""
    return float(sum(
        process.memory_info().rss for process in psutil.Process().children(recursive=True)
        if '--type=renderer' in process.cmdline()) / MB)


def still(visit: Visit) -> bool:
    """Return whether the picture stays as it is while others come."""
    before = visit.picture_sum()
    visit.page.wait_for_timeout(700)
    return visit.picture_sum() == before != 0


class Feed:
    """Pictures of two cameras and answers, without a model."""

    def __init__(self, hub: Hub) -> None:
        self._hub, self._number, self.risk = hub, 0, 'low'
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30.0)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self._number += 1
            for camera in ('front', 'rear'):
                self._hub.show(frame(self._number, camera), is_needed=True)
            if self.risk:
                self._hub.report(report(self._number, self.risk, age_ms=50.0))


@pytest.mark.timeout(900)
def test_what_a_person_sees_and_does(browser: Any) -> None:
    """All of the page but the model: colours, texts that grow, the past, tabs, no connection."""
    hub, answerer = Hub({'source': 'a drive', 'keep_ratio': 0.6, 'mode': 'window',
                         'model': 'embedded', 'modes': ['window', 'causal'],
                         'models': ['embedded', '/models/large']}), Recorded()
    with ExitStack() as stack:
        server = stack.enter_context(serving(hub, answerer))
        feed = stack.enter_context(Feed(hub))
        visit = Visit(browser, server.address)
        page = visit.page
        for risk, title in (('low', 'LOW RISK'), ('high', 'HIGH RISK'), ('none', 'NO RISK')):
            feed.risk = risk
            page.wait_for_selector(f'body[data-risk={risk}]')
            assert page.inner_text('#level') == title
        assert page.inner_text('#explanation') == 'it brakes'
        assert not still(visit)
        # The level is there before the reason, which then grows; the one before is gone.
        feed.risk = ''
        page.wait_for_timeout(500)
        hub.report(report(0, 'high', is_partial=True))
        page.wait_for_selector('body[data-risk=high]')
        assert page.inner_text('#explanation').strip() == ''
        hub.tell('writing', explanation='The car', action='', description='')
        visit.until("document.getElementById('explanation').textContent === 'The car'")
        hub.retract('the model failed')
        visit.until("document.getElementById('level').textContent.startsWith('NO ANSWER FOR')")
        assert page.get_attribute('body', 'data-risk') == 'unknown'
        assert page.inner_text('#explanation') == ''
        feed.risk = 'medium'
        page.wait_for_selector('body[data-risk=medium]')
        # The reason for the same risk can be read while a new one is being written.
        feed.risk = ''
        page.wait_for_timeout(500)
        hub.report(report(0, 'medium', is_partial=True))
        hub.tell('writing', explanation='The c', action='', description='')
        page.wait_for_timeout(300)
        assert page.inner_text('#explanation') == 'it brakes'
        feed.risk = 'medium'
        # Back in time: the picture stands still, and says when it was.
        page.focus('#timeline')
        for _ in range(2):
            page.keyboard.press('ArrowLeft')
        visit.until("document.getElementById('when').textContent.endsWith('s ago')")
        page.wait_for_timeout(500)
        assert still(visit)
        place = page.locator('#timeline').bounding_box()
        page.mouse.click(place['x'] + 0.98 * place['width'], place['y'] + 20)
        visit.until("Math.abs(parseFloat(document.getElementById('when').textContent) - 1.2) < 2")
        page.click('#live')
        visit.until("document.getElementById('when').textContent === ''")
        # The other camera has a tab, and no box: the answer is about the front.
        page.click('#cameras button:has-text("rear")')
        visit.until("page.picture !== null && page.picture.camera === 'rear'")
        # What is asked and changed arrives; what is refused is told.
        page.fill('#question', 'Is it safe?')
        page.press('#question', 'Enter')
        page.locator('#keep-ratio').fill('0.4')
        page.select_option('#model', '/models/large')
        visit.until("document.getElementById('status').textContent.includes('cannot be changed')")
        assert answerer.asked == ['Is it safe?']
        assert answerer.changed == [('keep_ratio', 0.4)]
        assert page.inner_text('#model option:checked') == 'large'
        # Words of a model are no markup.
        hub.tell('question', id=1, question='<img src=x onerror=alert(1)>')
        hub.tell('answer', id=1, text='<b>no</b>', error=None)
        page.wait_for_selector('#answers .answered[data-done]')
        assert page.inner_text('#answers .answered') == '<b>no</b>'
        assert page.locator('#answers img').count() == 0
        # A tablet in a car.
        page.set_viewport_size({'width': 800, 'height': 1200})
        page.wait_for_timeout(500)
        assert page.evaluate('() => document.documentElement.scrollWidth') <= 800
        assert page.locator('#live').is_visible()
        assert visit.faults == []
        # Without the server nothing that was said stays.
        stack.close()
        page.wait_for_selector('body[data-risk=unknown]')
        assert page.inner_text('#level') == 'NO CONNECTION'
        page.close()


@pytest.mark.timeout(1200)
def test_a_drive_is_played_watched_and_asked_about(
        dangerous_drive: Path, browser: Any, tmp_path: Path) -> None:
    live = Live(['--bag', str(dangerous_drive), '--loop'])
    try:
        visit = Visit(browser, live.address)
        page = visit.page
        page.wait_for_selector('body[data-risk=high]')
        assert page.inner_text('#level') == 'HIGH RISK'
        colour = page.evaluate(
            "() => getComputedStyle(document.getElementById('risk')).backgroundColor")
        assert colour == 'rgb(222, 60, 40)'
        size = page.evaluate(
            "() => parseFloat(getComputedStyle(document.getElementById('level')).fontSize)")
        assert size >= 34
        # The picture moves, and the window of the answer is there with its key frame.
        before = visit.picture_sum()
        page.wait_for_timeout(1500)
        assert visit.picture_sum() != before != 0
        assert page.locator('#window figure').count() == 5
        assert page.locator('#window figure.key').count() == 1
        visit.until("document.getElementById('explanation').textContent.length > 20")
        assert re.fullmatch(r'84 of 140', page.inner_text('#kept'))
        # A question, answered in its pieces.
        page.fill('#question', 'How high is the risk?')
        page.press('#question', 'Enter')
        page.wait_for_selector('#answers .answered[data-done]')
        assert page.inner_text('#answers .asked') == 'How high is the risk?'
        assert 'risk' in page.inner_text('#answers .answered').lower()
        # Fewer tokens from the next answer on.
        page.locator('#keep-ratio').fill('0.4')
        visit.until("document.getElementById('kept').textContent === '56 of 140'")
        page.wait_for_selector('body[data-risk=high]')
        visit.until("document.getElementById('explanation').textContent.length > 20")
        # With VTS_LIVE_PICTURE=docs/live.jpg this makes the picture of the docs.
        page.screenshot(path=os.environ.get('VTS_LIVE_PICTURE', str(tmp_path / 'live.jpg')),
                        type='jpeg', quality=88)
        assert visit.faults == []
        live.end()
        page.close()
    finally:
        live.process.kill()


@pytest.mark.timeout(1200)
def test_a_minute_at_ten_pictures_per_second_takes_no_memory(
        browser: Any, tmp_path: Path) -> None:
    drive = write_drive(tmp_path / 'bag', 640, 360)
    # Few answers are enough: what would take memory are the pictures.
    live = Live(['--bag', str(drive), '--loop', '--frames', '3', '--interval-sec', '1',
                 '--max-new-tokens', '8'])
    try:
        # The server keeps a minute whether anybody looks or not.
        time.sleep(FILL_SEC)
        visit = Visit(browser, live.address, width=640, height=400)
        visit.until("+document.getElementById('kept').textContent.split(' ')[0] > 0")
        visit.page.wait_for_timeout(1000 * WARM_UP_SEC)
        found = []
        for _ in range(4):
            found.append((visit.heap_megabytes(), renderer_megabytes(), live.megabytes))
            visit.page.wait_for_timeout(1000 * WATCH_SEC / 3)
        print('script, page and server in MB:', found)
        # 300 pictures of 30 kB each would be 9 MB; their bitmaps 275.
        heaps, pages, servers = ([sample[place] - found[0][place] for sample in found]
                                 for place in range(3))
        assert max(heaps) < 4
        assert max(pages) < 20
        assert max(servers) < 8
        assert visit.faults == []
        visit.page.close()
        live.end()
    finally:
        live.process.kill()


def test_a_video_is_played_to_its_end(browser: Any, tmp_path: Path) -> None:
    """The embedded model does not know these pictures, and says so; the minute stays."""
    live = Live(['--video', str(write_video(tmp_path / 'dash.mp4', range(0, 6000, 100)))])
    try:
        visit = Visit(browser, live.address)
        page = visit.page
        visit.until("document.getElementById('status').textContent === 'the recording is over'")
        visit.until("document.getElementById('kept').textContent.includes(' of ')")
        assert page.get_attribute('body', 'data-risk') == 'unknown'
        assert page.inner_text('#source') == 'dash.mp4'
        page.fill('#question', 'Is it safe to drive on?')
        page.click('#ask button')
        page.wait_for_selector('#answers .answered[data-done]')
        assert visit.faults == []
        page.close()
        live.end()
    finally:
        live.process.kill()
