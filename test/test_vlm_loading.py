# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint is loaded: floats, attention, quantisation; and what is told when it is not."""

from __future__ import annotations

from importlib.util import find_spec
import json
from pathlib import Path
import shutil
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
import torch
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from vlm_maker import ask, make, names

from vts_ros.pipeline.pipeline import Pipeline, PipelineConfig
from vts_ros.vlm import Vlm, VlmError
from vts_ros.vlm.loading import load_blueprint


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make('internvl', tmp_path_factory.mktemp('models') / 'internvl')


# Folders as people have them


@pytest.mark.parametrize('name', names())
def test_a_folder_saved_by_a_processor_in_pieces_is_the_same_model(
        name: str, tmp_path: Path) -> None:
    """Saved as AutoProcessor does, sharded, without a generation config."""
    plain = Vlm.load(make(name, tmp_path / 'plain'), device='cpu')
    folder = Path(shutil.copytree(tmp_path / 'plain', tmp_path / 'folder'))
    images, processor = folder / 'preprocessor_config.json', folder / 'processor_config.json'
    said = json.loads(processor.read_text(encoding='utf-8')) if processor.exists() else {}
    processor.write_text(json.dumps({
        'processor_class': 'SomeProcessor', **said,
        'image_processor': json.loads(images.read_text(encoding='utf-8'))}), encoding='utf-8')
    for path in (images, folder / 'model.safetensors'):
        path.unlink()
    plain.model.save_pretrained(folder, max_shard_size='40KB')
    (folder / 'generation_config.json').unlink()
    assert len(list(folder.glob('model-*.safetensors'))) > 5
    vlm = Vlm.load(folder, device='cpu')
    assert torch.equal(vlm.logits(*ask(vlm)), plain.logits(*ask(plain)))
    assert (type(vlm.images), vlm._end_ids[0]) == (type(plain.images), plain._end_ids[0])
    assert max(vlm._end_ids) < len(vlm.tokenizer)
    shard = min(folder.glob('model-*.safetensors'))
    shard.unlink()
    with pytest.raises(VlmError, match=f'cannot be loaded: .*{shard.name}$'):
        Vlm.load(folder, device='cpu')


def test_what_a_processor_of_transformers_saves_is_enough(tmp_path: Path) -> None:
    plain = Vlm.load(make('idefics3', tmp_path / 'plain'), device='cpu')
    images: Any = plain.images
    processor = Idefics3Processor(images, plain.tokenizer,
                                  chat_template=plain.tokenizer.chat_template)
    folder = tmp_path / 'folder'
    processor.save_pretrained(folder)
    plain.model.save_pretrained(folder)
    assert not (folder / 'preprocessor_config.json').exists()
    vlm = Vlm.load(folder, device='cpu')
    assert torch.equal(vlm.logits(*ask(vlm)), plain.logits(*ask(plain)))


@pytest.mark.parametrize(('file', 'form'), [
    ('chat_template.jinja', 'text'), ('chat_template.json', 'text'),
    ('chat_template.json', 'list'), ('processor_config.json', 'text'),
    ('tokenizer_config.json', 'text'), ('tokenizer_config.json', 'list')])
def test_the_chat_template_may_be_in_any_of_its_places(
        checkpoint: Path, tmp_path: Path, file: str, form: str) -> None:
    plain = Vlm.load(checkpoint, device='cpu')
    folder = Path(shutil.copytree(checkpoint, tmp_path / 'folder'))
    (folder / 'chat_template.jinja').unlink()
    with pytest.raises(VlmError, match='lacks a chat template'):
        Vlm.load(folder, device='cpu')
    template: Any = plain.tokenizer.chat_template
    path = folder / file
    if path.suffix == '.jinja':
        path.write_text(template, encoding='utf-8')
    else:
        fields = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
        fields['chat_template'] = template if form == 'text' else [
            {'name': 'tool_use', 'template': 'none'}, {'name': 'default', 'template': template}]
        path.write_text(json.dumps(fields), encoding='utf-8')
    vlm = Vlm.load(folder, device='cpu')
    assert torch.equal(vlm.logits(*ask(vlm)), plain.logits(*ask(plain)))


@pytest.mark.parametrize(('outer', 'inner'), [(True, None), (None, True), (False, True)])
def test_tied_weights_may_be_said_of_the_text_alone(
        checkpoint: Path, tmp_path: Path, outer: bool | None, inner: bool | None) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / 'folder'))
    weights = load_file(folder / 'model.safetensors')
    head, = (name for name in weights if name.endswith('lm_head.weight'))
    del weights[head]
    save_file(weights, folder / 'model.safetensors', {'format': 'pt'})
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    for fields, tied in ((config, outer), (config['text_config'], inner)):
        fields.pop('tie_word_embeddings', None)
        if tied is not None:
            fields['tie_word_embeddings'] = tied
    (folder / 'config.json').write_text(json.dumps(config), encoding='utf-8')
    model = Vlm.load(folder, device='cpu').model
    assert torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    config['text_config']['tie_word_embeddings'] = config['tie_word_embeddings'] = False
    (folder / 'config.json').write_text(json.dumps(config), encoding='utf-8')
    with pytest.raises(VlmError, match=r'lacks weights, among them lm_head\.weight$'):
        Vlm.load(folder, device='cpu')


#: With this a file begins that Git LFS has not fetched.
POINTER = ('version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69\n'
           'size 4991495816\n')


def told(folder: Path, reason: str) -> None:
    with pytest.raises(VlmError, match=f'^{reason}$'):
        Vlm.load(folder, device='cpu')


@pytest.mark.parametrize('name', ['config.json', 'tokenizer.json', 'preprocessor_config.json',
                                  'model.safetensors'])
def test_what_git_lfs_has_not_fetched_is_told(
        checkpoint: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / 'folder'))
    (folder / name).write_text(POINTER, encoding='utf-8')
    told(folder, rf'{folder}/{name} is a Git LFS pointer: run git lfs pull in {folder}')
    if name == 'model.safetensors':
        # Its settings say what it costs all the same.
        assert load_blueprint(folder, device='cpu').network.device.type == 'meta'


def test_a_shard_that_git_lfs_has_not_fetched_is_told(checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / 'folder'))
    (folder / 'model.safetensors').unlink()
    Vlm.load(checkpoint, device='cpu').model.save_pretrained(folder, max_shard_size='40KB')
    shard = max(folder.glob('model-*.safetensors'))
    shard.write_text(POINTER, encoding='utf-8')
    told(folder, rf'{shard} is a Git LFS pointer: run git lfs pull in .*')


@pytest.mark.parametrize('is_alone', [True, False])
def test_of_gguf_files_it_is_told_what_to_do(
        checkpoint: Path, tmp_path: Path, is_alone: bool) -> None:
    folder = tmp_path / 'folder'
    folder.mkdir()
    if not is_alone:
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        (folder / 'model.gguf').write_bytes(b'GGUF')
        # Weights that can be read are read.
        assert Vlm.load(folder, device='cpu').info['family'] == 'internvl'
        (folder / 'model.safetensors').unlink()
    for name in ('model-Q4_K_M.gguf', 'mmproj-F16.gguf'):
        (folder / name).write_bytes(b'GGUF')
    told(folder, r'.*/folder holds GGUF files: serve them with llama\.cpp and set vlm\.backend to '
                 r'openai, or take the safetensors of the model')


def test_a_folder_that_is_something_else_is_told(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / 'outer').mkdir()
    folder = Path(shutil.copytree(checkpoint, tmp_path / 'outer' / 'inner'))
    told(tmp_path / 'outer', r'.*/outer lacks config\.json; the checkpoint is one folder deeper: '
                             r'.*/outer/inner')
    (folder / 'adapter_config.json').write_text('{"peft_type": "LORA"}', encoding='utf-8')
    told(folder, r'.*/inner holds a model and an adapter: move one of them, .*')
    (folder / 'adapter_config.json').unlink()
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    told(folder, r'.*/inner has weights as \.bin files, which can run code: .*')


@pytest.mark.parametrize(('method', 'fields', 'libraries'), [
    ('gptq', {'bits': 4}, 'accelerate gptqmodel'),
    ('awq', {'bits': 4}, 'accelerate gptqmodel'),
    ('bitsandbytes', {'load_in_4bit': True}, 'accelerate bitsandbytes'),
    ('compressed-tensors', {}, 'accelerate compressed-tensors')])
def test_a_quantised_checkpoint_without_its_library_names_it(
        checkpoint: Path, tmp_path: Path, method: str, fields: dict[str, Any],
        libraries: str) -> None:
    wanted = libraries.split()[-1].replace('-', '_')
    if find_spec(wanted) is not None:
        pytest.skip(f'{wanted} is installed')
    folder = Path(shutil.copytree(checkpoint, tmp_path / 'folder'))
    path = folder / 'config.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    path.write_text(json.dumps({**config, 'quantization_config': {
        'quant_method': method, **fields}}), encoding='utf-8')
    told(folder, rf'.*/folder cannot be loaded without its libraries: pip install {libraries}')


# Options


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_floats_are_as_asked_for(checkpoint: Path, dtype: str) -> None:
    vlm = Vlm.load(checkpoint, device='cpu', dtype=dtype)
    assert vlm.info['dtype'] == dtype
    prepared, keep = ask(vlm)
    assert prepared.tokens.dtype == getattr(torch, dtype)
    assert vlm.logits(prepared, keep).dtype == getattr(torch, dtype)


@pytest.mark.parametrize(('dtype', 'can', 'floats'), [
    ('bfloat16', (), 'float32'),
    ('bfloat16', ('avx512_f', 'avx512_bw', 'avx512_vl', 'avx512_dq'), 'float32'),
    ('bfloat16', ('avx512_f', 'avx512_bf16'), 'bfloat16'),
    ('float16', ('avx512_f', 'avx512_bf16', 'amx_bf16'), 'float32'),
    ('float16', ('fp16_arith',), 'float16'),
    ('float32', (), 'float32'),
])
def test_floats_that_the_processor_has_no_instructions_for_are_not_chosen(
        checkpoint: Path, tmp_path: Path, dtype: str, can: tuple[str, ...], floats: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict.fromkeys(can, True))
    folder = tmp_path / 'half'
    Vlm.load(checkpoint, device='cpu', dtype=dtype).model.save_pretrained(folder)
    for path in checkpoint.iterdir():
        if not (folder / path.name).exists():
            shutil.copy(path, folder)
    assert json.loads((folder / 'config.json').read_text())['dtype'] == dtype
    assert Vlm.load(folder, device='cpu').info['dtype'] == floats
    assert load_blueprint(folder, device='cpu').network.dtype == getattr(torch, floats)
    # What is asked for is done.
    assert Vlm.load(folder, device='cpu', dtype=dtype).info['dtype'] == dtype


def test_attention_is_as_asked_for_and_pruning_stays_exact(checkpoint: Path) -> None:
    found = {}
    for attention in ('auto', 'sdpa', 'eager'):
        vlm = Vlm.load(checkpoint, device='cpu', attn_implementation=attention)
        assert vlm.info['attention'] == ('sdpa' if attention == 'auto' else attention)
        found[attention] = vlm.logits(*ask(vlm))
    assert torch.equal(found['auto'], found['sdpa'])
    assert float((found['eager'] - found['sdpa']).abs().max()) < 1e-4


@pytest.mark.parametrize(('options', 'reason'), [
    ({'dtype': 'float99'}, r"dtype 'float99' is none: take auto, float32, bfloat16 or float16"),
    ({'dtype': 'nn'}, r"dtype 'nn' is none: .*"),
    ({'attn_implementation': 'nonsense'}, r'.* cannot be loaded: .*nonsense.*'),
    ({'attn_implementation': 'flash_attention_2'}, r'.* cannot be loaded: .*[Ff]lash.*'),
    ({'quantization': {'quant_method': 'nope'}}, r'.* cannot be loaded: .*nope.*'),
    ({'quantization': {'quant_method': 'bitsandbytes', 'load_in_4bit': True}},
     r'.* cannot be loaded( without its libraries)?: .*(accelerate|bitsandbytes).*'),
])
def test_what_cannot_be_is_one_line(
        checkpoint: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(VlmError, match=f'^{reason}$'):
        Vlm.load(checkpoint, device='cpu', **options)


@pytest.mark.parametrize(('text', 'reason'), [
    ('{', 'quantization is neither int8 nor JSON: .*'),
    ('[]', 'quantization is neither int8 nor a JSON object with a quant_method.*'),
    ('{"load_in_4bit": true}', 'quantization is neither int8 nor a JSON object with .*')])
def test_quantization_that_cannot_be_read_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(VlmError, match=f'^{reason}$'):
        Pipeline.load(PipelineConfig(quantization=text))


def test_settings_reach_the_model(checkpoint: Path) -> None:
    pipeline = Pipeline.load(PipelineConfig(
        model=str(checkpoint), device='cpu', dtype='bfloat16', attn_implementation='eager'))
    info = pipeline.info()
    assert (info['dtype'], info['attention'], info['device']) == ('bfloat16', 'eager', 'cpu')


def test_quantised_weights_are_pruned_as_others(checkpoint: Path, tmp_path: Path) -> None:
    """Quantised while loading, saved, and loaded as the checkpoint that it then is."""
    pytest.importorskip('accelerate')
    pytest.importorskip('torchao')
    from torchao.core.config import config_to_dict
    from torchao.quantization import Int8WeightOnlyConfig

    vlm = Vlm.load(checkpoint, device='cpu', quantization={
        'quant_method': 'torchao', 'quant_type': {'default': config_to_dict(
            Int8WeightOnlyConfig())}})
    weight = vlm.model.model.language_model.layers[0].self_attn.q_proj.weight
    assert type(weight).__module__.startswith('torchao')
    prepared, keep = ask(vlm)
    found = vlm.logits(prepared, keep)
    plain = Vlm.load(checkpoint, device='cpu')
    difference = float((found - plain.logits(*ask(plain))).abs().max() / found.abs().max())
    assert 0.0 < difference < 0.1
    directory = Path(shutil.copytree(checkpoint, tmp_path / 'quantised'))
    vlm.model.save_pretrained(directory)
    again = Vlm.load(directory, device='cpu')
    assert torch.equal(again.logits(*ask(again)), found)
