# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""``docs/performance.md``: written by the commands that measure, from what they measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from vts_ros.lab.bench import speed_report as report
from vts_ros.lab.bench.busy_machine import rows as busy_rows
from vts_ros.lab.bench.graph_benchmark import rows as graph_rows
from vts_ros.lab.bench.model_shapes import SHAPES
from vts_ros.lab.bench.peers import rows as peer_rows
from vts_ros.lab.bench.speed_report import name_of

#: Share of the computation of `always`.
_GATE_GOAL = 0.25
_HEAD = """\
# Performance

Written by `vts bench`, `vts bench growth`, `vts bench deadline`, `vts bench busy`, `vts bench
peers` and `vts eval drives`, each with `--report docs`; the figures are in
[performance.json](performance.json). Change the commands, not this page.

## What is compared

The windows come from a rendered drive with a picture every 0.4 s; each window moves on by one
picture. Every window is answered by each of these cases:

| case | what it does |
|---|---|
| `dense` | stock transformers: image processor, chat template, `generate`; all tokens |
| `dense_video` | the same with the frames as a video: two frames share the tokens of one |
| `window_0.6`, `window_0.4` | the pipeline keeps 60 or 40 % of the tokens, as in the paper |
| `cached_0.4` | the same, and the features of a frame are computed once |
| `causal_0.4` | the same, and the kept tokens of a frame are prefilled once |
| `drafted_0.4` | the same, and the last 32 answers are drafts of the next |
| `window_video_0.6` and others | as without `video`, but with `vlm.frames_as: video` |
| `all_0.4` | `drafted_0.4` with `vlm.instructions: first`: what is asked is read once |
| `all_int8_0.4` | the same, and with `vlm.quantization: int8`; stock stays in float32 |

The `video` cases are measured with Qwen2-VL and Qwen2.5-VL. All cases scale pictures alike. On a
processor the pipeline loads weights in a layout of its own, stock transformers in that of PyTorch
([models.md](models.md#packed-weights)).
**Stock** is the faster of `dense` and `dense_video`. Where frames as pictures and as a video are
compared, these two are *stock images* and *stock video*, and `window_0.4` and `window_video_0.4`
are *pruned images* and *pruned video*.

- Stock and `window` cases keep nothing from earlier windows. A causal answer is about the pictures
  that were prefilled: as many as the window has, or up to twice as many.
- The cases take turns at every window of a run. A ratio compares a window with the same window,
  stock; the tables have the median and, in brackets, the smallest and largest ratio, which also
  show what else the machine did. Windows of the warm-up are not counted.

The columns:

- **first token**: time from the arrival of the newest picture to the first token of the answer,
  with decoding and encoding of that picture;
- **risk said**: time to the level of the risk and its share of the whole answer, if the answer is
  in the form;
- **per pass**: tokens of the answer per pass of the language model;
- **KV**: keys and values at the end of the answer;
- **peak**: most memory of tensors above the weights, over two windows: on a CPU from PyTorch's
  profiler, on a GPU from `torch.cuda.max_memory_allocated`. Features are kept as the node keeps
  them, those of a window and of the set after it; not at all in `window` cases.

On a GPU the stages before `prefill` do not wait for the device: their work may end in a later
stage.

Models with random weights have real shapes, and so the real cost, but nothing to say. In every
case they are forced, token by token, to write the answers of the embedded model to the same
pictures, with its tokenizer, cut at the given number of tokens. So all cases write the same text,
and drafts are accepted as often as for a real model. Otherwise random weights repeat a single
token, and every draft would be right.
"""

_ELSEWHERE = """\
## On other pages

- What weights in eight bits cost in quality, and what packed weights give:
  [models.md](models.md#how-it-is-loaded).
- Quality, which does not depend on the machine: [quality.md](quality.md).
"""


def page(data: dict[str, Any]) -> str:
    """Return the page about all that was measured so far."""
    parts = [_HEAD]
    results = list(data.get(report.WORKLOADS, {}).values())
    for result in results:
        parts.append('\n'.join(_workload(result)))
    if results:
        parts.append(f'![Speed of all cases]({report.SPEED_PLOT})\n\n'
                     f'![Where the time goes]({report.STAGES_PLOT})\n')
        if compared := '\n'.join(_frames_as(results)):
            parts.append(compared)
        parts.append('\n'.join(_goals(results)))
    if data.get(report.GRAPHS):
        parts.append('\n'.join(['## CUDA graphs', '', *graph_rows(data[report.GRAPHS]),
                                '']))
    if data.get(report.GROWTH):
        parts.append('\n'.join(_growth(data[report.GROWTH])))
    if data.get(report.DEADLINE):
        parts.append('\n'.join(_deadline(data[report.DEADLINE])))
    if data.get(report.BUSY):
        parts.append('\n'.join(['## Beside other programs', '', *busy_rows(data[report.BUSY])]))
    if data.get(report.PEERS):
        parts.append('\n'.join(_peers(data[report.PEERS])))
    if data.get(report.GATE):
        parts.append('\n'.join(_gate(data[report.GATE])))
    parts.append('\n'.join(_not_measured(results)))
    parts.append(_ELSEWHERE)
    return '\n'.join(parts)


def _risk(figures: dict[str, Any]) -> str:
    """Return when the level of the risk is said, and after which share of the whole answer."""
    risk_ms = figures.get('risk_ms')
    if risk_ms is None:
        return ''
    return f'{risk_ms:.0f} ms ({risk_ms / figures["total_ms"]["p50"]:.2f})'


def _workload(result: dict[str, Any]) -> Iterator[str]:
    work, cases = result['workload'], result['cases']
    about = SHAPES[work['model']].about if work['model'] in SHAPES else 'trained'
    cut = f', answers cut at {work["answer_tokens"]} tokens' if work['model'] in SHAPES else ''
    width, height = work['size']
    yield f'## {name_of(result)}'
    yield ''
    yield (f'{work["model"]} ({about}{cut}), pictures of {width}x{height} px, n = {work["n"]} '
           f'windows, seed {work["seed"]}, {result["date"]}, {result["machine"]}. '
           f'Stock is `{result.get("stock", "dense")}`'
           + (': the frames as a video were not measured.' if work['model'] in SHAPES
              and 'dense_video' not in cases else '.'))
    yield ''
    yield ('| case | windows/s | to stock | first token | to stock | risk said | per pass | KV | '
           'peak | to stock |')
    yield '|---|---|---|---|---|---|---|---|---|---|'
    for name, figures in cases.items():
        compared = result['ratio_to_stock'].get(name)
        peak = f'{compared["peak_bytes_above_weights"]:.2f}' if compared else '1'
        yield (f'| `{name}` | {figures["windows_per_s"]:.3g} | '
               f'{_spread(compared, "windows_per_s")} | '
               f'{figures["ttft_ms"]:.0f} ms | {_spread(compared, "ttft_ms")} | '
               f'{_risk(figures)} | '
               f'{figures["tokens_per_pass"]:.2f} | {_mib(figures["kv_bytes"])} | '
               f'{_mib(figures["peak_bytes_above_weights"])} | {peak} |')
    roofline = result['roofline']
    yield (f'| prompt and answer alone | {roofline["windows_per_s"]:.3g} | '
           f'{_spread(roofline["ratio_to_stock"], "windows_per_s")} | '
           f'{roofline["ttft_ms"]:.0f} ms | {_spread(roofline["ratio_to_stock"], "ttft_ms")} | | '
           f'{roofline["tokens_per_pass"]:.2f} | {_mib(roofline["kv_bytes"])} | | |')
    yield ''
    yield ('The last line is the roofline: no picture at all, no draft. Answers of '
           f'{cases["dense"]["answer_tokens"]:.0f} tokens (median).')
    yield ''
    stages = [name for name in report.STAGES
              if any(name in figures['stages_ms'] for figures in cases.values())]
    stages += sorted({name for figures in cases.values()
                      for name in figures['stages_ms']} - set(stages))
    yield f'| p50 / p95 in ms | {" | ".join(stages)} | all |'
    yield '|---' * (len(stages) + 2) + '|'
    for name, figures in cases.items():
        cells = [_percentiles(figures['stages_ms'].get(stage)) for stage in stages]
        yield f'| `{name}` | {" | ".join(cells)} | {_percentiles(figures["total_ms"])} |'
    yield ''


def _frames_as(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what frames as pictures and as a video cost, before pruning and after it."""
    compared = [result for result in results if 'dense_video' in result['cases']]
    if not compared:
        return
    yield '## Frames as pictures or as a video'
    yield ''
    yield ('The four ways that keep nothing of earlier windows, from the tables above. All ratios '
           'are to the better of both stock ways.')
    yield ''
    yield '| workload | | windows/s | to stock | first token | to stock | KV | to stock |'
    yield '|---|---|---|---|---|---|---|---|'
    for result in compared:
        for name, case in report.FRAMES_AS.items():
            figures, ratios = result['cases'][case], result['ratio_to_stock'].get(case)
            yield (f'| {name_of(result)} | {name} | {figures["windows_per_s"]:.3g} | '
                   f'{_spread(ratios, "windows_per_s")} | {figures["ttft_ms"]:.0f} ms | '
                   f'{_spread(ratios, "ttft_ms")} | {_mib(figures["kv_bytes"])} | '
                   f'{_spread(ratios, "kv_bytes")} |')
    yield ''


def _goals(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield '## Goals'
    yield ''
    yield ('Ratios to stock, medians. Of frames as pictures and as a video the better one counts. '
           'The limits at 60 % are the figures of the paper.')
    yield ''
    yield '| workload | case | goal | reached | |'
    yield '|---|---|---|---|---|'
    missed = []
    for result in results:
        is_shape = result['workload']['model'] in SHAPES
        for goal in report.SHAPE_GOALS if is_shape else report.TRAINED_GOALS:
            best = goal.best(result)
            if best is None:
                continue
            case, value = best
            sign = 'at most' if goal.is_most else 'at least'
            yield (f'| {name_of(result)} | `{case}` | {report.METRICS[goal.metric]} {sign} '
                   f'{goal.limit:g} | {value:.2f} | {"met" if goal.met(value) else "missed"} |')
            if not goal.met(value):
                missed.append(_bound(result, case, goal.metric))
    yield ''
    if missed:
        yield 'What bounds those that were missed:'
        yield ''
        yield from missed
        yield ''


def _bound(result: dict[str, Any], case: str, metric: str) -> str:
    """Return where the time of a case goes, and how far it is from having no pictures."""
    figures, dense = result['cases'][case], result['cases'][result.get('stock', 'dense')]
    begin = f'- {name_of(result)}, `{case}`, {report.METRICS[metric]}: '
    if metric == 'peak_bytes_above_weights':
        return begin + (
            f'{_mib(figures["peak_bytes_above_weights"])} against '
            f'{_mib(dense["peak_bytes_above_weights"])}, of which keys and values are '
            f'{_mib(figures["kv_bytes"])} and {_mib(dense["kv_bytes"])}; the rest is what the '
            'vision encoder and the widest layer hold while they compute, whatever is kept.')
    stages = {name: value['p50'] for name, value in figures['stages_ms'].items()
              if metric != 'ttft_ms' or name != 'decode'}
    whole = sum(stages.values())
    largest = sorted(stages, key=lambda name: -stages[name])[:3]
    shares = ', '.join(f'{name} {stages[name] / max(whole, 1e-9):.0%}' for name in largest)
    roofline = result['roofline']['ratio_to_stock'][metric]['median']
    return begin + (f'{shares} of the time. Stock with prompt and answer alone, without a '
                    f'picture, is at {roofline:.2f}.')


def _growth(result: dict[str, Any]) -> Iterator[str]:
    work = result['workload']
    yield '## As windows grow'
    yield ''
    yield (f'{work["model"]}, {work["size"][0]}x{work["size"][1]} px, all answers held to those '
           f'of the embedded model, seed {work["seed"]}, {result["date"]}, {result["machine"]}. '
           f'Medians in ms. Several cameras: windows of {work["frames"]} instants. '
           'All windows end at the same instants.')
    yield ''
    yield ('| window | `dense`, answer | `drafted_0.4`, answer | `dense`, first token | '
           '`drafted_0.4`, first token | n |')
    yield '|---|---|---|---|---|---|'
    for part, unit in (('frames', 'frames'), ('cameras', 'cameras')):
        for count, cases in result[part].items():
            cells = ' | '.join(f'{cases[case][metric]:.0f}' for metric in ('total_ms', 'ttft_ms')
                               for case in ('dense', 'drafted_0.4'))
            yield f'| {count} {unit} | {cells} | {cases["dense"]["n"]} |'
    counts = list(result['frames'])
    times = {case: result['frames'][counts[-1]][case]['total_ms']
             / result['frames'][counts[0]][case]['total_ms'] for case in ('dense', 'drafted_0.4')}
    yield ''
    yield (f'From {counts[0]} to {counts[-1]} frames the time of an answer grows '
           f'{times["dense"]:.1f}-fold for `dense` and {times["drafted_0.4"]:.1f}-fold for '
           '`drafted_0.4`.')
    yield ''
    yield f'![Time against length]({report.GROWTH_PLOT})'
    yield ''


def _deadline(result: dict[str, Any]) -> Iterator[str]:
    yield '## Under a deadline'
    yield ''
    yield (f'{result["model"]}, windows of 5 frames, {result["n"]} of them after '
           f'{result["warm_up"]} to warm up, seed {result["seed"]}, {result["date"]}, '
           f'{result["machine"]}. The deadline is {result["share"]:.0%} of the median time of the '
           'fixed setting, so that this is late; both take turns.')
    yield ''
    yield '| | late | p50 | p95 | kept | answer | risk read |'
    yield '|---|---|---|---|---|---|---|'
    for name, what in (('fixed', 'fixed setting'),
                       ('planned', f'`pipeline.deadline_ms: {result["deadline_ms"]:.0f}`')):
        figures = result[name]
        yield (f'| {what} | {figures["late"]:.0%} | {figures["p50_ms"]:.0f} ms | '
               f'{figures["p95_ms"]:.0f} ms | '
               f'{figures["keep_ratio"]:.0%} | {figures["answer_tokens"]:.0f} tokens | '
               f'{figures["read"]:.0%} |')
    yield ''


def _peers(result: dict[str, Any]) -> Iterator[str]:
    yield '## Beside vLLM'
    yield ''
    yield ('Servers of vLLM on the same machine: with pictures, with a video, with its own ways '
           'to prune videos, and with keep lists of this package ([vllm.md](vllm.md)). All take '
           'turns at every window, each is the first as often, with one thread each.')
    yield ''
    yield from peer_rows(result)
    yield ''


def _gate(result: dict[str, Any]) -> Iterator[str]:
    """Yield what is computed per minute of driving where the model is not always asked."""
    yield '## Asking only where the scene changes'
    yield ''
    yield (f'{result["model"]}, {result["drives"]} rendered drives, {result["minutes"]} minutes, '
           f'{result["hazards"]} hazards, windows every 0.4 s, {result["date"]}, '
           f'{result["machine"]}. The gate asks at {result["asked"]:.0%} of the windows; what a '
           f'window costs was measured on {result["windows"]} of them. How soon hazards are told '
           'then: [speaking.md](speaking.md).')
    yield ''
    yield '| `pipeline.speak` | CPU s per minute of driving | of `always` | goal | |'
    yield '|---|---|---|---|---|'
    always = result['cpu_sec_per_minute']
    yield f'| `always` | {always:.1f} | 1 | | |'
    for speak, share in result['projected'].items():
        yield (f'| `{speak}` | {share * always:.1f} | {share:.2f} | at most {_GATE_GOAL:g} | '
               f'{"met" if share <= _GATE_GOAL else "missed"} |')
    yield ''
    ms = result['cpu_ms']
    yield (f'A whole answer takes {ms["always"]["whole"]:.0f} CPU ms where the model is always '
           f'asked, and {ms["change"]["whole"]:.0f} after a quiet period, as up to five frames '
           f'are to be encoded then; a confirmation {ms["change"]["confirmed"]:.0f}.')
    yield ''


def _not_measured(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    missing = [name for name in SHAPES if name != 'tiny'
               and not any(result['workload']['model'] == name for result in results)]
    yield '## Not measured'
    yield ''
    if missing:
        yield (f'- {", ".join(missing)}: `python -m vts_ros.lab.bench.gpu_suite --report docs` '
               'adds them on a machine with CUDA, in about 8 minutes, and what CUDA graphs give '
               'there ([models.md](models.md#cuda-graphs)). It was only run on a CPU, with a '
               'tiny model.')
    yield '- Real checkpoints, batches of several windows.'
    yield '- Memory that libraries below PyTorch take for themselves.'
    yield ''


def _spread(compared: dict[str, Any] | None, metric: str) -> str:
    if compared is None:
        return '1'
    value = compared[metric]
    return f'{value["median"]:.2f} ({value["low"]:.2f} to {value["high"]:.2f})'


def _percentiles(value: dict[str, float] | None) -> str:
    if value is None:
        return ''
    digits = 0 if value['p50'] >= 10 else 1
    return f'{value["p50"]:.{digits}f} / {value["p95"]:.{digits}f}'


def _mib(number: float) -> str:
    return f'{number / 2**20:.1f} MiB'


def add(folder: Path, measured: Mapping[str, Any]) -> list[Path]:
    """
    Add measurements to a page and its plots; what was measured before stays.

    Parameters
    ----------
    folder
        Where the page is.
    measured
        Results by their key in the data: WORKLOADS, GRAPHS, GROWTH, DEADLINE, BUSY, PEERS or GATE
        of ``vts_ros.lab.bench.speed_report``. That of workloads is a mapping by name, added to
        those that are there.

    Returns
    -------
    The files that were written.

    """
    path = folder / report.DATA
    data: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    workloads = {**data.get(report.WORKLOADS, {}), **measured.get(report.WORKLOADS, {})}
    data.update(measured)
    if workloads:
        data[report.WORKLOADS] = dict(sorted(workloads.items(), key=lambda item: (
            item[1]['workload']['model'], item[1]['workload']['frames'])))
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + '\n')
    drawn = report.draw(data, folder)
    (folder / report.PAGE).write_text(page(data))
    return [folder / report.PAGE, path, *drawn]
