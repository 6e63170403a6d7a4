# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How many passes of a model answers take, with drafts, with what their form is certain about.

Answers of ``vts annotate`` are replayed token by token as a model with a given tokenizer would
write them; no model is needed.

    python -m vts_ros.lab.bench.decoding_passes out/answers.jsonl --tokenizer models/embedded
"""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from transformers import AutoTokenizer
import typer

from vts_ros.vlm.answers import Answer, render, schema
from vts_ros.vlm.drafts import Drafts
from vts_ros.vlm.structured_output import Grammar


class Passes(NamedTuple):
    """Of a mean answer: its tokens, the passes that write it, and the tokens read in these."""

    tokens: float
    passes: float
    read: float


def answers_of(path: Path) -> list[str]:
    """Return the answers of a file of reports that could be read, as models write them."""
    found = []
    for line in path.read_text(encoding='utf-8').splitlines():
        report = json.loads(line)
        told = report['object'] or {}
        if report['risk']['level'] != 'unknown':
            found.append(render(Answer(
                report['description'], report['risk']['level'], told.get('label'),
                tuple(told['box']) if told.get('box') else None, report['explanation'],
                report['action'])))
    return found


def replay(answers: Sequence[Sequence[int]], form: Grammar | None, drafts: Drafts | None
           ) -> Passes:
    """
    Return what answers take that a model writes one after the other.

    Parameters
    ----------
    answers
        Their tokens, the end included.
    form
        Whose certain tokens are appended; None for none.
    drafts
        What is guessed; each answer is added to it. None for no guesses.

    """
    passes = read = 0
    for answer in answers:
        held = None if form is None else form.processor(1)
        written = 0
        while written < len(answer):
            room = len(answer) - written - 1
            sure = [] if held is None else held.certain(torch.tensor([[0, *answer[:written]]]))
            del sure[room:]
            before = [*answer[:written], *sure]
            found = None if drafts is None else drafts.guess(before, room - len(sure))
            guess = [*sure, *(found.tokens if found else ())]
            right = next((place for place, token in enumerate(guess)
                          if token != answer[written + place]), len(guess))
            if drafts is not None and found is not None and right >= len(sure):
                drafts.note(found, right - len(sure))
            written += right + 1
            passes += 1
            read += 1 + len(guess)
        if drafts is not None:
            drafts.add(answer)
    count = len(answers)
    return Passes(sum(map(len, answers)) / count, passes / count, read / count)


def main(
    answers: Annotated[Path, typer.Argument(help='answers.jsonl of vts annotate.')],
    tokenizer: Annotated[Path, typer.Option(help='Folder with a fast tokenizer.')],
) -> None:
    """Print the passes per answer."""
    made: Any = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    end = int(made.eos_token_id)
    ids = [[*made(text, add_special_tokens=False)['input_ids'], end]
           for text in answers_of(answers)]
    form = Grammar(schema(), made, [end], len(made))
    typer.echo(f'{len(ids)} answers of {sum(map(len, ids)) / len(ids):.1f} tokens; '
               'passes (tokens read) per answer')
    for name, held, drafts in (('neither', None, None), ('certain', form, None),
                               ('drafts', None, Drafts()), ('both', form, Drafts())):
        found = replay(ids, held, drafts)
        typer.echo(f'{name}: {found.passes:.1f} ({found.read:.0f})')


if __name__ == '__main__':
    typer.run(main)
