# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The same windows through this pipeline, stock transformers, and vLLM with several ways to prune.

All take turns at every window, and each is the first as often, so ratios are those of one window
of one run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
import tempfile
import time
from typing import Any, NamedTuple, Protocol

import numpy as np

from vts_ros.errors import VlmError
from vts_ros.lab.bench.benchmark_drive import INTERVAL_SEC
from vts_ros.lab.bench.generation_probe import GenerationProbe
from vts_ros.lab.bench.measured_answers import measured_here
from vts_ros.lab.bench.served_video import video_checkpoint, VideoServedVlm
from vts_ros.lab.bench.stock_transformers import StockTransformers
from vts_ros.lab.bench.vllm_server import CPU_PRUNING, KEEP_LISTS, VllmServer
from vts_ros.lab.bench.workloads import Progress, TOLD_FRAMES
from vts_ros.lab.evaluation.answer_metrics import Score, score
from vts_ros.lab.scenes.clips import render
from vts_ros.lab.scenes.drive import APPROACH_SEC, make_drive
from vts_ros.lab.scenes.scene_truth import WindowTruth
from vts_ros.paths import checkpoint
from vts_ros.pipeline.frames import Frame
from vts_ros.pipeline.pipeline import EMBEDDED, Pipeline, PipelineConfig
from vts_ros.vlm.answers import Answer, parse
from vts_ros.vlm.language_model import LanguageModel

STOCK, STOCK_VIDEO = 'stock transformers, pictures', 'stock transformers, video'
PROCESS, PROCESS_CAUSAL = 'vts_ros, 60 %', 'vts_ros, causal and drafted, 40 %'
DENSE, DENSE_VIDEO = 'vLLM, pictures', 'vLLM, video'
EVS, VIDCOM2 = 'vLLM, EVS, 60 %', 'vLLM, VidCom2, 60 %'
PLUGIN, PLUGIN_CAUSAL = 'vLLM with keep lists, 60 %', 'vLLM with keep lists, causal, 40 %'
PEERS = (STOCK, STOCK_VIDEO, PROCESS, PROCESS_CAUSAL, DENSE, DENSE_VIDEO, EVS, VIDCOM2, PLUGIN,
         PLUGIN_CAUSAL)
#: Windows before those that count, of each part of the drive.
WARM_UP = 1
_TIMEOUT_SEC = 300.0
#: Frames from the begin of a hazard to where it is at its worst, and one more.
_APPROACH = round(APPROACH_SEC / INTERVAL_SEC) + 1
_OPTIONS = ('--max-model-len', '2048', '--limit-mm-per-prompt', '{"image": 16, "video": 1}',
            '--media-io-kwargs', f'{{"video": {{"fps": {1.0 / INTERVAL_SEC}}}}}')


class Taken(NamedTuple):
    """An answer, and when it, its first token and its risk were there, in ms."""

    answer: Answer
    total_ms: float
    ttft_ms: float
    risk_ms: float


class Peer(Protocol):
    """A way from a window to an answer."""

    def take(self, window: Sequence[Frame]) -> Taken:
        """Answer a window."""

    def forget(self) -> None:
        """Forget all windows."""


class PipelinePeer:
    """The pipeline, wherever its language model is."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def take(self, window: Sequence[Frame]) -> Taken:
        """Answer a window."""
        begin_sec = time.perf_counter()
        report = self._pipeline.describe(window)
        total_ms = 1e3 * (time.perf_counter() - begin_sec)
        return Taken(report.answer, total_ms, total_ms - report.latency_ms['decode'],
                     report.time_to_risk_ms or total_ms)

    def forget(self) -> None:
        """Forget all windows."""
        self._pipeline.clear()


class StockPeer:
    """Stock transformers, which say the risk when all is said."""

    def __init__(self, stock: StockTransformers) -> None:
        self._stock = stock

    def take(self, window: Sequence[Frame]) -> Taken:
        """Answer a window."""
        sample = self._stock.answer(window)
        return Taken(parse(self._stock.text), sample.total_ms, sample.ttft_ms,
                     sample.total_ms)

    def forget(self) -> None:
        """Keep nothing anyway."""


@dataclass(frozen=True)
class Shown:
    """A window, what is true of it, and whether others come before it in its part of a drive."""

    window: Sequence[Frame]
    truth: WindowTruth
    is_first: bool
    counts: bool


def windows(n: int, seed: int) -> list[Shown]:
    """Return windows of a drive in parts of equal length, each up to and into a hazard."""
    scene = make_drive(seed, interval_sec=INTERVAL_SEC)
    clip = render(scene)
    frames = [Frame('front', truth.stamp_ns, picture)
              for picture, truth in zip(clip.frames, clip.truths)]
    heads = [round(sec / INTERVAL_SEC) for sec, name in scene.families if name != 'free road']
    length = -(-n // len(heads))
    shown = []
    for head in heads:
        last = max(head + _APPROACH, TOLD_FRAMES + length)
        for place in range(length + WARM_UP):
            end = last - length - WARM_UP + 1 + place
            shown.append(Shown(frames[end - TOLD_FRAMES + 1:end + 1],
                               clip.window_truth(end, TOLD_FRAMES), place == 0,
                               place >= WARM_UP))
    return shown


def measure(python: Path | None, n: int, seed: int, device: str = 'cpu',
            progress: Progress = lambda *_: None) -> dict[str, Any]:
    """
    Have the same windows answered by all peers that start here.

    An interrupt (Ctrl-C) ends it with the windows that all have answered.

    Parameters
    ----------
    python
        Of an environment with vLLM; without, its rows say so.
    n
        Windows that count, at least: each hazard of the drive has as many.
    seed
        Of the drive.

    Returns
    -------
    ``{'n', 'peers': {name: figures}, 'missing': {name: reason}, 'ratios': {name: to STOCK and to
    DENSE}, 'seed', 'model', 'date', 'machine'}``.

    """
    missing: dict[str, str] = {
        STOCK_VIDEO: 'the embedded model makes one step of one frame: it has no videos'}
    with ExitStack() as opened:
        progress(0.0, 'loading')
        peers = _peers(python, device, missing, opened, progress)
        shown = windows(n, seed)
        taken: dict[str, list[Taken]] = {name: [] for name in peers}
        truths: list[WindowTruth] = []
        # What was measured until it is interrupted is a result, too.
        with suppress(KeyboardInterrupt):
            for index, window in enumerate(shown):
                progress(index / len(shown), f'window {index + 1} of {len(shown)}')
                round_of = _round(peers, window, index, missing)
                if window.counts:
                    truths.append(window.truth)
                    for name, result in round_of.items():
                        taken[name].append(result)
        there = {name: found for name, found in taken.items() if name not in missing}
        return {
            **measured_here('cpu' if device == 'auto' else device), 'model': EMBEDDED,
            'n': len(truths), 'seed': seed, 'frames': TOLD_FRAMES,
            'peers': {name: _figures(found, truths) for name, found in there.items()},
            'ratios': {name: {base: _ratios(found, there[base])
                              for base in (STOCK, DENSE) if base in there}
                       for name, found in there.items()},
            'missing': missing}


def _round(peers: dict[str, Peer], shown: Shown, index: int, missing: dict[str, str]
           ) -> dict[str, Taken]:
    """Have a window answered by all; who fails is missing from then on."""
    order, results = list(peers), {}
    turn = index % len(order)
    for name in order[turn:] + order[:turn]:
        if name in missing:
            continue
        try:
            if shown.is_first:
                peers[name].forget()
            results[name] = peers[name].take(shown.window)
        except VlmError as error:
            missing[name] = str(error)
    return results


def _peers(python: Path | None, device: str, missing: dict[str, str], opened: ExitStack,
           progress: Progress) -> dict[str, Peer]:
    """Return the peers that start; of the others tell why they do not."""
    config = PipelineConfig(device=device, dtype='float32', draft=False)
    pipeline = Pipeline.load(config)
    tape = GenerationProbe(pipeline.vlm.model)
    opened.callback(tape.close)
    causal = {'mode': 'causal', 'keep_ratio': 0.4}

    def peer(model: LanguageModel, **settings: Any) -> PipelinePeer:
        return PipelinePeer(Pipeline(
            pipeline.sparsifier, model, pipeline.prompts, replace(config, **settings)))

    peers: dict[str, Peer] = {
        STOCK: StockPeer(StockTransformers(pipeline.vlm, pipeline.prompts.description, tape,
                                           config.max_new_tokens)),
        PROCESS: peer(pipeline.vlm),
        PROCESS_CAUSAL: peer(pipeline.vlm, draft=True, **causal)}
    if python is None:
        missing.update(dict.fromkeys(
            (DENSE, DENSE_VIDEO, EVS, VIDCOM2, PLUGIN, PLUGIN_CAUSAL),
            'no python of an environment with vLLM was named'))
        return peers
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    video_checkpoint(Path(checkpoint(EMBEDDED)), folder)

    def server(plugin: str, *options: str) -> VllmServer:
        started = VllmServer(python, folder, plugins=[plugin], options=[*_OPTIONS, *options])
        opened.callback(started.close)
        return started

    pruned = ('--video-pruning-rate', '0.4', '--video-pruning-method')
    # All start at a time.
    plain = server(KEEP_LISTS, '--trust-request-mm-kwargs')
    pruning = {EVS: server(CPU_PRUNING, *pruned, 'evs'),
               VIDCOM2: server(CPU_PRUNING, *pruned, 'vidcom2')}

    def served(kind: type[Any], url: str) -> Any:
        model = kind(url, timeout_sec=_TIMEOUT_SEC)
        opened.callback(model.close)
        return model

    def add(started: VllmServer, made: dict[str, Any]) -> None:
        progress(0.0, f'vLLM starts: {", ".join(made)}')
        try:
            started.wait()
            for name, make in made.items():
                peers[name] = make(started.url)
        except VlmError as error:
            missing.update({name: str(error) for name in made if name not in peers})

    from vts_ros.vlm.served import ServedVlm
    from vts_ros.vlm.served_keep_lists import KeepListServedVlm

    def video(url: str) -> PipelinePeer:
        return peer(served(VideoServedVlm, url), keep_ratio=1.0)

    add(plain, {
        DENSE: lambda url: peer(served(ServedVlm, url), keep_ratio=1.0),
        DENSE_VIDEO: video,
        PLUGIN: lambda url: peer(served(KeepListServedVlm, url)),
        PLUGIN_CAUSAL: lambda url: peer(served(KeepListServedVlm, url), **causal)})
    for name, started in pruning.items():
        add(started, {name: video})
    return {name: peers[name] for name in PEERS if name in peers}


def _figures(taken: Sequence[Taken], truths: Sequence[WindowTruth]) -> dict[str, Any]:
    scores: list[Score] = [score(answer.answer, truth) for answer, truth in zip(taken, truths)]
    return {
        'answers_per_s': round(1e3 / float(np.mean([answer.total_ms for answer in taken])), 3),
        **{f'{name}_ms': round(float(np.median([
            getattr(answer, f'{name}_ms') for answer in taken])), 1)
           for name in ('total', 'ttft', 'risk')},
        'risk_right': sum(rating.risk for rating in scores),
        'object_right': sum(rating.object for rating in scores)}


def _ratios(taken: Sequence[Taken], base: Sequence[Taken]) -> dict[str, dict[str, float]]:
    """Return the ratios of the same windows: median and quartiles."""
    found = {'answers': [other.total_ms / own.total_ms for own, other in zip(taken, base)],
             'ttft': [own.ttft_ms / other.ttft_ms for own, other in zip(taken, base)],
             'risk': [own.risk_ms / other.risk_ms for own, other in zip(taken, base)]}
    return {name: {edge: round(float(np.percentile(values, q)), 2)
                   for edge, q in (('low', 25), ('median', 50), ('high', 75))}
            for name, values in found.items()}


def rows(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table in the docs."""
    n, ratios = result['n'], result['ratios']
    base = DENSE if DENSE in result['peers'] else STOCK
    yield (f'{result["model"]}, float32, windows of {result["frames"]} frames, n = {n}, seed '
           f'{result["seed"]}, {result["date"]}, {result["machine"]}. Ratios to "{base}" of the '
           'same window: median, and half of the windows.')
    yield ''
    yield ('| | answers | to the first token | to the risk | ms of an answer | risk right '
           '| object right |')
    yield '|---' * 7 + '|'
    for name in PEERS:
        if name in result['missing']:
            yield f'| {name} | does not run: {result["missing"][name]} | | | | | |'
            continue
        figures, ratio = result['peers'][name], ratios[name][base]
        spread = ' | '.join(
            f'x {spread["median"]:.2f} ({spread["low"]:.2f} to {spread["high"]:.2f})'
            for spread in (ratio['answers'], ratio['ttft'], ratio['risk']))
        yield (f'| {name} | {spread} | {figures["total_ms"]:.0f} '
               f'| {figures["risk_right"]} of {n} | {figures["object_right"]} of {n} |')
    yield ''
    own = {name: ratios[name][base] for name in (PROCESS, PROCESS_CAUSAL)}
    others = [ratios[name][base] for name in result['peers'] if name not in own]
    for what, unit, is_most in (('answers', 'answers per second', False),
                                ('risk', 'the time to the risk', True)):
        best = (min if is_most else max)(own, key=lambda name: own[name][what]['median'])
        limits = [ratio[what]['median'] for ratio in others]
        value = own[best][what]['median']
        is_met = value < min(limits) if is_most else value > max(limits)
        yield (f'- Goal: ahead of all others in {unit}; {best}: {"met" if is_met else "missed"}.')
