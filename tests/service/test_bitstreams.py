"""The readers of coded packets take any bytes: they tell what a packet is, or that they cannot."""

import io
from contextlib import suppress

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.media.bitstreams.bits import BitReader
from service.media.bitstreams.h264 import read_pictures as read_h264
from service.media.bitstreams.h264 import reordered_frames
from service.media.bitstreams.hevc import read_pictures as read_hevc
from service.media.bitstreams.mpeg import presentation_order, read_mpeg2_pictures, read_mpeg4_pictures
from service.media.bitstreams.pictures import CodedPicture, ParameterSets, UnknownStructureError
from service.media.bitstreams.vpx import read_vp8_pictures, read_vp9_pictures
from tests.media import encode, numbered_frames

READERS = {
    "libx264": read_h264,
    "libx265": read_hevc,
    "mpeg2video": lambda _, packets: read_mpeg2_pictures(packets),
    "mpeg4": lambda _, packets: read_mpeg4_pictures(packets),
    "libvpx": lambda _, packets: read_vp8_pictures(packets),
    "libvpx-vp9": lambda _, packets: read_vp9_pictures(packets),
}
FRAMES = numbered_frames(8, 64, 64)


def packets_of(codec: str, container: str) -> tuple[bytes, list[bytes]]:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    content = encode(FRAMES, container, codec, fps=25, options=options)
    with av.open(io.BytesIO(content)) as source:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        return source.streams.video[0].codec_context.extradata or b"", packets


STREAMS = [
    (codec, *packets_of(codec, container))
    for codec in READERS
    for container in ("matroska", "mpegts")
    if container == "matroska" or "vpx" not in codec
]


@pytest.mark.parametrize(("codec", "extradata", "packets"), STREAMS)
@given(data=st.data())
def test_damaged_bytes_are_told_from_a_structure_or_taken_for_one(
    codec: str, extradata: bytes, packets: list[bytes], data: st.DataObject
) -> None:
    def damaged(content: bytes) -> bytes:
        end = data.draw(st.integers(0, len(content)))
        changed = bytearray(content[:end])
        for _ in range(data.draw(st.integers(0, 3)) if changed else 0):
            changed[data.draw(st.integers(0, min(end, 64) - 1))] = data.draw(st.integers(0, 255))
        return bytes(changed)

    number = data.draw(st.integers(0, len(packets) - 1))
    # The demuxer hands on no empty packets.
    broken = [*packets[:number], damaged(packets[number]) or b"\0", *packets[number + 1 :]]
    with suppress(UnknownStructureError):
        pictures = list(READERS[codec](damaged(extradata), broken))
        assert len(pictures) == len(packets)


@given(st.binary(max_size=64), st.lists(st.binary(min_size=1, max_size=64), max_size=3))
def test_noise_is_no_obstacle(extradata: bytes, packets: list[bytes]) -> None:
    for reader in READERS.values():
        with suppress(UnknownStructureError):
            assert len(list(reader(extradata, packets))) == len(packets)


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, 255]), max_size=40).map(bytes))
def test_bytes_that_prevent_start_codes_are_left_out(content: bytes) -> None:
    # Escape as clause 7.4.1 says: two zero bytes are never followed by a byte below 4.
    escaped = bytearray()
    for byte in content:
        if escaped[-2:] == b"\0\0" and byte <= 3:
            escaped.append(3)
        escaped.append(byte)
    bits = BitReader(bytes(escaped))
    assert bytes(bits.read(8) for _ in content) == content


# ue(v) and se(v), table 9-2 and 9-3 of the standard.
@pytest.mark.parametrize(("code", "value", "signed"), [("1", 0, 0), ("010", 1, 1), ("011", 2, -1), ("00100", 3, 2)])
def test_exponential_golomb_codes(code: str, value: int, signed: int) -> None:
    content = bytes([int(code.ljust(8, "1"), 2)])
    assert BitReader(content).golomb() == value
    assert BitReader(content).signed_golomb() == signed


def test_b_pictures_are_shown_before_the_picture_that_was_decoded_before_them() -> None:
    kinds = "IPBBPBI"  # shown as I B B P B P I
    pictures = [CodedPicture(starts=kind == "I", referenced=kind != "B") for kind in kinds]
    assert presentation_order(pictures) == [0, 3, 1, 2, 5, 4, 6]


def test_headers_decide_where_a_decoder_can_begin() -> None:
    a, b, c = frozenset([b"a"]), frozenset([b"b"]), frozenset([b"c"])
    nothing: frozenset[bytes] = frozenset()
    outside = ParameterSets(a)
    assert [outside.complete_in(headers) for headers in (nothing, a, nothing)] == [True, True, True]
    inside = ParameterSets(nothing)
    assert [inside.complete_in(headers) for headers in (a | b, nothing, a | b)] == [True, False, True]
    for first, second in ((a, b), (a | b, a), (nothing, c)):
        sets = ParameterSets(nothing)
        sets.complete_in(first)
        with pytest.raises(UnknownStructureError):
            sets.complete_in(second)


def test_end_of_a_sequence_in_hevc_is_noticed() -> None:
    # Behind it a keyframe drops the leading pictures that it would else keep.
    extradata, packets = packets_of("libx265", "mpegts")
    assert len(list(read_hevc(extradata, packets))) == len(FRAMES)
    end_of_sequence = b"\0\0\1" + bytes([36 << 1, 1])
    with pytest.raises(UnknownStructureError):
        list(read_hevc(extradata, [packets[0] + end_of_sequence, *packets[1:]]))


@pytest.mark.parametrize(
    "parameters",
    [
        "bframes=0",
        "bframes=3:b-pyramid=none",
        "bframes=3:b-pyramid=normal",
        "bframes=3:b-pyramid=normal:interlaced=1",
        "bframes=2:sar=4/3:overscan=show:fullrange=on:colorprim=bt709:transfer=bt709:colormatrix=bt709:chromaloc=1",
        "bframes=2:sar=16/15:nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500:pic-struct=1",
    ],
)
def test_number_of_reordered_frames_is_read_where_ffmpeg_finds_it(parameters: str) -> None:
    content = encode(FRAMES, options={"x264-params": parameters})
    with av.open(io.BytesIO(content)) as source:
        decoder = source.streams.video[0].codec_context
        assert reordered_frames(decoder.extradata or b"") == decoder.reorder_depth


def test_number_of_reordered_frames_may_be_left_open() -> None:
    # x264 says nothing of it when all pictures are keyframes.
    with av.open(io.BytesIO(encode(FRAMES, options={"x264-params": "keyint=1"}))) as source:
        assert reordered_frames(source.streams.video[0].codec_context.extradata or b"") is None
    assert reordered_frames(b"") is None


@given(st.binary(max_size=64))
def test_number_of_reordered_frames_in_noise(noise: bytes) -> None:
    for extradata in (noise, b"\1\x64\0\x1f\xff\xe1" + len(noise).to_bytes(2, "big") + noise, b"\0\0\1\x67" + noise):
        depth = reordered_frames(extradata)
        assert depth is None or 0 <= depth <= 16
