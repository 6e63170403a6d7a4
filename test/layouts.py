# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the layouts of RViz and Foxglove want: topics with their types."""

from __future__ import annotations

import json
import re
from typing import Any

from conftest import ROOT
from rosbags.interfaces import Nodetype
import yaml

from vts_ros.pipeline import report_messages as messages
from vts_ros.pipeline.picture_messages import COMPRESSED_IMAGE
from vts_ros.tools.message_definitions import typestore

#: Types of what panels show, by their kind; what has a path of fields may be of any type.
_RVIZ = {'rviz_default_plugins/MarkerArray': messages.MARKERS,
         'rviz_default_plugins/Image': COMPRESSED_IMAGE}


def rviz_topics(namespace: str = '') -> dict[str, str]:
    """Return the topics of the shipped configuration by name, for RViz in a namespace."""
    shown = yaml.safe_load((ROOT / 'config' / 'vts.rviz').read_text())
    return {f'{namespace}/{display["Topic"]["Value"]}': _RVIZ[display['Class']]
            for display in shown['Visualization Manager']['Displays'] if 'Topic' in display}


def foxglove_topics(layout: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the topics of a layout by name, and the fields that it wants of others."""
    types: dict[str, str] = {}
    fields: dict[str, list[str]] = {}
    panels: dict[str, Any] = json.loads(layout)['configById']
    for name, panel in panels.items():
        kind = name.partition('!')[0]
        if kind == 'Image':
            mode = panel['imageMode']
            types.update(dict.fromkeys(mode['annotations'], messages.ANNOTATIONS))
            if 'imageTopic' in mode:
                types[mode['imageTopic']] = COMPRESSED_IMAGE
        elif kind == 'DiagnosticSummary':
            types[panel['topicToRender']] = messages.RISK
        else:
            for path in [panel['topicPath']] if kind == 'RawMessages' else [
                    path['value'] for path in panel['paths']]:
                topic, _, rest = path.partition('.')
                fields.setdefault(topic, []).append(rest)
    assert _panels_of(json.loads(layout)['layout']) == list(panels)
    return types, fields


def has_field(msgtype: str, path: str) -> bool:
    """Return whether messages of a type have a field such as ``status[0].message``."""
    kind: Any = (Nodetype.NAME, msgtype)
    for part in path.split('.'):
        found = re.fullmatch(r'(\w+)(\[[\d:]+\])?({(\w+)==.*})?', part)
        assert found, path
        if kind[0] != Nodetype.NAME:
            return False
        known = dict(typestore().fielddefs[kind[1]][1])
        if found[1] not in known:
            return False
        kind = known[found[1]]
        if found[2]:
            if kind[0] not in (Nodetype.SEQUENCE, Nodetype.ARRAY):
                return False
            kind = kind[1][0]
        if found[4] and found[4] not in dict(typestore().fielddefs[kind[1]][1]):
            return False
    return bool(kind[0] == Nodetype.BASE)


def check(there: dict[str, str], layout: str, namespace: str = '') -> None:
    """See that all that the layouts want is there, topics by name."""
    types, fields = foxglove_topics(layout)
    for topic, msgtype in {**rviz_topics(namespace), **types}.items():
        assert there.get(topic) == msgtype, topic
    for topic, paths in fields.items():
        assert topic in there
        for path in paths:
            assert has_field(there[topic], path), f'{topic}.{path}'


def _panels_of(layout: Any) -> list[str]:
    if isinstance(layout, str):
        return [layout]
    return [panel for part in ('first', 'second') for panel in _panels_of(layout[part])]
