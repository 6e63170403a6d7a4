# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Node, parameter file, page and command line have the same settings, or there is a reason."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from vts_ros.engines import BACKEND_NAMES, BACKENDS
from vts_ros.nodes.vts_parameters import TABLE
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.settings import pipeline_config, Setting, SETTINGS
from vts_ros.tools.cli.annotate_command import annotate
from vts_ros.tools.cli.setting_options import option_names, with_settings

#: Why a parameter of the node is no option of `vts annotate`.
ONLY_OF_THE_NODE = {
    'autostart': 'a command has no lifecycle',
    'cameras': '--topic names the topics of the recording',
    'image_transport': 'the recording has one or the other',
    'no_image_warn_sec': 'nothing is waited for',
    'max_frame_age_sec': 'every picture of a recording is old',
    'max_answer_age_sec': 'files are not retracted',
    'no_answer_warn_sec': 'the command ends with the recording',
    'pipeline.lazy': 'nobody subscribes',
    'pipeline.period_sec': '--every, which does not depend on the machine',
    'engine.frame_size': 'the first picture is there at once',
    'engine.build_only': 'vts compile',
    'audio.listen': '--audio',
    'audio.sample_rate': 'files say it',
    'markers.frame_id': 'there is no RViz',
}
#: Why an option of `vts annotate` is no parameter of the node.
ONLY_OF_RECORDINGS = {
    'bag': 'what is described',
    'video': 'what is described instead',
    'out': 'where the files go',
    'topic': 'the node has its cameras, and topics are remapped',
    'audio': 'what is heard; the node has a topic, and audio.listen',
    'every': 'the node describes as often as it can, or pipeline.period_sec',
}


def test_every_setting_is_a_parameter_of_the_node() -> None:
    settings = {setting.name: setting for setting in SETTINGS}
    assert len(settings) == len(SETTINGS)
    assert {spec.name for spec in TABLE} == settings.keys() | ONLY_OF_THE_NODE.keys()
    assert not settings.keys() & ONLY_OF_THE_NODE.keys()
    for spec in TABLE:
        if spec.name in settings:
            assert vars(spec).items() >= vars(settings[spec.name]).items()


def test_every_setting_is_an_option_of_annotate() -> None:
    parameters = signature(annotate).parameters
    own = {name: parameter for name, parameter in parameters.items()
           if name not in {setting.name.replace('.', '_') for setting in SETTINGS}}
    assert own.keys() == ONLY_OF_RECORDINGS.keys()
    names = [name for setting in SETTINGS for name in option_names(setting)]
    assert len({*names, *(f'--{name}' for name in own)}) == len(names) + len(own)
    for setting in SETTINGS:
        assert parameters[setting.name.replace('.', '_')].default == setting.default


def test_every_field_of_the_pipeline_is_a_setting() -> None:
    defaults = {setting.field: setting.default for setting in SETTINGS if setting.field}
    assert defaults == {field.name: field.default for field in fields(PipelineConfig)}
    values: dict[str, Any] = {setting.name: setting.default for setting in SETTINGS}
    assert pipeline_config(values) == PipelineConfig()
    assert pipeline_config({**values, 'vlm.model': 'mine'}) == PipelineConfig(model='mine')


def test_the_engines_that_can_be_chosen_are_those_that_there_are() -> None:
    assert tuple(BACKENDS) == BACKEND_NAMES


SOME = (
    Setting('vlm.model', 'embedded', 'Model'),
    Setting('sparsify.keep_ratio', 0.6, 'Share', span=(0.01, 1.0)),
    Setting('vlm.draft', False, 'Draft'),
    Setting('sparsify.mode', 'window', 'Mode', choices=('window', 'causal')),
)
DEFAULTS = {setting.name: setting.default for setting in SOME}


@pytest.mark.parametrize(('arguments', 'expected'), [
    ('', {}),
    ('--model mine', {'vlm.model': 'mine'}),
    ('--vlm mine --keep-ratio 1', {'vlm.model': 'mine', 'sparsify.keep_ratio': 1.0}),
    ('--draft --mode causal', {'vlm.draft': True, 'sparsify.mode': 'causal'}),
    ('--no-draft', {}),
    ('--keep-ratio 0', 'should be greater'),
    ('--mode other', 'other'),
    ('--alpha 1', 'No such option'),
])
def test_options_are_read_and_checked(
        arguments: str, expected: dict[str, Any] | str) -> None:
    found: list[tuple[int, dict[str, Any]]] = []
    app = typer.Typer()

    @app.command()
    @with_settings(SOME)
    def command(number: int = 3, *, settings: dict[str, Any]) -> None:
        found.append((number, settings))

    done = CliRunner().invoke(app, [*arguments.split(), '--number', '4'])
    if isinstance(expected, str):
        assert done.exit_code == 2
        assert expected in done.output
    else:
        assert done.exit_code == 0, done.output
        assert found == [(4, {**DEFAULTS, **expected})]
