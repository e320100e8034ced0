"""Tensors on the wire: what is written is what is read, in whatever pieces it comes."""

import json
import os
from itertools import pairwise

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from service.api.v2.sinks import Clips, ElementsSink, FramesSink, frames_from_json
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
    np.testing.assert_array_equal(frames_from_json(frames.tolist(), frames.shape), frames)
    np.testing.assert_array_equal(frames_from_json(frames.ravel().tolist(), frames.shape), frames)


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
