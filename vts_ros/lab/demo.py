# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The demonstration: a drive with hazards, the real node, the real middleware, and its answers.

The drive is replayed by one process to the node in another; this one listens to the answers over
ROS, as any other node would, and writes them down as ``vts annotate`` does.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass, field
import importlib.util
import json
import os
from pathlib import Path
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple, TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vts_ros.errors import BagError
from vts_ros.lab.evaluation.answer_metrics import intersection_over_union
from vts_ros.lab.scenes.drive import DEMO_HAZARDS, DEMO_SEED
from vts_ros.lab.scenes.scene_truth import Actor
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.report import FrameRef, SceneReport
from vts_ros.tools.annotate_summary import Summary
from vts_ros.tools.answer_files import AnnotateError, write_outputs
from vts_ros.tools.bag_frames import read_frames, until_damage
from vts_ros.tools.bags import Bag
from vts_ros.tools.camera_topics import node_inputs, NodeInputs
from vts_ros.tools.cli.terminal import answer_head, answer_row, results
from vts_ros.tools.pictures import seconds
from vts_ros.vlm.answers import RISK_LEVELS, RiskLevel

if TYPE_CHECKING:
    from vts_ros.nodes.report_listener import Listener

OUT = Path('out/demo')
NODE = 'vts_node'
OVERLAY_TOPIC = '/vts_overlay/image_annotated/compressed'
TRUTH_TOPIC = '/vts/truth'
DRIVE_INTERVAL_SEC = 0.2
#: Loading the models on a slow disk takes a while.
START_SEC = 120.0
#: How long the answer about the last pictures may take after the end of the replay.
LAST_ANSWER_SEC = 15.0
LAST_PICTURES_NS = 500_000_000
#: Nobody can answer to what was there for a moment only.
SHORTEST_HAZARD_NS = 400_000_000
#: A machine that is too slow to answer to every hazard gets a slower drive.
RATES = (1.0, 0.5)
STOP_SEC = 10.0

#: The answers of one replay by their newest frame.
Reports = dict[FrameRef, SceneReport]

console = Console()


class DemoError(Exception):
    """Why the demonstration does not work here, in one line."""


def main() -> None:
    """Run the demonstration; the exit code is 0 if answers arrived."""
    parser = argparse.ArgumentParser(prog='python -m vts_ros.lab.demo', description=main.__doc__)
    parser.add_argument('--picture', type=Path, help='start the overlay node as well, and save '
                        'one of its pictures here (.jpg)')
    picture = parser.parse_args().picture
    try:
        run(OUT, os.environ.get('DEMO_BAG') or None, picture)
    except (DemoError, BagError, AnnotateError) as error:
        print(f'demo: {error}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('demo: stopped', file=sys.stderr)
        sys.exit(130)


def run(out: Path, own_bag: str | None, picture: Path | None = None) -> Summary:
    """
    Show the node at work on a drive.

    Parameters
    ----------
    out
        Folder for the drive, the logs and the results.
    own_bag
        A recorded drive; by default one is rendered.
    picture
        Where to save a picture of the overlay node; without, that is not started.

    Raises
    ------
    DemoError
        If ROS is missing, a process fails, or no picture or no answer arrives.
    BagError, AnnotateError
        As from :func:`vts_ros.tools.answer_files.write_outputs`.

    """
    if importlib.util.find_spec('rclpy') is None:
        raise DemoError('rclpy (ROS 2) cannot be imported; run `make setup`, or source '
                        '/opt/ros/jazzy/setup.bash')
    from vts_ros.nodes.report_listener import listening

    out.mkdir(parents=True, exist_ok=True)
    bag = Path(own_bag) if own_bag else render_drive(out / 'drive')
    inputs = node_inputs(bag)
    topics = list(inputs.remaps.values())
    counters: Counter[str] = Counter()
    stamps = [frame.stamp_ns
              for frame in until_damage(read_frames(bag, topics, counters), counters)]
    if not stamps:
        raise DemoError(f'{bag} has no picture that can be read')
    hazards = find_hazards(read_truths(bag))
    console.print(f'{bag}: {len(stamps)} pictures, {1e-9 * (max(stamps) - min(stamps)):.0f} s, '
                  f'from {", ".join(topics)}', highlight=False, markup=False)
    _isolate(out)
    reports: Reports = {}

    def take(report: SceneReport) -> None:
        reports[report.frames[-1]] = report
        console.print(answer_row(report, min(stamps)))

    node_log, overlay_log, replay_log = (
        out / f'{name}.log' for name in ('node', 'overlay', 'replay'))
    drawn: dict[int, bytes] = {}
    with ExitStack() as stack:
        node = stack.enter_context(
            _process(node_log, 'vts_ros.nodes.vts_node', *node_arguments(inputs)))
        if picture:
            stack.enter_context(
                _process(overlay_log, 'vts_ros.nodes.overlay_node', *node_arguments(inputs)))
        listener = stack.enter_context(listening(NODE, take))
        if picture:
            listener.watch(OVERLAY_TOPIC, drawn.__setitem__)
        _wait_for_node(listener, topics, node, node_log, listeners=2 if picture else 1)
        for rate in RATES:
            reports.clear()
            console.print(f'\nreplay at {rate:g} times the speed', style='bold')
            console.print(answer_head())
            with _process(replay_log, 'vts_ros.tools.cli', 'replay', str(bag),
                          '--clock', '--rate', str(rate)) as player:
                _listen(listener, player, node, reports, max(stamps))
            _require_alive('node', node, node_log)
            # The player ends with an error, too, after it has played what is left of a bag.
            if not (counters['damaged'] or counters['truncated']):
                _require_alive('replay', player, replay_log)
            for hazard in hazards:
                hazard.answers = [report for report in reports.values()
                                  if hazard.covers(report.stamp)]
            if all(hazard.answers for hazard in hazards):
                break
            console.print('not every hazard has an answer: this machine is slow, once more')
    if not reports:
        raise DemoError(f'no answer arrived; {_last_line(node_log)}; {_last_line(replay_log)}')
    if picture:
        shown = [report for report in reports.values() if report.stamp in drawn]
        if not shown:
            raise DemoError(f'the overlay has drawn nothing; {_last_line(overlay_log)}')
        picture.write_bytes(drawn[_telling(shown, hazards).stamp])
        console.print(f'{picture}: one of {len(shown)} pictures of the overlay node',
                      highlight=False, markup=False)
    frames = until_damage(read_frames(bag, topics), Counter())
    summary = write_outputs(_with_frames(frames, reports.values()), out, source=bag,
                            counters=counters, info=_info(reports))
    if hazards:
        console.print(hazard_table(hazards, summary.start_ns))
    console.print(results(summary), highlight=False, markup=False)
    return summary


def _telling(reports: Sequence[SceneReport], hazards: Sequence[Hazard]) -> SceneReport:
    """Return the first right answer of the highest risk; without one, the first of that."""
    def worth(report: SceneReport) -> tuple[bool, int]:
        right = any(is_right(report, hazard.truths[report.stamp])
                    for hazard in hazards if hazard.covers(report.stamp))
        return right, RISK_LEVELS.index(report.answer.risk) % RISK_LEVELS.index('unknown')

    return max(reports, key=worth)


def _info(reports: Reports) -> dict[str, str]:
    last = next(reversed(reports.values()))
    return {'model': last.model, 'engine': last.engine,
            'run by': f'the ROS 2 node {NODE}, which heard the pictures over DDS'}


def node_arguments(inputs: NodeInputs) -> list[str]:
    """Return the arguments with which the node listens to the cameras of a bag."""
    arguments = ['--ros-args', '-p', 'use_sim_time:=true',
                 '-p', f'image_transport:={inputs.image_transport}',
                 '-p', f'cameras:={json.dumps(inputs.cameras)}']
    for remap in inputs.remaps.items():
        arguments += ['-r', ':='.join(remap)]
    return arguments


def render_drive(path: Path) -> Path:
    """Render a drive with several hazards, unless an earlier run has left it."""
    if (path / 'metadata.yaml').exists():
        return path
    from vts_ros.lab.scenes.drive import make_drive
    from vts_ros.lab.scenes.scene_bag import write_bag

    with console.status('rendering a drive'):
        shutil.rmtree(path, ignore_errors=True)
        write_bag(path, make_drive(DEMO_SEED, DEMO_HAZARDS, interval_sec=DRIVE_INTERVAL_SEC))
    return path


def _isolate(out: Path) -> None:
    """Keep the demonstration away from other ROS systems in the network and on this machine."""
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.randint(1, 100)))
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_LOG_DIR'] = str((out / 'log').resolve())
    os.environ.setdefault('PYTHONUNBUFFERED', '1')


@contextmanager
def _process(log: Path, module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module as a process of its own; at the end ask it to stop, and make sure."""
    with log.open('wb') as stream:
        process = subprocess.Popen(
            [sys.executable, '-m', module, *arguments], stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        for ask in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is not None:
                break
            process.send_signal(ask)
            try:
                process.wait(STOP_SEC)
            except subprocess.TimeoutExpired:
                continue


def _require_alive(name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Raise DemoError if a process has ended with an error."""
    if process.returncode not in (None, 0):
        raise DemoError(f'the {name} ended with code {process.returncode}; {_last_line(log)}')


def _last_line(log: Path) -> str:
    lines = log.read_text(errors='replace').strip().splitlines()
    return f'{log} ends with: {lines[-1]}' if lines else f'{log} is empty'


def _wait_for_node(listener: Listener, topics: Sequence[str],
                   node: subprocess.Popen[bytes], log: Path, listeners: int) -> None:
    """Wait until the node listens to every camera, which it does once its models are loaded."""
    deadline = time.monotonic() + START_SEC
    with console.status('starting the node'):
        while min(map(listener.count_subscribers, topics)) < listeners:
            if node.poll() is not None:
                raise DemoError(f'the node ended with code {node.returncode}; {_last_line(log)}')
            if time.monotonic() > deadline:
                raise DemoError(f'the node was not ready in {START_SEC:.0f} s; {_last_line(log)}')
            listener.listen(0.2)


def _listen(listener: Listener, player: subprocess.Popen[bytes], node: subprocess.Popen[bytes],
            reports: Reports, last_ns: int) -> None:
    """Listen until the replay has ended and the answer about its last pictures is there."""
    silent_since = time.monotonic()
    heard = len(reports)
    while node.poll() is None:
        listener.listen(0.1)
        if player.poll() is None or len(reports) > heard:
            silent_since, heard = time.monotonic(), len(reports)
        elif (max((ref.stamp for ref in reports), default=0) > last_ns - LAST_PICTURES_NS
              or time.monotonic() - silent_since > LAST_ANSWER_SEC):
            return


def _with_frames(frames: Iterable[Frame], reports: Iterable[SceneReport]
                 ) -> Iterator[tuple[list[Frame | None], SceneReport]]:
    """Yield the reports in the order of time, with the frames that the node saw."""
    todo = deque(sorted(reports, key=lambda report: report.stamp))
    wanted = {ref for report in todo for ref in report.frames}
    held: dict[FrameRef, Frame] = {}
    for frame in frames:
        ref = FrameRef(*frame.key)
        if ref in wanted:
            held[ref] = frame
        while todo and held.keys() >= set(todo[0].frames):
            report = todo.popleft()
            yield [held[ref] for ref in report.frames], report
            # Only what later answers share stays in memory: a drive may be long.
            needed = min(ref.stamp for ref in todo[0].frames) if todo else 0
            held = {ref: frame for ref, frame in held.items() if ref.stamp >= needed}
    for report in todo:
        found = [held.get(ref) for ref in report.frames]
        if found[-1] is not None:
            yield found, report


class Truth(NamedTuple):
    """What is really the risk in the window that ends with a picture."""

    stamp_ns: int
    risk: RiskLevel
    actor: Actor | None


def read_truths(bag: Path) -> list[Truth]:
    """Return the ground truth that a rendered drive carries; none for any other bag."""
    truths = []
    with Bag(bag) as opened:
        for connection, stamp_ns, data in until_damage(opened.messages([TRUTH_TOPIC]), Counter()):
            said = json.loads(opened.deserialize(data, connection.msgtype).data)
            actor = next((candidate for candidate in said['frame']['actors']
                          if candidate['is_risk']), None)
            truths.append(Truth(stamp_ns, said['window']['risk'],
                                Actor(**actor) if actor else None))
    return truths


@dataclass
class Hazard:
    """The moments of the drive in which one thing is a risk worth a warning, by stamp."""

    truths: dict[int, Truth]
    answers: list[SceneReport] = field(default_factory=list)

    @property
    def worst(self) -> Truth:
        """Return the first moment at which the risk is highest."""
        return max(self.truths.values(), key=lambda truth: RISK_LEVELS.index(truth.risk))

    def covers(self, stamp_ns: int) -> bool:
        """Return whether a picture of this time shows the hazard."""
        return stamp_ns in self.truths


def find_hazards(truths: Sequence[Truth]) -> list[Hazard]:
    """Return a hazard per risk object that comes to a conflict, in the order of time."""
    moments: dict[int, dict[int, Truth]] = defaultdict(dict)
    for truth in truths:
        # Something nearer may be the risk for a moment in between: it stays one hazard.
        if truth.actor and truth.risk in ('medium', 'high'):
            moments[truth.actor.id][truth.stamp_ns] = truth
    return [Hazard(found) for found in moments.values()
            if max(found) - min(found) >= SHORTEST_HAZARD_NS]


def is_right(report: SceneReport, truth: Truth) -> bool:
    """Return whether an answer has the label of the risk object, and a box that touches it."""
    actor, said = truth.actor, report.answer
    return actor is not None and said.label == actor.label and (
        said.box is None or intersection_over_union(said.box, actor.box) > 0.0)


def hazard_table(hazards: Sequence[Hazard], start_ns: int) -> Table:
    """Return what was there beside what was said, a row per hazard."""
    table = Table(title='What was there, and what was said', title_justify='left')
    for name in ('time', 'hazard', 'risk', 'answers', 'right object', 'in words'):
        table.add_column(name, ratio=1 if name == 'in words' else None)
    for hazard in hazards:
        answers = sorted(hazard.answers, key=lambda report: report.stamp)
        right = [report for report in answers if is_right(report, hazard.truths[report.stamp])]
        levels = Counter(report.answer.risk for report in answers)
        words = (right or answers)[-1:]
        actor = hazard.worst.actor
        table.add_row(
            f'{seconds(min(hazard.truths), start_ns)} to '
            f'{seconds(max(hazard.truths), start_ns)}',
            f'{actor.label}, {actor.motion}' if actor else '', hazard.worst.risk,
            ', '.join(f'{count} {level}' for level, count in levels.items()) or 'none',
            f'{len(right)} of {len(answers)}',
            Text(words[0].answer.explanation if words else ''))
    return table


if __name__ == '__main__':
    main()
