"""PNG files with far more data than their picture, texts that inflate without end, and the fattest that are sound."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from service.errors import MediaLimitError
from tests.media import decode, decode_request, encode
from tests.service.uploads import Decode, decode_worker

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, data: bytes, chunk_bytes: int = 1 << 20, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG file of that size and kind with the compressed `data`, in chunks of `chunk_bytes`."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IDAT", data[at : at + chunk_bytes]) for at in range(0, len(data), chunk_bytes)]
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *parts, chunk(b"IEND", b"")])


@pytest.mark.parametrize("chunk_bytes", [1 << 20, 64])
@pytest.mark.parametrize("size", [1, 16])
def test_picture_with_endless_data_is_refused(size: int, chunk_bytes: int) -> None:
    bomb = png(size, size, zlib.compress(bytes(64 << 20), 9), chunk_bytes)
    assert len(bomb) < 1 << 18
    with pytest.raises(MediaLimitError, match=rf"a PNG of {size}x{size} needs \d+ bytes of compressed data at most"):
        decode(bomb, decode_request())


def test_file_of_countless_chunks_is_refused() -> None:
    content = png(1, 1, zlib.compress(bytes(4)))
    crowded = content[:33] + chunk(b"tEXt", b"") * 70_000 + content[33:]
    with pytest.raises(MediaLimitError, match="more than 65536 chunks"):
        decode(crowded, decode_request())


@pytest.fixture(scope="module")
def worker() -> Iterator[Decode]:
    with decode_worker() as decode:
        yield decode


PLAIN = png(1, 1, zlib.compress(bytes(4)))
ZEROS = zlib.compress(bytes(64 << 20), 9)


def with_chunks(*chunks: bytes, picture: bytes = PLAIN) -> bytes:
    """Return the picture with further chunks behind its header."""
    return b"".join([picture[:33], *chunks, picture[33:]])


def animation(*frames: bytes) -> bytes:
    """Return an animated PNG of one pixel with the compressed data of its frames."""
    parts = [chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    for number, data in enumerate(frames):
        order = struct.pack(">I", max(0, 2 * number - 1))
        parts.append(chunk(b"fcTL", order + struct.pack(">IIIIHHBB", 1, 1, 0, 0, 1, 30, 0, 0)))
        parts.append(chunk(b"fdAT", struct.pack(">I", 2 * number) + data) if number else chunk(b"IDAT", data))
    return b"".join([PLAIN[:33], *parts, PLAIN[-12:]])


ONE_PIXEL = zlib.compress(bytes(4))


@pytest.mark.parametrize(
    "content",
    [
        with_chunks(chunk(b"zTXt", b"Comment\0\0" + ZEROS)),
        with_chunks(chunk(b"zTXt", bytes([65]) * 2000 + b"\0\0" + ZEROS)),
        with_chunks(chunk(b"iCCP", b"profile\0\0" + ZEROS)),
        with_chunks(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 20))) * 20),
        # Damaged at its end alone: by then the decoder has inflated it.
        with_chunks(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(8 << 20))[:-4] + bytes(4)) * 20),
        PLAIN[:-12] + chunk(b"zTXt", b"Comment\0\0" + ZEROS) + PLAIN[-12:],
        with_chunks(chunk(b"zTXt", b"Comment\0\0" + ZEROS), picture=animation(ONE_PIXEL, ONE_PIXEL)),
    ],
    ids=["text", "long name", "profile", "many texts", "damaged texts", "behind the picture", "animation"],
)
def test_text_or_profile_that_inflates_without_end_is_refused(worker: Decode, content: bytes) -> None:
    assert len(content) < 1 << 18
    with pytest.raises(MediaLimitError, match="have more than 16777216 bytes when they are inflated"):
        worker(content)


def test_countless_texts_are_refused(worker: Decode) -> None:
    texts = [chunk(b"tEXt", b"key %d\0value" % number) for number in range(2000)]
    with pytest.raises(MediaLimitError, match="the PNG has more than 1024 texts: save the picture without them"):
        worker(with_chunks(*texts))


@pytest.mark.parametrize("frames", [(ZEROS,), (ONE_PIXEL, ZEROS)], ids=["first frame", "second frame"])
def test_animation_with_endless_data_is_refused(worker: Decode, frames: tuple[bytes, ...]) -> None:
    with pytest.raises(MediaLimitError, match=r"a PNG of 1x1 needs \d+ bytes of compressed data at most"):
        worker(animation(*frames))


def test_animation_whose_frames_together_have_more_data_than_one_is_taken(worker: Decode) -> None:
    assert worker(animation(*[zlib.compress(bytes(4), 0)] * 500)).result.media.frames == 500


def test_sound_picture_with_a_large_profile_and_damaged_texts_is_taken(worker: Decode) -> None:
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(4 << 20)))
    text = chunk(b"zTXt", b"Comment\0\0" + NOISE.tobytes())
    long_text = chunk(b"tEXt", b"workflow\0" + bytes([65]) * (4 << 20))
    picture = with_chunks(profile, *[text] * 5, long_text, *[chunk(b"tEXt", b"key\0value")] * 500)
    assert np.array_equal(worker(picture).arrays[0], worker(PLAIN).arrays[0])


def test_sound_picture_that_is_not_compressed_at_all_is_taken() -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in NOISE)
    # A stored block for each row and another, empty one: what encoders write that flush after each row.
    compressor = zlib.compressobj(0)
    lines = [rows[at : at + 181] for at in range(0, len(rows), 181)]
    flushed = b"".join(compressor.compress(line) + compressor.flush(zlib.Z_FULL_FLUSH) for line in lines)
    content = png(60, 40, flushed + compressor.flush(), chunk_bytes=16)
    expected = decode(encode(NOISE[None], "image2pipe", "png", pix_fmt="rgb24"), decode_request())[1]
    assert np.array_equal(decode(content, decode_request())[1], expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (37, 61)])
def test_sound_pictures_of_every_kind_are_taken(mode: str, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture = picture.convert("L").convert(mode) if mode == "I;16" else picture.convert(mode)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=0)
    assert (media := decode(file.getvalue(), decode_request(resize=1, crop=(1, 1)))[0].media).format == "png"
    assert (media.width, media.height) == size


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (60, 40)])
def test_sound_interlaced_picture_is_taken(size: tuple[int, int]) -> None:
    width, height = size
    content = encode(NOISE[None, :height, :width], "image2pipe", "png", options={"flags": "+ildct"}, pix_fmt="rgb24")
    assert content[28] == 1  # the header's interlace method: Adam7
    media = decode(content, decode_request(resize=1, crop=(1, 1)))[0].media
    assert (media.width, media.height) == size
