# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What strangers may send: pictures, messages, questions, reports, prompt files, bags.

Everything is either used or refused in one line; nothing else may leave, and nothing may grow.
"""

from __future__ import annotations

import json
from pathlib import Path
import resource
import struct
import tempfile
from types import SimpleNamespace
from typing import Any
import zlib

from bag_maker import drive, jpeg, picture
import cv2
from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from vts_ros.errors import BagError, FrameError, PromptError
from vts_ros.pipeline.compressed_images import decode_image, MAX_PIXELS
from vts_ros.pipeline.raw_images import raw_rgb
from vts_ros.pipeline.report import SceneReport
from vts_ros.tools.bag_frames import read_frames
from vts_ros.vlm.answers import parse
from vts_ros.vlm.boxes import PictureSize
from vts_ros.vlm.conventions import CONVENTIONS
from vts_ros.vlm.prompts import Prompts

pytestmark = pytest.mark.slow

#: Damaged files are large and often refused: hypothesis need not complain.
fuzz = settings(suppress_health_check=list(HealthCheck))

WHOLE = [jpeg(picture(3)), cv2.imencode('.png', picture(3))[1].tobytes(),
         cv2.imencode('.webp', picture(3))[1].tobytes()]
ENCODINGS = ('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16', '8UC3', '32FC1', 'nv12', 'nv21',
             'yuv422', 'yuv422_yuy2', 'bayer_rggb8', 'bayer_gbrg16', '', 'sonar', 'rgb8; jpeg')


def check_reason(error: Exception) -> None:
    """The reason is one short line."""
    assert str(error)
    assert '\n' not in str(error)
    assert len(str(error)) < 500


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return the bytes with some of them changed, missing or added."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        what = draw(st.sampled_from(('change', 'cut', 'add')))
        if what == 'change' and data:
            data[place] = draw(st.integers(0, 255))
        elif what == 'cut':
            del data[place:place + draw(st.integers(1, 400))]
        else:
            data[place:place] = draw(st.binary(min_size=1, max_size=40))
    return bytes(data)


@fuzz
@given(st.one_of(st.binary(max_size=2000), *(damaged(whole) for whole in WHOLE)))
def test_compressed_pictures(data: bytes) -> None:
    try:
        rgb = decode_image(data)
    except FrameError as error:
        check_reason(error)
    else:
        assert rgb.dtype == np.uint8
        assert rgb.shape[2] == 3


@fuzz
@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_pictures_that_claim_to_be_huge_take_no_memory(width: int, height: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack(
            '>I', zlib.crc32(kind + data))

    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    png = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', b'') + chunk(b'IEND', b'')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FrameError) as caught:
        decode_image(png)
    check_reason(caught.value)
    # KiB; what is within the limit may be made room for.
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown <= 2 * 3 * MAX_PIXELS / 1024


@fuzz
@given(st.sampled_from(ENCODINGS) | st.text(max_size=20), st.integers(0, 2**32 - 1) |
       st.integers(0, 64), st.integers(0, 2**32 - 1) | st.integers(0, 64),
       st.integers(0, 2**32 - 1) | st.integers(0, 200), st.integers(0, 255),
       st.binary(max_size=6000))
def test_raw_pictures(encoding: str, height: int, width: int, step: int, is_bigendian: int,
                      data: bytes) -> None:
    message = SimpleNamespace(encoding=encoding, height=height, width=width, step=step,
                              is_bigendian=is_bigendian, data=np.frombuffer(data, np.uint8))
    try:
        rgb = raw_rgb(message)
    except FrameError as error:
        check_reason(error)
    else:
        assert rgb.shape == (height, width, 3)
        assert rgb.nbytes <= 4 * len(data)


@fuzz
@given(st.text(max_size=3000) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(('risk', 'object', 'label', 'box', 'bbox_2d', 'description', 'x')),
        inner, max_size=5)).map(lambda value: json.dumps(value)),
    st.sampled_from(list(CONVENTIONS)))
def test_answers_of_the_model(text: str, family: str) -> None:
    answer = parse(text, CONVENTIONS[family].box, PictureSize((644.0, 364.0), (1920.0, 1080.0)))
    assert answer.risk in ('none', 'low', 'medium', 'high', 'unknown')
    if answer.box:
        assert all(0.0 <= side <= 1.0 for side in answer.box)


@fuzz
@given(st.dictionaries(st.sampled_from((
    'schema', 'stamp', 'frames', 'key_frame', 'description', 'risk', 'object', 'explanation',
    'action', 'tokens', 'latency_ms', 'age_ms', 'model', 'engine')), st.one_of(
        st.just(1), st.none(), st.text(max_size=5), st.lists(st.integers(), max_size=3),
        st.dictionaries(st.sampled_from(('level', 'camera', 'stamp', 'index', 'keep', 'grid')),
                        st.integers() | st.lists(st.integers(), max_size=3)))))
def test_reports(data: dict[str, Any]) -> None:
    try:
        SceneReport.from_dict(data)
    except ValueError as error:
        check_reason(error)


@fuzz
@given(st.text(max_size=500))
def test_questions_stay_one_line_of_the_prompt(question: str) -> None:
    prompts = Prompts.load()
    asked = prompts.ask(question)
    before, _, after = prompts.question.instruction.partition('{question}')
    assert asked.instruction.startswith(before)
    assert asked.instruction.endswith(after)
    assert '\n' not in asked.instruction[len(before):]
    assert asked.system == prompts.question.system


@fuzz
@given(st.binary(max_size=300) | damaged(
    (Path(__file__).parents[1] / 'config/tasks/driving/prompts.yaml').read_bytes()))
def test_prompt_files(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix='.yaml') as file:
        file.write(data)
        file.flush()
        try:
            Prompts.load('en', file.name)
        except PromptError as error:
            check_reason(error)


@pytest.fixture(scope='module')
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the storage file of a small bag."""
    return next(drive(tmp_path_factory.mktemp('bags') / 'drive', 4).glob('*.mcap'))


@fuzz
@given(st.data())
def test_bags(recording: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'x.mcap')
        path.write_bytes(data.draw(damaged(recording.read_bytes())))
        try:
            for frame in read_frames(path):
                assert frame.size_bytes <= path.stat().st_size
        except BagError as error:
            check_reason(error)
        assert list(Path(folder).iterdir()) == [path]
