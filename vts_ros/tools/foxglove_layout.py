# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A layout for Foxglove and Lichtblick: the node, live or recorded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
import json
from typing import Any

from vts_ros.pipeline.report_messages import NUMBERS

FILE = 'foxglove_layout.json'


def foxglove_layout(namespace: str = '', pictures: Sequence[str] = ()) -> str:
    """
    Return a layout as JSON.

    Pictures with boxes, the risk over time, its reason and the description, latency and kept
    tokens as curves, and diagnostics.

    Parameters
    ----------
    namespace
        That of the node.
    pictures
        Topics of the cameras, one panel each; without, one panel takes the first that there is.

    """
    node = '/'.join(('', *filter(None, namespace.split('/')), 'vts_node'))
    panels: dict[str, Any] = {}
    for number, topic in enumerate(pictures or [None]):
        panels[f'Image!picture{number}'] = {'imageMode': {
            **({'imageTopic': topic} if topic else {}), 'synchronize': False,
            'annotations': {f'{node}/annotations': {'visible': True}}}}
    shown: Any = reduce(lambda left, right: _split('row', left, right, 50), list[Any](panels))
    processing, latency, risk, kept = (f'{node}/debug/{name}.data' for name in NUMBERS)
    panels['StateTransitions!risk'] = {'isSynced': True, 'paths': [{
        'value': f'{node}/risk.status[:].values[:]{{key=="level"}}.value', 'label': 'risk',
        'timestampMethod': 'receiveTime'}]}
    panels['RawMessages!why'] = _text(f'{node}/risk.status[0].message')
    panels['RawMessages!scene'] = _text(f'{node}/scene_description.data')
    panels['Plot!latency'] = _plot('Latency in ms', {
        latency: 'age of the picture', processing: 'answer', risk: 'risk level'})
    panels['Plot!tokens'] = _plot('Visual tokens kept', {kept: 'kept'})
    panels['DiagnosticSummary!health'] = {
        'topicToRender': '/diagnostics', 'minLevel': 0, 'pinnedIds': [], 'hardwareIdFilter': '',
        'sortByLevel': True}
    words = _split('column', 'RawMessages!why', 'RawMessages!scene', 50)
    curves = _split('column', 'Plot!latency', 'Plot!tokens', 60)
    return json.dumps({
        'configById': panels, 'globalVariables': {}, 'userNodes': {},
        'playbackConfig': {'speed': 1.0},
        'layout': _split(
            'row', _split('column', shown, 'StateTransitions!risk', 80),
            _split('column', words, _split('column', curves, 'DiagnosticSummary!health', 70), 35),
            65),
    }, indent=2) + '\n'


def _text(path: str) -> dict[str, Any]:
    return {'topicPath': path, 'diffTopicPath': '', 'diffMethod': 'custom', 'diffEnabled': False,
            'showFullMessageForDiff': False}


def _plot(title: str, paths: dict[str, str]) -> dict[str, Any]:
    return {'foxglovePanelTitle': title, 'isSynced': True, 'xAxisVal': 'timestamp',
            'showLegend': True, 'legendDisplay': 'floating', 'showXAxisLabels': True,
            'showYAxisLabels': True, 'minYValue': 0, 'paths': [
                {'value': path, 'label': label, 'enabled': True, 'timestampMethod': 'receiveTime'}
                for path, label in paths.items()]}


def _split(direction: str, first: Any, second: Any, percent: int) -> dict[str, Any]:
    return {'direction': direction, 'first': first, 'second': second, 'splitPercentage': percent}
