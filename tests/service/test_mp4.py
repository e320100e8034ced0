"""MP4 files whose few bytes claim millions of samples, edits, boxes or tags, sound ones with a lot, and half ones."""

import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from service.errors import MediaLimitError, UndecodableMediaError, UnsupportedMediaError
from tests.media import decode_request, encode, numbered_frames
from tests.server import ROOT
from tests.service.uploads import Decode

# The index comes last: nothing has to move when it grows.
CLIP = encode(numbered_frames(40))
CONTAINERS = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl")


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def table(kind: bytes, *numbers: int) -> bytes:
    """Return a box of version 0 without flags whose content is numbers of 32 bits."""
    return box(kind, struct.pack(f">{1 + len(numbers)}I", 0, *numbers))


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position < len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        yield kind, content[position + 8 : position + size]
        position += size


def changed(content: bytes, change: Callable[[bytes, bytes], bytes]) -> bytes:
    """Return a file with `change(kind, content)` in place of each box that holds no other."""
    return b"".join(
        box(kind, changed(inner, change)) if kind in CONTAINERS else change(kind, inner)
        for kind, inner in boxes(content)
    )


def with_tables(*tables: bytes, clip: bytes = CLIP) -> bytes:
    """Return the clip with these boxes in place of those of the same kind."""
    by_kind = {table[4:8]: table for table in tables}
    return changed(clip, lambda kind, inner: by_kind.get(kind, box(kind, inner)))


def with_more(kind: bytes, more: bytes, clip: bytes = CLIP) -> bytes:
    """Return the clip with further boxes at the end of its container of that kind."""
    return b"".join(
        box(found, inner, more) if found == kind else box(found, inner) if found != b"moov"
        else box(found, with_more(kind, more, inner))
        for found, inner in boxes(clip)
    )  # fmt: skip


def edits(count: int) -> bytes:
    return box(b"elst", struct.pack(">II", 0, count), struct.pack(">Iii", 33, 0, 1 << 16) * count)


def one_size(samples: int) -> bytes:
    """Return the sizes of so many samples, all of one byte, that lie in one piece."""
    return with_tables(
        table(b"stsz", 1, samples), table(b"stts", 1, samples, 1), table(b"stsc", 1, 1, samples, 1), table(b"ctts", 0)
    )


def fragments(samples: int, runs: int) -> bytes:
    """Return a clip with a fragment of so many runs, each of which claims so many samples."""
    defaults = struct.pack(">4I", 0x20018, 1, 512, 10)
    fragment = box(b"traf", box(b"tfhd", defaults), table(b"trun", samples) * runs)
    extended = with_more(b"moov", box(b"mvex", table(b"trex", 1, 1, 512, 10, 0)))
    return extended + box(b"moof", table(b"mfhd", 1), fragment)


def other_track(handler: bytes, samples: int, ticks: int) -> bytes:
    """Return a clip with a second track of that kind, as in QuickTime, and so many samples of one byte."""
    by_kind = {
        b"hdlr": box(b"hdlr", bytes(4), b"mhlr", handler, bytes(13)),
        b"dinf": box(b"hdlr", bytes(4), b"dhlr", b"alis", bytes(13)),
        b"stsz": table(b"stsz", 1, samples),
        b"stts": table(b"stts", 1, samples, ticks),
        b"ctts": b"",
    }
    (movie,) = (inner for kind, inner in boxes(CLIP) if kind == b"moov")
    (track,) = (inner for kind, inner in boxes(movie) if kind == b"trak")
    return with_more(b"moov", box(b"trak", changed(track, lambda kind, inner: by_kind.get(kind, box(kind, inner)))))


@pytest.mark.parametrize(
    "content",
    [
        one_size(5_000_000),
        with_tables(table(b"stsz", 0, 0xFFFFFFFF)),
        with_tables(edits(200_000)),
        fragments(5_000_000, 1),
        fragments(50_000, 100),
        other_track(b"text", 5_000_000, 1),
        other_track(b"soun", 5_000_000, 2),
    ],
    ids=["samples", "all samples", "edits", "run", "runs", "samples of text", "samples of sound"],
)
def test_claim_of_millions_of_samples_is_refused(decode: Decode, content: bytes) -> None:
    with pytest.raises(MediaLimitError, match="tables and edit lists name more than 4194304 samples: encode it again"):
        decode(content)


def test_index_of_far_more_frames_than_the_limit_is_refused(decode: Decode) -> None:
    with pytest.raises(MediaLimitError, match="the video has more than 10000 frames"):
        decode(one_size(400_000))


def test_countless_empty_samples_are_refused(decode: Decode) -> None:
    sizes = box(b"stsz", struct.pack(">III", 0, 0, 45_000), bytes(4 * 45_000))
    empty = with_tables(sizes, table(b"stts", 1, 45_000, 1), table(b"stsc", 1, 1, 45_000, 1), table(b"ctts", 0))
    limits = decode_request().limits.model_copy(update={"max_frames": 5000})
    with pytest.raises(MediaLimitError, match="the video has more than 5000 frames"):
        decode(empty, decode_request(limits=limits))


@pytest.mark.parametrize(
    "content",
    [CLIP + box(b"free") * 140_000, with_more(b"moov", box(b"free") * 140_000)],
    ids=["behind the clip", "in the index"],
)
def test_countless_boxes_are_refused(decode: Decode, content: bytes) -> None:
    with pytest.raises(MediaLimitError, match="more than 131072 boxes"):
        decode(content)


def tags(count: int) -> bytes:
    """Return metadata as iTunes writes them, each with a name of its own."""
    handler = box(b"hdlr", bytes(8), b"mdir", bytes(13))
    names = (box(b"name", bytes(4), b"name %d" % number) for number in range(count))
    data = box(b"data", struct.pack(">II", 1, 0), b"value")
    entries = (box(b"----", box(b"mean", bytes(4), b"mean"), name, data) for name in names)
    return box(b"udta", box(b"meta", bytes(4), handler, box(b"ilst", *entries)))


def test_countless_tags_are_refused(decode: Decode) -> None:
    with pytest.raises(MediaLimitError, match="more than 1024 tags: save it without them"):
        decode(with_more(b"moov", tags(2000)))


def test_compressed_index_is_refused(decode: Decode) -> None:
    packed = b"".join(box(kind, inner) for kind, inner in boxes(CLIP) if kind != b"moov") + box(b"moov", box(b"cmov"))
    with pytest.raises(UnsupportedMediaError, match="QuickTime files with a compressed header are not accepted"):
        decode(packed)


@pytest.mark.parametrize(
    "content",
    [
        with_more(b"moov", tags(1000)),
        CLIP + box(b"free") * 100_000,
        # Uncompressed sound of an hour, as QuickTime counts it: 48,000 samples a second.
        other_track(b"soun", 48_000 * 3600, 1),
        CLIP + struct.pack(">I4sQ", 1, b"free", 16) + box(b"free"),
        CLIP + struct.pack(">I4s", 0, b"free") + bytes(1000),
    ],
    ids=["a thousand tags", "many boxes", "an hour of sound", "long size", "up to the end"],
)
def test_sound_clip_with_a_lot_of_them_is_taken(decode: Decode, content: bytes) -> None:
    assert np.array_equal(decode(content).arrays[0], decode(CLIP).arrays[0])


# A size of one: the real one, of 64 bits, follows; here it would lie outside of the box around.
HALF_A_HEAD = struct.pack(">I4s", 1, b"hdlr")


@pytest.mark.parametrize("more", [b"", bytes(4), bytes(7)])
def test_box_whose_head_does_not_fit_into_the_one_around_it_is_no_box(decode: Decode, more: bytes) -> None:
    content = with_more(b"moov", box(b"udta", HALF_A_HEAD, more) * 40)
    assert np.array_equal(decode(content).arrays[0], decode(CLIP).arrays[0])


SAMPLE = (ROOT / "demo/media/sample.mp4").read_bytes()


@pytest.mark.parametrize("tables", [b"mvhd", b"trak", b"hdlr", b"stsd", b"stts", b"stsz", b"stco"])
def test_clip_that_is_cut_short_within_its_index_is_told_so(decode: Decode, tables: bytes) -> None:
    index = SAMPLE.index(b"moov") - 4
    (index_bytes,) = struct.unpack_from(">I", SAMPLE, index)
    sent = SAMPLE[: SAMPLE.index(tables, index) + 12]
    with pytest.raises(UndecodableMediaError) as refused:
        decode(sent)
    expected = f"the upload is cut short: {len(sent)} bytes came, its index reaches to {index + index_bytes}"
    assert refused.value.detail == expected


def test_index_that_reaches_to_the_end_without_a_size_is_taken(decode: Decode) -> None:
    place = CLIP.rindex(b"moov") - 4
    assert place + struct.unpack_from(">I", CLIP, place)[0] == len(CLIP)
    endless = CLIP[:place] + bytes(4) + CLIP[place + 4 :]
    assert np.array_equal(decode(endless).arrays[0], decode(CLIP).arrays[0])
