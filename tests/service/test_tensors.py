"""Tensors on the wire: what is written is what is read, in whatever pieces it comes."""

import json
import os
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from service.api.v2.numbers import take_out_numbers, values_from_json
from service.api.v2.sinks import Clips, ElementsSink, FramesSink
from service.api.v2.tensors import BytesTensor, OutputTensor, encode_elements, infer_response
from service.errors import BadParameterError, ServiceError

# A file is looked at when it is complete, so that each begins as a JPEG does.
FILES = st.lists(st.binary(max_size=40).map(lambda content: b"\xff\xd8\xff" + content), min_size=1, max_size=5)
SHAPES = st.tuples(*[st.integers(1, 4)] * 4)


def pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    return [content[begin:end] for begin, end in pairwise(edges)]


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(FILES, CUTS)
def test_elements_are_read_in_any_pieces(files: list[bytes], cuts: list[int]) -> None:
    content = serialize_byte_tensor(np.array(files, dtype=np.object_)).item()
    clips = Clips()
    try:
        sink = ElementsSink(clips, len(files), len(content))
        for piece in pieces(content, cuts):
            sink.write(piece)
        sink.finish()
        assert [os.pread(descriptor, 1000, 0) for descriptor in clips.descriptors] == files
    finally:
        clips.close()


@given(st.one_of(st.binary(max_size=60), FILES.map(encode_elements)), st.integers(0, 5), CUTS)
def test_any_bytes_are_elements_or_refused(content: bytes, count: int, cuts: list[int]) -> None:
    clips = Clips()
    sink = ElementsSink(clips, count, len(content))
    try:
        for piece in pieces(content, cuts):
            sink.write(piece)
        sink.finish()
        elements = [os.pread(descriptor, 1000, 0) for descriptor in clips.descriptors]
    except ServiceError:
        return
    finally:
        clips.close()
    assert len(elements) == count
    assert encode_elements(elements) == content


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_tritons_client_reads_the_elements_that_are_written(elements: list[bytes]) -> None:
    assert list(deserialize_bytes_tensor(encode_elements(elements))) == elements


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)), CUTS)
def test_frames_are_read_in_any_pieces_and_from_json(frames: np.ndarray, cuts: list[int]) -> None:
    sink = FramesSink(frames.shape)
    for piece in pieces(frames.tobytes(), cuts):
        sink.write(piece)
    sink.finish()
    np.testing.assert_array_equal(sink.frames, frames)
    for values in (frames.tolist(), frames.ravel().tolist()):
        for text in (json.dumps(values).encode(), json.dumps(values, indent=1, separators=(" ,", ":")).encode()):
            np.testing.assert_array_equal(values_from_json(text, frames.shape, "frames"), frames)


# What may stand where, with what only seems to be the end of a text or of a list.
KEYS = st.sampled_from(["data", "Data", 'da"data', "data\\", "[1]", "name"])
LEAVES = st.one_of(st.integers(-5, 300), st.floats(0, 3), st.booleans(), st.none(), KEYS, st.text(max_size=5))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 2]))
def test_what_is_left_of_json_is_json_and_the_rest_a_list(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    rest, numbers = take_out_numbers(text.encode())
    if numbers is None:
        assert rest == text.encode()
        return
    # With the list in place of the first `true` called data that was none, everything is as it was.
    assert isinstance(json.loads(numbers), list)
    json.loads(rest)
    at = next(at for at in range(len(rest)) if rest[:at] + numbers + rest[at + 4 :] == text.encode())
    assert rest[at : at + 4] == b"true"
    assert rest[:at].rstrip(b" \n:").endswith(b'data"')


@given(st.text(alphabet="[]0123456789, .-\n", max_size=12), st.sampled_from([(1,), (2,), (1, 1), (2, 1), (1, 2), (0,)]))
def test_values_are_those_of_a_json_parser_or_refused(text: str, shape: tuple[int, ...]) -> None:
    try:
        parsed = np.array(json.loads(text))
        fits = parsed.shape in (shape, (int(np.prod(shape)),)) and (parsed.dtype.kind == "i" or not parsed.size)
        expected = (
            parsed.reshape(shape) if fits and ((parsed >= 0) & (parsed <= 255)).all() and "-" not in text else None
        )
    except ValueError:
        expected = None
    try:
        values = values_from_json(text.encode(), shape, "frames")
    except BadParameterError:
        assert expected is None
    else:
        assert expected is not None
        np.testing.assert_array_equal(values, expected)


@given(SHAPES, st.integers(1, 5))
def test_missing_frames_are_noticed(shape: tuple[int, ...], missing: int) -> None:
    size = int(np.prod(shape))
    sink = FramesSink(shape)
    sink.write(bytes(max(size - missing, 0)))
    with pytest.raises(BadParameterError):
        sink.finish()


@given(arrays(np.float32, (2, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)), st.booleans())
def test_tritons_client_reads_the_numbers_that_are_written(numbers: np.ndarray, binary: bool) -> None:
    names = BytesTensor((1,), [b"0.5:1:label"])
    outputs = [OutputTensor("names", names, True), OutputTensor("numbers", numbers, binary)]
    answer = infer_response({"model_name": "m"}, outputs, 10_000)
    result = triton.InferResult.from_response_body(
        b"".join(answer.parts), header_length=answer.headers["inference-header-content-length"]
    )
    np.testing.assert_array_equal(result.as_numpy("numbers"), numbers)
    assert result.as_numpy("numbers").shape == numbers.shape
    assert list(result.as_numpy("names")) == [b"0.5:1:label"]


@pytest.mark.parametrize("count", [0, 9_999, 10_000, 10_001, 25_000])
def test_many_numbers_are_one_list_of_json(count: int) -> None:
    numbers = np.random.default_rng(count).integers(0, 256, (1, count), np.uint8)
    answer = infer_response({"model_name": "m"}, [OutputTensor("numbers", numbers, False)], 100_000)
    expected = {"name": "numbers", "datatype": "UINT8", "shape": [1, count], "data": numbers[0].tolist()}
    assert json.loads(b"".join(answer.parts)) == {"model_name": "m", "outputs": [expected]}
