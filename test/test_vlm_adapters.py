# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""PEFT adapters: merged, they are what PEFT makes of the model; what does not fit is told."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import shutil
import sys
from typing import Any

from all_commands import app
from bag_maker import drive
import numpy as np
from numpy.typing import NDArray
import pytest
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor
from typer.testing import CliRunner
from vlm_maker import make, names, PROMPT

from vts_ros.paths import checkpoint
from vts_ros.pipeline.config import PipelineConfig
from vts_ros.pipeline.cost import explain
from vts_ros.pipeline.pipeline import Pipeline
from vts_ros.tools.answer_files import ANSWERS
from vts_ros.vlm import Vlm, VlmError

pytestmark = pytest.mark.slow

peft = pytest.importorskip('peft', reason='adapters need peft')

CONFIG, WEIGHTS = 'adapter_config.json', 'adapter_model.safetensors'
#: Of the largest logit: what floats of 32 bits lose on the way.
EXACT = 1e-4


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('adapters')


@pytest.fixture(scope='module')
def base(folder: Path) -> Path:
    return make('internvl', folder / 'base')


@pytest.fixture(scope='module')
def lora(folder: Path, base: Path) -> Path:
    return save_adapter(Vlm.load(base, device='cpu'), folder / 'lora')[0]


@pytest.fixture
def own(lora: Path, tmp_path: Path) -> Path:
    """Return an adapter to be spoiled."""
    return Path(shutil.copytree(lora, tmp_path / 'lora'))


def ask(vlm: Vlm) -> Tensor:
    """Return the logits of a pruned prompt of two pictures."""
    random = np.random.default_rng(0)
    features = [vlm.encode(random.integers(0, 256, (90, 150, 3), np.uint8)) for _ in range(2)]
    keep: NDArray[np.int32] = np.arange(3, 25, dtype=np.int32)
    return vlm.logits(vlm.prepare(features, ['-0.4s', '0.0s'], PROMPT), keep)


def save_adapter(vlm: Vlm, path: Path, **options: Any) -> tuple[Path, Tensor]:
    """Save an adapter that changes much; return it and what the model with it in PEFT says."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = peft.get_peft_model(vlm.model, peft.LoraConfig(
            **{'r': 4, 'target_modules': 'all-linear', 'init_lora_weights': False, **options}))
    model.save_pretrained(path)
    model.eval()
    return path, ask(vlm)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


# What it becomes


@pytest.mark.parametrize('name', names())
def test_a_merged_adapter_is_what_peft_makes_of_the_model(name: str, tmp_path: Path) -> None:
    made = make(name, tmp_path / name)
    vlm = Vlm.load(made, device='cpu')
    before = ask(vlm)
    path, expected = save_adapter(vlm, tmp_path / 'mine')
    merged = Vlm.load(made, device='cpu', adapter=path)
    found = ask(merged)
    assert difference(found, expected) < EXACT < 0.5 < difference(before, expected)
    assert merged.name == f'{name} + mine'
    assert not any('lora' in weight for weight, _ in merged.model.named_parameters())
    assert not any(type(module).__module__.startswith('peft') for module in merged.model.modules())
    assert all(weight.requires_grad for weight in merged.model.parameters())
    # The folder alone says of which model it is.
    alone = Vlm.load(path, device='cpu')
    assert torch.equal(ask(alone), found)
    assert (alone.name, alone.convention) == ('mine', merged.convention)


def test_pruning_with_an_adapter_is_masking(lora: Path) -> None:
    done = CliRunner().invoke(app, [
        'eval', 'precision', '--model', str(lora), '--n', '1', '--tokens', '4',
        '--precisions', 'float32', '--device', 'cpu', '--json'])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])['precisions']['float32']
    assert all(pair['largest'] < EXACT and pair['same'] == 1.0 for pair in found.values())


@pytest.mark.parametrize('changed', [
    {'target_modules': ['lm_head']}, {'target_modules': ['embed_tokens']},
    {'target_modules': ['q_proj'], 'modules_to_save': ['lm_head']}])
def test_a_head_that_shares_its_weights_is_changed_alone(
        changed: dict[str, Any], base: Path, tmp_path: Path) -> None:
    vlm = Vlm.load(base, device='cpu')
    vlm.model.lm_head.weight = vlm.model.get_input_embeddings().weight
    vlm.model.config.tie_word_embeddings = True
    vlm.model.config.text_config.tie_word_embeddings = True
    tied = Path(shutil.copytree(base, tmp_path / 'tied'))
    vlm.model.save_pretrained(tied)
    assert not any('lm_head' in name for name in load_file(tied / 'model.safetensors'))
    if 'modules_to_save' in changed:
        # Trained weights are others than those that it began with.
        path, _ = save_adapter(vlm, tmp_path / 'mine', **changed)
        weights = load_file(path / WEIGHTS)
        head, = (name for name in weights if 'lm_head' in name)
        weights[head] = -2.0 * weights[head]
        save_file(weights, path / WEIGHTS, {'format': 'pt'})
        vlm = Vlm.load(tied, device='cpu')
        peft.PeftModel.from_pretrained(vlm.model, str(path))
        expected = ask(vlm)
    else:
        path, expected = save_adapter(vlm, tmp_path / 'mine', **changed)
    found = Vlm.load(tied, device='cpu', adapter=path)
    assert difference(ask(found), expected) < EXACT


@pytest.mark.parametrize(('name', 'renamed'), [
    ('qwen2_vl', {'model.language_model.': 'model.', 'model.visual.': 'visual.'}),
    ('internvl', {'model.language_model.': 'language_model.model.',
                  'model.vision_tower.': 'vision_tower.',
                  'model.multi_modal_projector.': 'multi_modal_projector.'})])
def test_names_of_older_transformers_are_read(
        name: str, renamed: dict[str, str], tmp_path: Path) -> None:
    path, expected = save_adapter(Vlm.load(make(name, tmp_path / 'base'), device='cpu'),
                                  tmp_path / 'mine')
    older = load_file(path / WEIGHTS)
    for new, old in renamed.items():
        changed = {key.replace(f'base_model.model.{new}', f'base_model.model.{old}'): weight
                   for key, weight in older.items()}
        assert changed.keys() != older.keys()
        older = changed
    save_file(older, path / WEIGHTS, {'format': 'pt'})
    assert difference(ask(Vlm.load(path, device='cpu')), expected) < EXACT


def test_weights_are_rounded_after_the_adapter(base: Path, lora: Path, tmp_path: Path) -> None:
    whole = Vlm.load(base, device='cpu', adapter=lora)
    merged = Path(shutil.copytree(base, tmp_path / 'merged'))
    whole.model.save_pretrained(merged)
    for options in ({'quantization': {'quant_method': 'int8'}}, {'dtype': 'bfloat16'}):
        found = ask(Vlm.load(base, device='cpu', adapter=lora, **options)).float()
        expected = ask(Vlm.load(merged, device='cpu', **options)).float()
        # bfloat16 are rounded before, too: the checkpoint is loaded so.
        assert difference(found, expected) < (1e-6 if 'quantization' in options else 0.1)
        assert difference(found, ask(whole)) > 1e-4


# Where it is set


def test_the_command_line_takes_an_adapter(base: Path, lora: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    done = CliRunner().invoke(app, [
        'annotate', '--bag', str(drive(tmp_path / 'bag', 12)), '--out', str(out), '--every', '9',
        '--model', str(base), '--adapter', str(lora), '--max-new-tokens', '4', '--threads', '1'])
    assert done.exit_code == 0, done.output
    report, *_ = map(json.loads, (out / ANSWERS).read_text(encoding='utf-8').splitlines())
    assert report['model'] == 'base + lora'


def test_what_was_measured_of_a_model_does_not_hold_with_an_adapter(tmp_path: Path) -> None:
    config = PipelineConfig(device='cpu')
    path, _ = save_adapter(Vlm.load(checkpoint('embedded'), device='cpu'), tmp_path / 'mine')
    plain, adapted = Pipeline.load(config), Pipeline.load(replace(config, adapter=str(path)))
    assert None not in (plain.guard, plain.calibration, plain.taught)
    assert (adapted.guard, adapted.calibration, adapted.taught) == (None, None, None)
    assert adapted.vlm.name == 'embedded + mine'
    assert adapted.vlm.convention == plain.vlm.convention


def test_an_adapter_costs_what_its_model_does(base: Path, lora: Path) -> None:
    config = PipelineConfig(device='cpu', dtype='float32')
    found, expected = (explain(str(model), [(150, 90)], config) for model in (lora, base))
    assert replace(found, model='base') == expected


def test_a_server_is_not_given_one(lora: Path) -> None:
    with pytest.raises(VlmError, match=r'^a server merges adapters itself: '):
        Pipeline.load(PipelineConfig(vlm_backend='openai', adapter=str(lora)))


# What does not fit


def told(reason: str, model: Path | str, **options: Any) -> None:
    with pytest.raises(VlmError, match=f'^{reason}$'):
        Vlm.load(model, device='cpu', **options)


def test_files_that_are_missing_or_spoiled_are_told(base: Path, own: Path) -> None:
    told(r'.*/base is no adapter: it lacks adapter_config\.json', base, adapter=base)
    told(r"model 'nowhere' is neither a directory nor in the local Hugging Face cache", base,
         adapter='nowhere')
    told(r'.*/lora is an adapter: set vlm\.model to its model; .*', own, adapter=own)
    whole = (own / WEIGHTS).read_bytes()
    (own / WEIGHTS).write_bytes(b'version https://git-lfs.github.com/spec/v1\n')
    told(rf'.*/{WEIGHTS} is a Git LFS pointer: run git lfs pull in .*/lora', base, adapter=own)
    (own / WEIGHTS).write_bytes(whole[:-100])
    told(r'.*/lora cannot be merged: .*', base, adapter=own)
    (own / WEIGHTS).rename(own / 'adapter_model.bin')
    told(r'.*/lora has weights as \.bin files, which can run code: .*', base, adapter=own)
    (own / 'adapter_model.bin').unlink()
    told(rf'.*/lora lacks {WEIGHTS}', own)
    (own / CONFIG).write_text('{', encoding='utf-8')
    told(rf'.*/{CONFIG} cannot be read: .*', own)


def test_a_model_that_is_not_said_or_not_here_is_told(own: Path) -> None:
    for said, reason in (
            (None, r'.*/lora is an adapter that does not say of which model: set vlm\.model to '
                   r'that and vlm\.adapter to .*/lora'),
            ('/home/me/gone', r'.*/lora is an adapter of /home/me/gone, which is not here: set '
                              r'vlm\.model to where that is, and vlm\.adapter to .*/lora')):
        fields = json.loads((own / CONFIG).read_text(encoding='utf-8'))
        fields['base_model_name_or_path'] = said
        (own / CONFIG).write_text(json.dumps(fields), encoding='utf-8')
        told(reason, own)


def test_a_folder_with_both_is_refused(base: Path, lora: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(base, tmp_path / 'both'))
    shutil.copytree(lora, both, dirs_exist_ok=True)
    told(r'.*/both holds a model and an adapter: move one of them, .*', both)


def test_an_adapter_of_another_model_or_half_of_one_is_refused(base: Path, own: Path,
                                                               tmp_path: Path) -> None:
    other = make('qwen2_vl', tmp_path / 'other')
    told(r'.*/lora (is an adapter of another model: it has weights for |cannot be merged: ).*',
         other, adapter=own)
    weights = load_file(own / WEIGHTS)
    renamed = {name.replace('layers.1.', 'layers.7.'): weight for name, weight in weights.items()}
    save_file(renamed, own / WEIGHTS, {'format': 'pt'})
    told(r'.*/lora is an adapter of another model: it has weights for .*layers\.7\..*', base,
         adapter=own)
    half = {name: weight for name, weight in weights.items() if 'layers.1.' not in name}
    save_file(half, own / WEIGHTS, {'format': 'pt'})
    told(r'.*/lora lacks weights, among them those for .*layers?\.1\..*', base, adapter=own)
    wide = {name: torch.cat([weight, weight]) for name, weight in weights.items()}
    save_file(wide, own / WEIGHTS, {'format': 'pt'})
    told(r'.*/lora cannot be merged: .*size mismatch.*', base, adapter=own)


def test_an_adapter_of_prompts_is_refused(base: Path, lora: Path, tmp_path: Path) -> None:
    prompts = tmp_path / 'prompts'
    peft.PromptTuningConfig(num_virtual_tokens=4, task_type='CAUSAL_LM').save_pretrained(prompts)
    shutil.copy(lora / WEIGHTS, prompts)
    told(r'.*/prompts is an adapter of the kind PROMPT_TUNING, which changes prompts .*', base,
         adapter=prompts)


def test_quantised_weights_take_none(base: Path, lora: Path, tmp_path: Path) -> None:
    reason = r'.*/lora cannot be merged into quantised weights: merge it into whole ones .*'
    four_bits = {'quant_method': 'bitsandbytes', 'load_in_4bit': True}
    told(reason, base, adapter=lora, quantization=four_bits)
    quantised = Path(shutil.copytree(base, tmp_path / 'quantised'))
    fields = json.loads((quantised / 'config.json').read_text(encoding='utf-8'))
    fields['quantization_config'] = four_bits
    (quantised / 'config.json').write_text(json.dumps(fields), encoding='utf-8')
    told(reason, quantised, adapter=lora)


def test_an_adapter_cannot_have_a_module_imported(base: Path, own: Path) -> None:
    fields = json.loads((own / CONFIG).read_text(encoding='utf-8'))
    fields.update(megatron_config={'fp16': False}, megatron_core='antigravity')
    (own / CONFIG).write_text(json.dumps(fields), encoding='utf-8')
    told(r'.*/lora names a module to import \(megatron_core\): .*', base, adapter=own)
    assert 'antigravity' not in sys.modules


@pytest.fixture
def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'peft', None)


@pytest.mark.usefixtures('without_peft')
def test_what_is_missing_is_told(base: Path, lora: Path) -> None:
    reason = r".*/lora is an adapter, which needs peft: pip install 'vts_ros\[adapters\]'"
    told(reason, base, adapter=lora)
    told(reason, lora)
    assert Vlm.load(base, device='cpu').name == 'base'
