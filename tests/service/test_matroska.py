"""Matroska files with countless tags, wherever FFmpeg would find them, sound ones with many, and those cut short."""

import struct

import numpy as np
import pytest

from service.errors import MediaLimitError, UndecodableMediaError
from tests.media import encode, numbered_frames
from tests.service.uploads import Decode

CLIP = encode(numbered_frames(40), "matroska")
SEGMENT = bytes.fromhex("18538067")
UNKNOWN_SIZE = b"\x01" + b"\xff" * 7


def element(number: str, *parts: bytes) -> bytes:
    """Return an element by its number, in hexadecimal digits, and its content."""
    content = b"".join(parts)
    return bytes.fromhex(number) + struct.pack(">Q", 1 << 56 | len(content)) + content


def tags(count: int) -> bytes:
    names = (element("45A3", b"NAME %d" % number) for number in range(count))
    return element("1254C367", element("7373", *(element("67C8", name, element("4487", b"value")) for name in names)))


def with_elements(*first: bytes, last: bytes = b"") -> bytes:
    """Return the clip with further elements at the beginning of its segment, and at its end."""
    head = CLIP[: CLIP.index(SEGMENT) + 4]
    return b"".join([head, UNKNOWN_SIZE, *first, CLIP[len(head) + 8 :], last])


def pointing_to(content: bytes) -> bytes:
    """Return the clip with elements that lie in an empty one at its end, and a table of contents with their place."""
    seek_id = element("53AB", bytes.fromhex("1254C367"))
    position = len(with_elements(element("114D9B74", element("4DBB", seek_id, element("53AC", bytes(8))))))
    # Counted from the beginning of the segment's content; the empty element's own head has 9 bytes.
    place = struct.pack(">Q", position + 9 - CLIP.index(SEGMENT) - 12)
    return with_elements(
        element("114D9B74", element("4DBB", seek_id, element("53AC", place))), last=element("EC", content)
    )


@pytest.mark.parametrize(
    "content",
    [
        with_elements(tags(5000)),
        with_elements(*[tags(500)] * 10),
        with_elements(bytes(1000), tags(5000)),
        with_elements(b"\xec\x01\x7f" + bytes(6), tags(5000)),
        pointing_to(tags(5000)),
    ],
    ids=["at the beginning", "in parts", "behind garbage", "behind an endless element", "in an empty element"],
)
def test_countless_tags_are_refused(decode: Decode, content: bytes) -> None:
    with pytest.raises(MediaLimitError, match="the upload has more than 4096 tags: save it without them"):
        decode(content)


def test_countless_elements_are_refused(decode: Decode) -> None:
    with pytest.raises(MediaLimitError, match="more than 65536 elements in its head: encode it again"):
        decode(with_elements(b"\xec\x80" * 70_000))


@pytest.mark.parametrize(
    "content",
    [
        with_elements(tags(4000)),
        with_elements(last=tags(5000)),
        with_elements(last=element("1F43B675", element("E7", b"\0")) * 100_000),
        with_elements(b"\xec\x80" * 50_000),
        pointing_to(tags(4000)),
    ],
    ids=["tags", "tags that nothing points to", "clusters", "empty elements", "tags in an empty element"],
)
def test_sound_clip_with_many_of_them_is_taken(decode: Decode, content: bytes) -> None:
    assert np.array_equal(decode(content).arrays[0], decode(CLIP).arrays[0])


LIVE = encode(numbered_frames(40), "webm", "libvpx", container_options={"live": "1"})


def test_clip_of_unknown_sizes_is_taken(decode: Decode) -> None:
    assert SEGMENT + UNKNOWN_SIZE in LIVE
    assert decode(LIVE).result.media.frames == 40


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("whole", [CLIP, encode(numbered_frames(40), "webm", "libvpx")], ids=["matroska", "webm"])
def test_clip_that_is_cut_short_is_refused(decode: Decode, whole: bytes, share: float) -> None:
    sent = whole[: int(share * len(whole))]
    with pytest.raises(UndecodableMediaError) as refused:
        decode(sent)
    assert refused.value.detail == f"the upload is cut short: {len(sent)} bytes came, its index reaches to {len(whole)}"


def test_clip_without_its_last_byte_is_refused_and_one_with_more_behind_it_is_taken(decode: Decode) -> None:
    with pytest.raises(UndecodableMediaError, match=f"cut short: {len(CLIP) - 1} bytes came"):
        decode(CLIP[:-1])
    assert np.array_equal(decode(CLIP + bytes(1000)).arrays[0], decode(CLIP).arrays[0])


def test_live_recording_that_ends_early_is_taken_for_what_came(decode: Decode) -> None:
    assert 10 < decode(LIVE[: len(LIVE) * 2 // 3]).result.media.frames < 40
