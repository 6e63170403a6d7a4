# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Teach the proposal network what a language model itself uses, on recordings or rendered windows.

The language model answers each window with all of its tokens. Then half of the picture is hidden
at random, over and over, and the log-likelihood of that answer is taken each time; hiding is
dropping, as in use. A linear fit over all of these gives what each place adds to the likelihood
while about half of the others is there (the Banzhaf value, estimated from random halves: Wang and
Jia, 2023, arXiv 2205.15466). Hiding one place at a time would find nothing: what is hidden in one
frame still shows in the next. This needs no truth. Rendered windows have one, so that the network
can be taught the truth of the same windows instead, to compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
import json
from pathlib import Path
import re
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
import torch
from torch import Tensor
from torch.nn import functional

from vts_ros.errors import FrameError
from vts_ros.lab.evaluation.proposal_recall import find_rate, RecallTarget, REPORT
from vts_ros.lab.scenes.cells import overlaps, true_saliency
from vts_ros.lab.scenes.clips import balanced_scenes
from vts_ros.lab.scenes.rendered_windows import render_window
from vts_ros.lab.training.loop import fit, Losses, Schedule
from vts_ros.lab.training.onnx_export import write_frame, write_window_step
from vts_ros.paths import checkpoint, model_path
from vts_ros.pipeline.frames import Frame
from vts_ros.sparsify import Sparsifier
from vts_ros.sparsify.proposal_network import (
    load_net,
    MAP_SIZE,
    ProposalNet,
    resample,
    SALIENCY_PARTS,
)
from vts_ros.sparsify.token_grid import area_weights
from vts_ros.tools.bag_frames import read_windows
from vts_ros.vlm import Prepared, Vlm
from vts_ros.vlm.answers import AFTER_RISK, parse
from vts_ros.vlm.boxes import Box, PictureSize
from vts_ros.vlm.prompts import Prompt, Prompts

#: Places per frame that are hidden or shown as one, at most.
_PLACES = 40
#: Strength of the ridge that keeps the fit calm, in passes.
_RIDGE = 4.0
#: Answers count up to the end of the risk level; what follows is a choice of words.
_FACTS = re.compile(r'.*?"risk"\s*:\s*"[^"]*"', re.DOTALL)
#: The last windows are held out, and those before them left out: they share frames.
_HOLDOUT_SHARE, _GAP_WINDOWS = 0.2, 5
#: A cell of the newest frame belongs to the risk object if its box covers so much of the cell.
_OBJECT_SHARE = 0.2
#: Number of the first rendered window in the split ``train``: so far behind those of ``vts train
#: windows`` that neither the shipped network nor the language model has learned from it.
_FIRST_RENDERED = 10_000_000
_SETTINGS = 'settings.json'
BUDGETS = (0.8, 0.6, 0.4, 0.2, 0.1)
#: What the network learns: what the language model used, or the truth about rendered windows.
Targets = Literal['use', 'truth']
#: Number of a rendered window, or recording and number of a window in it.
Place = int | tuple[Path, int]


class Taken(NamedTuple):
    """A window to learn from, where its example goes, and the truth about it if known."""

    path: Path
    window: Sequence[Frame]
    truth: NDArray[np.float32] | None = None


class DistillationError(ValueError):
    """Nothing can be learned like this; the message says why in one line."""


@dataclass(frozen=True)
class Example:
    """
    What a language model used of one window.

    Attributes
    ----------
    frames
        uint8 [T, 192, 336, 3], as the proposal network works on them.
    use
        float32 [T, rows, columns], change of the log-likelihood of the answer; may be negative.
    box
        Risk object in the newest frame, as the model answered it.
    truth
        float32 [T, 12, 21], how much each cell really matters; None of a recording.

    """

    frames: NDArray[np.uint8]
    use: NDArray[np.float32]
    box: Box | None
    truth: NDArray[np.float32] | None = None

    def save(self, path: Path) -> None:
        """Write the example; it is there whole, or not at all."""
        partial = path.with_suffix('.part')
        with partial.open('wb') as file:
            np.savez_compressed(file, frames=self.frames, use=self.use,
                                box=np.array(self.box or (), np.float64),
                                truth=np.array([] if self.truth is None else self.truth))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Example:
        """Read an example."""
        with np.load(path) as data:
            box = tuple(data['box'].tolist())
            # Examples of earlier versions have no truth.
            truth = data['truth'] if 'truth' in data else np.array([])
            return cls(data['frames'], data['use'], box if len(box) == 4 else None,
                       truth if truth.size else None)


def distill(bags: Sequence[Path], model: str, out: Path, work: Path, windows: int = 400,
            passes: int = 96, steps: int = 600, batch: int = 16, seed: int = 0,
            device: str = 'auto', console: Console | None = None, targets: Targets = 'use',
            anew: bool = False) -> dict[str, Any]:
    """
    Train the proposal network with a language model as the teacher.

    Begins with the shipped network and keeps its embedding, which says what looks alike; only
    what matters is learned anew.

    Parameters
    ----------
    bags
        Recordings; windows are taken from each at even distances. None at all for rendered
        windows, which neither the shipped models nor any test have seen.
    model
        Checkpoint of the language model.
    out
        Folder for ``frame.onnx``, ``window.onnx`` and ``holdout.json``.
    work
        Folder for what the model used and for checkpoints; a run with the same folder and
        settings goes on where the last one stopped.
    windows
        From all recordings together, at most.
    passes
        Random halves per window; more make a calmer target and take longer.
    steps, batch
        Optimiser steps and frames in each.
    seed
        Of the halves, of the order of the data and of new layers.
    targets
        ``truth`` learns the truth about the rendered windows instead, with all else the same.
    anew
        Begin with a saliency of random weights; the shipped one has learned the truth about
        rendered scenes.

    Returns
    -------
    ``{'n', 'train', 'settings', 'shipped': rates, 'trained': rates}``, rates as of ``find_rate``
    on the windows held out.

    Raises
    ------
    BagError, VlmError
        If a recording or the model cannot be used.
    DistillationError
        If there are too few windows, the folder is of another run, or the truth about a
        recording is asked for.

    """
    if targets == 'truth' and bags:
        raise DistillationError('nobody knows the truth about a recording: targets must be use')
    console = console or Console()
    folder = work / 'use'
    folder.mkdir(parents=True, exist_ok=True)
    settings = {'bags': [str(bag.resolve()) for bag in bags], 'model': model,
                'windows': windows, 'passes': passes, 'seed': seed}
    _claim(folder, settings)
    _watch(bags, model, folder, windows, passes, seed, device, console)
    # Windows of a recording share frames with the next ones, rendered ones do not.
    train, held_out = _split(folder, _GAP_WINDOWS if bags else 0)
    if not train or not held_out:
        raise DistillationError(f'{len(train) + len(held_out)} windows are too few to learn from '
                                'and to hold some out')
    torch.manual_seed(seed)
    _train(train, out, work, steps, batch, seed, targets, anew)
    shipped = Sparsifier.load(model_path('proposal/frame.onnx').parent)
    report: dict[str, Any] = {
        'n': len(held_out), 'train': len(train),
        'settings': {**settings, 'bags': [bag.name for bag in bags], 'model': Path(model).name,
                     'steps': steps, 'batch': batch, 'targets': targets, 'anew': anew}}
    for name, sparsifier in (('shipped', shipped), ('trained', Sparsifier.load(out))):
        wanted = (_wanted(example, sparsifier) for example in held_out)
        report[name] = find_rate(sparsifier, wanted,
                                 held_out[0].use.shape[1:], BUDGETS)
    (out / REPORT).write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    return report


# --- what the language model uses -----------------------------------------------------------

def use_of_tokens(vlm: Vlm, prepared: Prepared, answer: str, grid: tuple[int, int],
                  frames: int, passes: int, rng: np.random.Generator,
                  batch: int = 8) -> NDArray[np.float32]:
    """
    Return what each place adds to the log-likelihood of an answer, [frames, rows, columns].

    Parameters
    ----------
    prepared
        The prompt with the features of all frames.
    answer
        What the model wrote.
    passes
        Random halves of the picture, rounded up to pairs of a half and its complement.

    """
    places = _places(grid)
    count = int(places.max()) + 1
    place = np.concatenate([index * count + places.ravel() for index in range(frames)])
    shown = np.zeros((2 * -(-passes // 2), frames * count), bool)
    for row in range(0, len(shown), 2):
        half = rng.permutation(frames * count)[:frames * count // 2]
        shown[row, half] = True
        shown[row + 1] = ~shown[row]
    keeps = [np.flatnonzero(row[place]).astype(np.int32) for row in shown]
    values = np.concatenate([
        log_likelihoods(vlm, prepared, keeps[start:start + batch], answer)
        for start in range(0, len(keeps), batch)])
    sign = np.where(shown, 0.5, -0.5)
    # Ridge regression; the mean is not shrunk, so it is taken off first.
    inner = sign.T @ sign + 0.25 * _RIDGE * np.eye(sign.shape[1])
    weights = np.linalg.solve(inner, sign.T @ (values - values.mean()))
    return weights[place].reshape(frames, *grid).astype(np.float32)


def _places(grid: tuple[int, int]) -> NDArray[np.int64]:
    """Return which tokens of a frame are hidden together: squares, and not too many of them."""
    rows, columns = grid
    side = 1
    while -(-rows // side) * -(-columns // side) > _PLACES:
        side += 1
    row, column = np.arange(rows) // side, np.arange(columns) // side
    return row[:, None] * (int(column.max()) + 1) + column


@torch.inference_mode()
def log_likelihoods(vlm: Vlm, prepared: Prepared, keeps: Sequence[NDArray[np.int32]],
                    answer: str) -> NDArray[np.float64]:
    """Return the log-likelihood of an answer for each list of visual tokens that are kept."""
    inputs = vlm.batch([prepared] * len(keeps), keeps, [answer] * len(keeps))
    labels = inputs.pop('labels')
    first = int((labels != -100).int().argmax(dim=1).min())
    # Logits of the answer alone: those of the prompt would not fit in memory.
    wanted = labels[:, first:]
    logits = vlm.model(**inputs, use_cache=False,
                       logits_to_keep=labels.shape[1] - first + 1).logits[:, :-1]
    losses = functional.cross_entropy(logits.float().transpose(1, 2), wanted, reduction='none')
    # The last label ends the answer, which is no part of a text that was cut after the risk.
    ends = (wanted != -100).int().cumsum(dim=1).argmax(dim=1, keepdim=True)
    losses.scatter_(1, ends, 0.0)
    return (-losses.sum(dim=1)).double().cpu().numpy()


def _watch(bags: Sequence[Path], model: str, folder: Path, windows: int, passes: int, seed: int,
           device: str, console: Console) -> None:
    """Write an example for each window that has none yet."""
    plan = _plan(bags, windows) if bags else list(range(windows))
    paths = {place: folder / f'{number:05d}.npz' for number, place in enumerate(plan)}
    missing = {place: path for place, path in paths.items() if not path.exists()}
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(),
                  TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task('what the model uses', total=len(plan),
                            completed=len(plan) - len(missing))
        if not missing:
            return
        vlm = Vlm.load(checkpoint(model), device=device)
        prompt = Prompts.load(convention=vlm.convention).description
        found = _recorded(bags, missing) if bags else _rendered(missing)
        for path, window, truth in found:
            rng = np.random.default_rng([seed, int(path.stem)])
            example = _example(vlm, prompt, window, passes, rng)
            if example is not None:
                replace(example, truth=truth).save(path)
            bar.advance(task)


def _recorded(bags: Sequence[Path], wanted: Mapping[Place, Path]) -> Iterator[Taken]:
    """Yield the windows of recordings that are wanted."""
    for bag in bags:
        for end, window in enumerate(read_windows(bag)):
            if (bag, end) in wanted:
                yield Taken(wanted[bag, end], window)


def _rendered(wanted: Mapping[Place, Path]) -> Iterator[Taken]:
    """Yield the rendered windows of these numbers, with the truth."""
    for number, path in wanted.items():
        assert isinstance(number, int)
        clip = render_window(next(balanced_scenes('train', 1, _FIRST_RENDERED + number)))
        window = [Frame('front', truth.stamp_ns, picture)
                  for picture, truth in zip(clip.frames, clip.truths)]
        yield Taken(path, window, np.stack(
            [true_saliency(truth, *MAP_SIZE) for truth in clip.truths]))


def _example(vlm: Vlm, prompt: Prompt, window: Sequence[Frame], passes: int,
             rng: np.random.Generator) -> Example | None:
    """Return what the model uses of a window; None if a picture is broken or of another size."""
    try:
        pictures = [frame.rgb() for frame in window]
    except FrameError:
        return None
    if len({picture.shape for picture in pictures}) > 1:
        return None
    features = [vlm.encode(picture) for picture in pictures]
    grid = features[0].grid
    prepared = vlm.prepare(features, prompt.captions(window), prompt)
    written = vlm.generate(prepared, stop_strings=[AFTER_RISK], tokenizer=vlm.tokenizer).text
    facts = _FACTS.match(written)
    answer = facts[0] if facts else written
    use = use_of_tokens(vlm, prepared, answer, grid, len(window), passes, rng)
    small = resample(torch.from_numpy(np.stack(pictures))).round().to(torch.uint8).numpy()
    height, width = pictures[-1].shape[:2]
    picture = PictureSize(vlm.seen_size(features[-1]), (width, height))
    return Example(small, use, parse(answer, prompt.box, picture).box)


def _plan(bags: Sequence[Path], windows: int) -> list[Place]:
    """Return recording and number of the windows to take, at even distances over all of them."""
    found: list[Place] = [(bag, end) for bag in bags
                          for end in range(sum(1 for _ in read_windows(bag)))]
    if len(found) <= windows:
        return found
    return [found[round(index)] for index in np.linspace(0, len(found) - 1, windows)]


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Note the settings of a run, or see that they are those of the run that is to go on."""
    path = folder / _SETTINGS
    if path.exists():
        before = json.loads(path.read_text(encoding='utf-8'))
        changed = [name for name, value in settings.items() if before.get(name) != value]
        if changed:
            raise DistillationError(f'{folder} is of a run with other {", ".join(changed)}: '
                                    'remove it or take another folder')
    path.write_text(json.dumps(settings), encoding='utf-8')


def _split(folder: Path, gap: int) -> tuple[list[Example], list[Example]]:
    """Return examples to learn from, and the last ones after a gap, which are held out."""
    examples = [Example.load(path) for path in sorted(folder.glob('*.npz'))]
    if len({example.use.shape[1:] for example in examples}) > 1:
        raise DistillationError('the recordings have pictures of different shapes, so different '
                                'grids of tokens: take one camera at a time')
    end = len(examples) - round(_HOLDOUT_SHARE * len(examples))
    return examples[:end - min(gap, end // 4)], examples[end:]


# --- the network ---------------------------------------------------------------------------

def saliency_targets(examples: Sequence[Example]) -> list[NDArray[np.float32]]:
    """
    Return targets [T, 12, 21], 0 to 1, from what was used.

    1 is what the place that is used most adds in the middle one of the windows: so a window of
    which nothing matters does not get a target of its noise.
    """
    largest = float(np.median([max(float(example.use.max()), 0.0) for example in examples]))
    rows, columns = (area_weights(cells, tokens) for cells, tokens
                     in zip(MAP_SIZE, examples[0].use.shape[1:]))
    shares = (rows @ example.use @ columns.T / max(largest, 1e-6) for example in examples)
    return [np.clip(share, 0.0, 1.0).astype(np.float32) for share in shares]


def _train(examples: Sequence[Example], out: Path, work: Path, steps: int, batch: int,
           seed: int, targets: Targets = 'use', anew: bool = False) -> None:
    path = model_path('proposal/frame.onnx')
    net, teacher = load_net(path), load_net(path)
    if anew:
        _forget_saliency(net)
    frames = torch.from_numpy(np.concatenate([example.frames for example in examples]))
    wanted = torch.from_numpy(np.concatenate(
        saliency_targets(examples) if targets == 'use' else
        [example.truth for example in examples if example.truth is not None]))

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([seed, step])
        picks = torch.from_numpy(rng.integers(len(frames), size=batch))
        return _losses(net, teacher, frames[picks], wanted[picks])

    fit([net], losses, Schedule(steps, learning_rate=3e-4, warmup=min(50, steps // 4)),
        work / f'{targets}{"_anew" if anew else ""}.pt', 'proposal network')
    write_frame(net, out / 'frame.onnx')
    write_window_step(out)


def _forget_saliency(net: ProposalNet) -> None:
    """Give the layers of the saliency the weights of a network that has not learned."""
    fresh = ProposalNet().eval()
    for name in SALIENCY_PARTS:
        net.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())


def _losses(net: ProposalNet, teacher: ProposalNet, frames: Tensor, wanted: Tensor) -> Losses:
    raw = net.raw(frames)
    with torch.no_grad():
        looks = teacher.raw(frames).embedding
    # Cells that matter are few, as in training on rendered frames.
    saliency = functional.binary_cross_entropy_with_logits(
        raw.saliency_logits, wanted, weight=1.0 + 4.0 * wanted)
    return {'saliency': saliency,
            'look': 1.0 - functional.cosine_similarity(raw.embedding, looks, dim=1).mean()}


def _wanted(example: Example, sparsifier: Sparsifier) -> RecallTarget:
    """Return what a window held out ought to keep, by what the language model used and said."""
    frames, *grid = example.use.shape
    use = np.maximum(example.use, 0.0).reshape(frames, -1)
    found = np.zeros((frames, *grid), bool)
    if example.box is not None:
        found[-1] = overlaps(example.box, *grid)[0] >= _OBJECT_SHARE
    return RecallTarget(tuple(sparsifier.propose(picture) for picture in example.frames),
                  use.sum(axis=1), found.reshape(frames, -1), use)
