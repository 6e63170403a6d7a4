# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The oldest transformers that the language models can be driven with."""

from transformers.utils.versions import require_version

#: The first release whose models take over ready encoder outputs (``mm_encoder_outputs``), in all
#: supported families. setup.py asks for the same.
MINIMUM_TRANSFORMERS = '5.18.0'


def check_transformers(minimum: str = MINIMUM_TRANSFORMERS) -> None:
    """
    See that the installed transformers are new enough.

    Raises
    ------
    ImportError
        If they are older than ``minimum``; the message names both versions.

    """
    require_version(f'transformers>={minimum}', 'vts_ros prunes models through an interface of '
                    'transformers that older versions lack; update with pip.')
