# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the guard of a model tells pictures apart: what it refuses and what it lets through."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vts_ros.errors import BagError, FrameError
from vts_ros.lab.evaluation.dataset_runner import Progress
from vts_ros.lab.evaluation.generated_page import day_and_machine, head, Run, write_text
from vts_ros.lab.scenes.clips import balanced_scenes, SPLITS
from vts_ros.lab.scenes.drive import DEMO_HAZARDS, DEMO_SEED, draw_drive, make_drive
from vts_ros.lab.scenes.rendered_windows import FRAMES, render_window, through_jpeg
from vts_ros.lab.scenes.renderer import Renderer
from vts_ros.lab.scenes.world import Scene
from vts_ros.pipeline.compressed_images import decode_image
from vts_ros.pipeline.frames import FrameBuffer
from vts_ros.pipeline.guard import Evidence, FittedGuard, Guard
from vts_ros.tools.bag_frames import read_frames, until_damage

PAGE = 'guard.md'
#: The drives of the check are drawn and compressed as ``vts render`` does it.
_SIZE, _JPEG_QUALITY = (960, 540), 92
#: Interval of the pictures of the demonstration, and every how many of them a window takes one.
_DEMO_INTERVAL_SEC, _DEMO_STEP = 0.2, 2
_DRIVES = SPLITS['test'][-5:]
_INTERVAL_SEC = 0.4
#: Pictures of a rendered drive on which changes are tried: every so many-th.
_CHANGED_STEP = 4
#: And so many of each real source.
_CHANGED_REAL = 12
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp')

Picture = NDArray[np.uint8]


def measure(guard: Guard, n: int, bags: Sequence[Path] = (), folders: Sequence[Path] = (),
            progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """
    Measure a guard on rendered windows and on real pictures.

    Parameters
    ----------
    n
        Rendered windows of the split ``test``, risk levels balanced.
    bags
        Recordings: a source each, of all windows that the node would form.
    folders
        Folders of pictures: each folder below that holds pictures is a source, and each picture a
        window of its own. The photographs that scikit-image brings are always one.

    Returns
    -------
    ``{'n', 'rendered', 'drives': {name}, 'real': {source}, 'changed': {'rendered': {change},
    'real': {change}}}``, each ``{'n', 'refused', 'nearest'}``: windows, how many of them are
    outside, and the distance of the one nearest to the wrong side (the farthest of rendered
    windows, the nearest of real ones); up to 1 is inside.

    Raises
    ------
    BagError
        If a recording cannot be read.

    """
    rendered = []
    for done, scene in enumerate(balanced_scenes('test', n)):
        rendered.append(_distance(guard, render_window(scene).frames))
        progress(0.5 * done / n, f'{done} of {n} rendered windows')
    progress(0.5, 'drives')
    demo = make_drive(DEMO_SEED, DEMO_HAZARDS, interval_sec=_DEMO_INTERVAL_SEC)
    filmed = list(_filmed(demo))
    drives = {'of the demonstration': _sliding(guard, filmed, _DEMO_STEP)}
    for seed in _DRIVES:
        drive = draw_drive(seed, _INTERVAL_SEC)
        name = f'{seed}, {drive.look.light}, {drive.look.weather}'
        drives[name] = _sliding(guard, list(_filmed(drive)), 1)
    real: dict[str, list[float]] = {}
    sources = [*((bag.name, _of_bag(bag)) for bag in bags),
               *((name, _alone(pictures)) for name, pictures in _of_folders(folders))]
    kept: list[Picture] = []
    for number, (name, windows) in enumerate(sources):
        progress(0.7 + 0.2 * number / len(sources), name)
        shown = list(windows)
        real[name] = list(_distances(guard, shown))
        kept += [window[-1] for window in shown[::max(1, len(shown) // _CHANGED_REAL)]]
    progress(0.9, 'changed pictures')
    return {
        'n': n, 'known': guard.known,
        'rendered': _summary(rendered, max),
        'drives': {name: _summary(distances, max) for name, distances in drives.items()},
        'real': {name: _summary(distances, min) for name, distances in real.items()},
        'changed': {
            'rendered': _changed(guard, filmed[::_CHANGED_STEP], max),
            'real': _changed(guard, kept, min)}}


def fit_guard(train: Iterable[Sequence[Picture]], held_out: Iterable[Sequence[Picture]],
              outside: float = 0.005) -> FittedGuard:
    """
    Fit a guard to the windows that a model is trained on.

    Parameters
    ----------
    held_out
        Windows of the same kind that set the limit.
    outside
        Share of them that is left outside.

    Raises
    ------
    GuardError
        If there are too few windows.

    """
    measures = FittedGuard(np.zeros(0), np.zeros((0, 0)), 1.0)
    inside, limiting = (
        np.stack([[measures.evidence(picture) for picture in window] for window in windows])
        for windows in (train, held_out))
    return FittedGuard.fit(inside, limiting, outside)


def _distance(guard: Guard, pictures: Iterable[Picture]) -> float:
    return guard.distance([guard.evidence(picture) for picture in pictures])


def _distances(guard: Guard, windows: Sequence[Sequence[Picture]]) -> Iterator[float]:
    """Yield the distance of each window; a picture that is in several is looked at once."""
    known: dict[int, Evidence] = {}
    for window in windows:
        known = {id(picture): known[id(picture)] if id(picture) in known
                 else guard.evidence(picture) for picture in window}
        yield guard.distance([known[id(picture)] for picture in window])


def _sliding(guard: Guard, pictures: Sequence[Picture], step: int) -> list[float]:
    """Return the distance of each window of a drive, of pictures so many apart."""
    evidence: list[Evidence] = [guard.evidence(picture) for picture in pictures]
    return [guard.distance(evidence[end - 1 - (FRAMES - 1) * step:end:step])
            for end in range((FRAMES - 1) * step + 1, len(evidence) + 1)]


def _filmed(scene: Scene) -> Iterator[Picture]:
    renderer = Renderer(scene, *_SIZE)
    for index in range(len(scene.times)):
        yield _through_jpeg(renderer.frame(index), _JPEG_QUALITY)


def _through_jpeg(rgb: Picture, quality: int) -> Picture:
    return np.ascontiguousarray(through_jpeg(rgb[..., ::-1], quality)[..., ::-1])


def _of_bag(bag: Path) -> Iterator[list[Picture]]:
    """Yield the pictures of each window of a recording, as the node would form them."""
    buffer, pictures = FrameBuffer(), dict[tuple[str, int], Picture]()
    for frame in until_damage(read_frames(bag), Counter()):
        _, window = buffer.advance(frame)
        if window is None:
            continue
        try:
            # Windows share frames: each is decoded once.
            pictures = {frame.key: pictures[frame.key] if frame.key in pictures else frame.rgb()
                        for frame in window}
        except FrameError:
            continue
        yield list(pictures.values())


def _of_folders(folders: Sequence[Path]) -> Iterator[tuple[str, list[Path]]]:
    """Yield the name and the pictures of each source."""
    found: dict[Path, list[Path]] = defaultdict(list)
    for folder in folders:
        files = sorted(path for path in folder.rglob('*') if path.suffix.lower() in _SUFFIXES)
        if not files:
            raise BagError(f'{folder} has no pictures ({", ".join(_SUFFIXES)})')
        for path in files:
            found[path.parent].append(path)
    for folder, files in found.items():
        yield folder.name, files
    if spec := importlib.util.find_spec('skimage'):
        data = Path(str(spec.origin)).parent / 'data'
        yield 'photographs of scikit-image', sorted(
            path for path in data.iterdir() if path.suffix.lower() in _SUFFIXES)


def _alone(files: Iterable[Path]) -> Iterator[list[Picture]]:
    """Yield each picture that can be decoded as a window."""
    for path in files:
        try:
            yield [decode_image(path.read_bytes())]
        except FrameError:
            continue


def _summary(distances: Sequence[float], worst: Callable[[Sequence[float]], float]
             ) -> dict[str, Any]:
    return {'n': len(distances), 'refused': sum(distance > 1.0 for distance in distances),
            'nearest': round(worst(distances), 3) if distances else None}


def _changed(guard: Guard, pictures: Sequence[Picture],
             worst: Callable[[Sequence[float]], float]) -> dict[str, Any]:
    return {name: _summary([_distance(guard, [change(picture)]) for picture in pictures], worst)
            for name, change in CHANGES.items()}


def _noisy(picture: Picture) -> Picture:
    noisy = picture + _noise(picture.shape)
    return np.clip(noisy, 0, 255, out=noisy).astype(np.uint8)


@lru_cache(maxsize=1)
def _noise(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the noise of all pictures of a size: to draw it takes longer than all else."""
    return np.random.default_rng(0).normal(0.0, 10.0, shape)


def _blurred(picture: Picture, share: float) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), picture.shape[1] * share), np.uint8)


def _cropped(picture: Picture, share: float) -> Picture:
    height, width = picture.shape[:2]
    dy, dx = round(0.5 * (1.0 - share) * height), round(0.5 * (1.0 - share) * width)
    return np.ascontiguousarray(picture[dy:height - dy, dx:width - dx])


def _resized(picture: Picture, width: int, height: int) -> Picture:
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _through_a_lens(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    camera = np.array([[0.7 * width, 0, 0.5 * width], [0, 0.7 * width, 0.5 * height], [0, 0, 1.0]])
    return np.asarray(cv2.undistort(picture, camera, np.array([-0.15, 0.02, 0, 0])), np.uint8)


def _off_a_screen(picture: Picture) -> Picture:
    """Return a picture as a camera takes it off a screen, slightly askew and out of focus."""
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    seen = corners * 0.94 + np.array(
        [[0.04, 0.03], [0.02, 0.04], [0.03, 0.02], [0.02, 0.03]], np.float32) * (width, height)
    view = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
    return _noisy(_blurred(np.asarray(cv2.warpPerspective(
        picture, view, (width, height), borderValue=(20, 20, 22)), np.uint8), 1 / 600))


#: What is done to pictures, rendered and real, to see what becomes of the judgement.
CHANGES: Mapping[str, Callable[[Picture], Picture]] = {
    'none': lambda picture: picture,
    'JPEG of quality 60': lambda picture: _through_jpeg(picture, 60),
    'JPEG of quality 30': lambda picture: _through_jpeg(picture, 30),
    'JPEG of quality 10': lambda picture: _through_jpeg(picture, 10),
    '1920x1080': lambda picture: _resized(picture, 1920, 1080),
    '640x480': lambda picture: _resized(picture, 640, 480),
    '224x128': lambda picture: _resized(picture, 224, 128),
    'noise of standard deviation 10': _noisy,
    'blurred by 1/224 of the width': lambda picture: _blurred(picture, 1 / 224),
    'blurred by 1/60 of the width': lambda picture: _blurred(picture, 1 / 60),
    'half the contrast': lambda picture: picture // 2 + 64,
    'a quarter as bright': lambda picture: picture // 4,
    'grey': lambda picture: np.repeat(
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    'cropped to 98 %': lambda picture: _cropped(picture, 0.98),
    'cropped to 80 %': lambda picture: _cropped(picture, 0.8),
    'through a lens': _through_a_lens,
    'off a screen': _off_a_screen,
}


def write_page(found: Mapping[str, Any], run: Run, folder: Path) -> Path:
    """Write the page about the guard; return it."""
    return write_text(folder / PAGE, _page(found, run))


def _page(found: Mapping[str, Any], run: Run) -> Iterator[str]:
    real = found['real']
    windows = sum(part['n'] for part in real.values())
    accepted = sum(part['n'] - part['refused'] for part in real.values())
    nearest = min((part['nearest'] for part in real.values() if part['n']), default=None)
    yield from head('What the guard lets through', run)
    yield f'- Known: {found["known"]}. {day_and_machine(run)}'
    yield ('- A window is refused if its distance is above 1. `nearest` is the distance of the '
           'window that comes nearest\n  to the wrong side.')
    yield ('- Nothing of the guard was fitted to any picture below, so each of the sources is '
           'held out.\n')
    yield '## Real pictures\n'
    yield (f'{len(real)} sources, {windows} windows: {accepted} accepted'
           + (f'; the nearest has the distance {nearest}.\n' if nearest is not None else '.\n'))
    yield from _table(real, 'source', 'accepted')
    yield '\n## Rendered pictures\n'
    yield from _table({f'{found["n"]} windows of the split `test`': found['rendered'],
                       **{f'drive {name}': part for name, part in found['drives'].items()}},
                      'windows', 'refused')
    yield '\n## The same pictures, changed\n'
    yield ('Of the drive of the demonstration every fourth picture, of the real sources up to '
           'twelve each, as windows of one.\n')
    yield '| change | rendered | refused | nearest | real | accepted | nearest |'
    yield '|---|---|---|---|---|---|---|'
    for name, part in found['changed']['rendered'].items():
        other = found['changed']['real'][name]
        yield (f'| {name} | {part["n"]} | {part["refused"]} | {part["nearest"]} | {other["n"]} | '
               f'{other["n"] - other["refused"]} | {other["nearest"]} |')


def _table(parts: Mapping[str, Mapping[str, Any]], what: str, wrong: str) -> Iterator[str]:
    yield f'| {what} | windows | {wrong} | nearest |\n|---|---|---|---|'
    for name, part in parts.items():
        count = part['refused'] if wrong == 'refused' else part['n'] - part['refused']
        yield f'| {name} | {part["n"]} | {count} | {part["nearest"]} |'
