"""H.264 whose fields come in packets of their own, as in broadcasts: two packets make one frame.

No encoder at hand writes that, so the stream is written here, bit by bit, of macroblocks that hold their samples.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from fractions import Fraction

import av
import pytest

from tests.media import decode, decode_all, decode_request

FRAMES = 20
# In macroblocks; two fields make a frame.
WIDTH, FIELD_HEIGHT = 4, 2
FIELD_SECONDS = Fraction(1, 50)


class Bits:
    """Writes what ITU-T H.264 describes, clauses 7.3 and 9.1."""

    def __init__(self) -> None:
        self._bits = ""

    def fixed(self, bits: int, *values: int) -> Bits:
        self._bits += "".join(f"{value:0{bits}b}" for value in values)
        return self

    def golomb(self, *values: int) -> Bits:
        for value in values:
            code = f"{value + 1:b}"
            self._bits += "0" * (len(code) - 1) + code
        return self

    def samples(self, content: bytes) -> Bits:
        self._bits += "0" * (-len(self._bits) % 8)
        return self.fixed(8, *content)

    def unit(self, header: int) -> bytes:
        """Return it all as a NAL unit, with the bytes that prevent start codes within."""
        bits = self._bits + "1"
        bits += "0" * (-len(bits) % 8)
        unit = bytearray(b"\0\0\0\1")
        unit.append(header)
        zeros = 0
        for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
            if zeros >= 2 and byte <= 3:
                unit.append(3)
                zeros = 0
            unit.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return bytes(unit)


def sequence_parameters() -> bytes:
    bits = Bits().fixed(8, 77, 0, 30).golomb(0, 0, 0, 4, 1).fixed(1, 0).golomb(WIDTH - 1, FIELD_HEIGHT - 1)
    # Fields, no cropping, and in the VUI: 50 fields a second, no pictures out of order.
    bits.fixed(1, 0, 0, 1, 0, 1).fixed(1, 0, 0, 0, 0, 1).fixed(32, 1, 50).fixed(1, 1, 0, 0, 0)
    return bits.fixed(1, 1, 1).golomb(0, 0, 10, 10, 0, 1).unit(0x67)


def picture_parameters() -> bytes:
    return (
        Bits()
        .golomb(0, 0)
        .fixed(1, 0, 0)
        .golomb(0, 0, 0)
        .fixed(1, 0, 0, 0)
        .golomb(0, 0, 0)
        .fixed(1, 0, 0, 0)
        .unit(0x68)
    )


def field(frame: int, bottom: bool) -> bytes:
    """Return one field in I_PCM; the top one of each frame is an IDR picture."""
    bits = Bits().golomb(0, 7, 0).fixed(4, 0).fixed(1, 1, bottom)
    if not bottom:
        bits.golomb(frame % 2)
    bits.fixed(8, bottom).fixed(1 if bottom else 2, 0).golomb(0)
    for _ in range(WIDTH * FIELD_HEIGHT):
        bits.golomb(25).samples(bytes([40 + 8 * frame] * 256 + [128] * 128))
    return bits.unit(0x61 if bottom else 0x65)


def access_units() -> list[bytes]:
    delimiter = b"\0\0\0\1\x09\x10"
    headers = sequence_parameters() + picture_parameters()
    return [
        delimiter + (b"" if bottom else headers) + field(frame, bottom)
        for frame in range(FRAMES)
        for bottom in (False, True)
    ]


def recording(container: str, units: Iterable[bytes], fields: int) -> bytes:
    """Return a file with one time stamp for each of `units`, which have so many fields."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(b"".join(access_units())), format="h264") as source,
        av.open(file, "w", format=container) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, unit in enumerate(units):
            packet = av.Packet(unit)
            packet.stream, packet.time_base = stream, FIELD_SECONDS
            packet.pts = packet.dts = number * fields
            output.mux(packet)
    return file.getvalue()


RECORDINGS: dict[str, Callable[[], bytes]] = {
    "mpegts, each field has a time stamp": lambda: recording("mpegts", access_units(), 1),
    "matroska, each field has a time stamp": lambda: recording("matroska", access_units(), 1),
    "mpegts, each frame has a time stamp": lambda: recording(
        "mpegts", map(b"".join, zip(access_units()[::2], access_units()[1::2], strict=True)), 2
    ),
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_two_fields_are_one_frame_with_its_time(name: str) -> None:
    content = RECORDINGS[name]()
    with av.open(io.BytesIO(content)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 2 * FRAMES
    result, pixels = decode(content, decode_request(resize=16, crop=(16, 16)))
    assert (result.media.frames, result.media.fps) == (len(decode_all(content)), 25) == (FRAMES, 25)
    assert result.media.duration_seconds == pytest.approx(FRAMES / 25)
    assert result.times[0] == pytest.approx([frame / 25 for frame in result.views[0].frames])
    # Each frame is a grey of its own, in studio range.
    greys = [(24 + 8 * frame) * 255 / 219 for frame in result.views[0].frames]
    assert pixels.mean(axis=(0, 2, 3, 4)) == pytest.approx(greys, abs=2)
