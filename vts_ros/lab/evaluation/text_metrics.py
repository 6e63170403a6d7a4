# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Scores of free text against references, as captions are scored since COCO.

BLEU-4, METEOR, CIDEr and SPICE are those of pycocoevalcap, on the tokens of its Penn Treebank
tokenizer. That one, METEOR and SPICE run in Java; without, BLEU-4 and CIDEr are computed on plain
words, and the result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
import re
import shutil
import subprocess
from typing import Any, NamedTuple

#: Text metrics by the names that they have in results.
TEXT_METRICS = ('bleu4', 'meteor', 'cider', 'spice')
_PACKAGE = 'pycocoevalcap'
_TOKENIZER_JAR = 'tokenizer/stanford-corenlp-3.4.1.jar'
_SPICE_MODELS = 'spice/lib/stanford-corenlp-3.6.0-models.jar'
#: Reads and writes a gigabyte or so; nothing here takes longer.
_TIMEOUT_SEC = 600.0

#: Texts by number, as pycocoevalcap takes them.
_Texts = Mapping[int, Sequence[str]]


class TextScores(NamedTuple):
    """
    Scores of a set of answers.

    Attributes
    ----------
    values
        By the names of ``TEXT_METRICS``; None where a metric could not be computed. BLEU-4,
        METEOR and SPICE are 0 to 1, CIDEr is 0 to 10. CIDEr weighs words by how rare they are in
        the references, so it depends on the set.
    missing
        Why, for each that is None.
    tokenizer
        ``ptb`` or ``plain``.

    """

    values: dict[str, float | None]
    missing: dict[str, str]
    tokenizer: str


def text_scores(answers: Sequence[str], references: Sequence[Sequence[str]],
                names: Sequence[str] = TEXT_METRICS) -> TextScores:
    """
    Score answers against one or more references each.

    Parameters
    ----------
    answers
        What was said.
    references
        What should have been said, one or more texts for each answer.
    names
        Metrics wanted, of ``TEXT_METRICS``.

    Raises
    ------
    ValueError
        If there is no answer, or not at least one reference for each.

    """
    if not answers or len(answers) != len(references) or not all(references):
        raise ValueError('every answer needs at least one reference')
    if find_spec(_PACKAGE) is None:
        reason = "pycocoevalcap is not installed: pip install 'vts_ros[eval]'"
        return TextScores(dict.fromkeys(names), dict.fromkeys(names, reason), 'plain')
    java = shutil.which('java')
    split = _ptb if java else _plain
    flat = split([text for texts in (answers, *references) for text in texts])
    said = {index: [text] for index, text in enumerate(flat[:len(answers)])}
    rest = iter(flat[len(answers):])
    wanted = {index: [next(rest) for _ in texts] for index, texts in enumerate(references)}
    values: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    metrics: dict[str, Callable[[_Texts, _Texts], float]] = {
        'bleu4': _bleu4, 'meteor': _meteor, 'cider': _cider, 'spice': _spice}
    for name in names:
        values[name] = None
        try:
            if name in ('meteor', 'spice') and not java:
                raise _NotPossible('there is no Java on this machine')
            values[name] = round(float(metrics[name](wanted, said)), 4)
        except _NotPossible as error:
            missing[name] = str(error)
    return TextScores(values, missing, 'ptb' if java else 'plain')


class _NotPossible(Exception):
    """A metric cannot be computed here; the message says why."""


def _folder() -> Path:
    spec = find_spec(_PACKAGE)
    assert spec is not None
    return Path(next(iter(spec.submodule_search_locations or ())))


def _clean(text: str) -> str:
    """Return the text in one line, without the separator of the METEOR program."""
    return ' '.join(text.replace('|', ' ').split())


def _plain(texts: Sequence[str]) -> list[str]:
    """Return lower-case words, joined by spaces, without punctuation."""
    return [' '.join(re.findall(r"\w+(?:[.,']\w+)*", _clean(text).lower())) for text in texts]


def _ptb(texts: Sequence[str]) -> list[str]:
    """Return the tokens of the Penn Treebank tokenizer, lower-case, without punctuation."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    # Not by the class of the package: that writes into the folder where it is installed.
    done = subprocess.run(
        ['java', '-Dfile.encoding=UTF-8', '-cp', str(_folder() / _TOKENIZER_JAR),
         'edu.stanford.nlp.process.PTBTokenizer', '-preserveLines', '-lowerCase',
         '-encoding', 'UTF-8'],
        input=''.join(f'{_clean(text)}\n' for text in texts), capture_output=True, check=True,
        encoding='utf-8', timeout=_TIMEOUT_SEC)
    lines = done.stdout.split('\n')[:len(texts)]
    if len(lines) != len(texts):
        raise RuntimeError(f'the tokenizer made {len(lines)} lines of {len(texts)} texts')
    dropped = frozenset(PUNCTUATIONS)
    return [' '.join(word for word in line.split() if word not in dropped) for line in lines]


def _bleu4(wanted: _Texts, said: _Texts) -> float:
    from pycocoevalcap.bleu.bleu import Bleu

    scores, _ = Bleu(4).compute_score(wanted, said, verbose=0)
    return float(scores[3])


def _cider(wanted: _Texts, said: _Texts) -> float:
    from pycocoevalcap.cider.cider import Cider

    return float(Cider().compute_score(wanted, said)[0])


@lru_cache(maxsize=1)
def _meteor_program() -> Any:
    """Return the program, started once: it reads 60 MB of paraphrases first."""
    from pycocoevalcap.meteor.meteor import Meteor

    return Meteor()


def _meteor(wanted: _Texts, said: _Texts) -> float:
    try:
        return float(_meteor_program().compute_score(wanted, said)[0])
    except (OSError, ValueError) as error:  # the program has ended, or says something else
        _meteor_program.cache_clear()
        raise _NotPossible('the METEOR program fails with this Java') from error


def _spice(wanted: _Texts, said: _Texts) -> float:
    from pycocoevalcap.spice.spice import Spice

    if not (_folder() / _SPICE_MODELS).is_file():
        # The package would download 400 MB without asking.
        raise _NotPossible('SPICE needs the models of Stanford CoreNLP 3.6.0: '
                           'python -m pycocoevalcap.spice.get_stanford_models, in its folder')
    try:
        return float(Spice().compute_score(wanted, said)[0])
    except (OSError, subprocess.CalledProcessError) as error:
        raise _NotPossible('the SPICE program fails with this Java; it is made for Java 8') \
            from error
