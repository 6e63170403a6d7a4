# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The oldest transformers that the language models can be driven with."""

from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from vts_ros.errors import VlmError

#: The first release whose models take over ready encoder outputs (``mm_encoder_outputs``).
#: setup.py asks for the same.
MINIMUM_TRANSFORMERS = '5.18.0'
#: Families that came later to it, by ``model_type``. Before that, Idefics3 took another form, and
#: SmolVLM counted image tokens in whole pictures only; Molmo2 was not there.
LATER = {'idefics3': '5.20.1', 'molmo2': '5.20.1', 'smolvlm': '5.21.0'}

#: Families that read pictures after a text that was read before as if there were no pictures until
#: this release: there ``generate`` lost which tokens are those of pictures.
READ_ON = {'gemma3': '5.23.0'}


def check_transformers(minimum: str = MINIMUM_TRANSFORMERS, what: str = 'vts_ros') -> None:
    """
    See that the installed transformers are new enough.

    Raises
    ------
    VlmError
        If they are older than ``minimum``; the message names both versions.

    """
    try:
        found = version('transformers')
    except PackageNotFoundError:
        # Who only reads answers needs none.
        return
    if Version(found) < Version(minimum):
        raise VlmError(f'{what} needs transformers {minimum} or newer, {found} is installed: '
                       f"pip install 'transformers>={minimum}'")


def check_family(model_type: str) -> None:
    """See the same for a family of models, by ``model_type``; raises as check_transformers."""
    check_transformers(LATER.get(model_type, MINIMUM_TRANSFORMERS), f'a {model_type} model')


def check_instructions_first(model_type: str) -> None:
    """See that a family can read instructions before the pictures once; raises as check_family."""
    if model_type in READ_ON:
        check_transformers(READ_ON[model_type],
                           f'a {model_type} model with vlm.instructions first')
