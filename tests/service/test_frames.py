"""Wanted frames are exactly those of a full decode, and only what they need is decoded, on real files."""

import io
import os
from collections.abc import Callable, Collection
from functools import cache

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import UndecodableMediaError
from service.media.frames import read_frames
from tests.media import (
    LIMITS,
    decode,
    decode_all,
    decode_request,
    encode,
    encode_two_sizes,
    keyframes,
    numbered_frames,
    pick,
    remux,
    with_rotation,
)

os.environ["SVT_LOG"] = "1"  # The AV1 encoder writes errors alone.

COUNT = 90
_NOISE = np.random.default_rng(0).integers(-20, 20, (COUNT, 48, 64, 3))
FRAMES = np.clip(numbered_frames(COUNT, 48, 64) + _NOISE, 0, 255).astype(np.uint8)
SMALLER = np.ascontiguousarray(FRAMES[:, :32, :48])

# Mini-GOPs as the options say and nothing that depends on the picture.
X264 = "scenecut=0:b-adapt=0:b-pyramid=none:keyint=20:min-keyint=20"
X265 = "log-level=none:scenecut=0:b-adapt=0:keyint=20:min-keyint=20:rc-lookahead=10"
VPX = {"g": "20", "deadline": "good", "cpu-used": "5"}
MPEG = {"g": "12", "bf": "2", "sc_threshold": "1000000000"}


def h264(parameters: str = "bframes=3", container: str = "mp4", **arguments: object) -> bytes:
    options = {"preset": "veryfast", "x264-params": f"{X264}:{parameters}"}
    return encode(FRAMES, container, options=options, **arguments)  # type: ignore[arg-type]


def hevc(parameters: str = "bframes=3", container: str = "mp4", **arguments: object) -> bytes:
    options = {"preset": "fast", "x265-params": f"{X265}:{parameters}"}
    return encode(FRAMES, container, "libx265", options=options, **arguments)  # type: ignore[arg-type]


def with_cover_and_second_video() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        cover = output.add_stream("mjpeg")
        cover.height, cover.width, cover.pix_fmt = 96, 128, "yuvj420p"  # type: ignore[union-attr]
        cover.disposition = av.stream.Disposition.attached_pic  # type: ignore[union-attr]
        streams = [output.add_stream("libx264", rate=30, options={"x264-params": X264}) for _ in range(2)]
        for stream, frames in zip(streams, (SMALLER, FRAMES), strict=True):
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"  # type: ignore[union-attr]
        picture = av.VideoFrame.from_ndarray(np.zeros((96, 128, 3), np.uint8), format="rgb24")
        output.mux(cover.encode(picture))  # type: ignore[union-attr]
        output.mux(cover.encode(None))  # type: ignore[union-attr]
        for stream, frames in zip(streams, (SMALLER, FRAMES), strict=True):
            for frame in frames:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))  # type: ignore[union-attr]
            output.mux(stream.encode(None))  # type: ignore[union-attr]
    return file.getvalue()


def stamps_of_decoding(content: bytes, container: str) -> bytes:
    def change(_: int, packet: av.Packet) -> bool:
        packet.pts = packet.dts
        return True

    return remux(content, container, change)


def cut(content: bytes, container: str, first: int) -> bytes:
    return remux(content, container, lambda number, _: number >= first)


def cut_at_second_keyframe(content: bytes, container: str) -> bytes:
    return cut(content, container, keyframes(content)[1])


ENCODINGS: dict[str, Callable[[], bytes]] = {
    "h264, encoder's defaults, long GOP": lambda: encode(FRAMES),
    "h264, closed GOP, B-frames": h264,
    "h264, open GOP": lambda: h264("open-gop=1:bframes=3"),
    "h264, open GOP, B-frames that are referred to": lambda: h264("open-gop=1:bframes=7:b-pyramid=normal:ref=4"),
    "h264, open GOP, mpegts": lambda: h264("open-gop=1:bframes=3", "mpegts"),
    "h264, no B-frames": lambda: h264("bframes=0"),
    "h264, all intra": lambda: h264("keyint=1:bframes=0"),
    "h264, intra refresh": lambda: h264("intra-refresh=1:bframes=0"),
    "h264, intra refresh, B-frames, mpegts": lambda: h264("intra-refresh=1:bframes=2", "mpegts"),
    "h264, three slices": lambda: h264("slices=3:bframes=3"),
    "h264, interlaced": lambda: h264("tff=1:bframes=2"),
    "h264, 10 bit": lambda: h264(pix_fmt="yuv420p10le"),
    "h264, 4:4:4": lambda: h264(pix_fmt="yuv444p"),
    "h264, full range": lambda: h264(pix_fmt="yuvj420p"),
    "h264, rotated": lambda: with_rotation(h264(), 90),
    "h264, variable frame rate": lambda: h264(stamps=[i + i * i // 17 for i in range(COUNT)]),
    "h264, edit list cuts the beginning": lambda: h264(stamps=range(-13, COUNT - 13)),
    "h264, edit list delays the beginning": lambda: h264(stamps=range(50, COUNT + 50)),
    "h264, negative time stamps, matroska": lambda: h264("bframes=3", "matroska", stamps=range(-13, COUNT - 13)),
    "h264, negative offsets": lambda: h264(container_options={"movflags": "negative_cts_offsets"}),
    "h264, fragmented": lambda: h264(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "h264, matroska": lambda: h264("bframes=3", "matroska"),
    "h264, matroska without index": lambda: h264("bframes=3", "matroska", container_options={"live": "1"}),
    "h264, flv": lambda: h264("bframes=3", "flv"),
    "h264, avi": lambda: h264("bframes=3", "avi"),
    "h264, program stream without time stamps": lambda: h264("bframes=3", "mpeg"),
    "h264, size changes": lambda: encode_two_sizes(FRAMES[:40], SMALLER[:50], "mpegts", "libx264", {}),
    "h264, time stamps of decoding": lambda: stamps_of_decoding(h264(), "matroska"),
    "h264, cut in a GOP": lambda: cut(h264("open-gop=1:bframes=3", "mpegts"), "mpegts", 30),
    "h264, cut in a GOP, variable frame rate": lambda: cut(
        h264("open-gop=1:bframes=3", "mpegts", stamps=[i + i * i // 17 for i in range(COUNT)]), "mpegts", 30
    ),
    "h264, cut at an open GOP": lambda: cut_at_second_keyframe(h264("open-gop=1:bframes=3", "mpegts"), "mpegts"),
    "hevc, closed GOP": lambda: hevc("open-gop=0:bframes=3"),
    "hevc, open GOP": lambda: hevc("open-gop=1:bframes=3"),
    "hevc, open GOP, mpegts": lambda: hevc("open-gop=1:bframes=3", "mpegts"),
    "hevc, decodable leading pictures": lambda: hevc("open-gop=0:radl=2:bframes=3"),
    "hevc, temporal layers": lambda: hevc("temporal-layers=3:bframes=3"),
    "hevc, intra refresh": lambda: hevc("intra-refresh=1:bframes=0"),
    "hevc, 10 bit": lambda: hevc(pix_fmt="yuv420p10le"),
    "hevc, cut at an open GOP": lambda: cut_at_second_keyframe(hevc("open-gop=1:bframes=3", "mpegts"), "mpegts"),
    "vp8, hidden frames": lambda: encode(
        FRAMES, "webm", "libvpx", options=VPX | {"auto-alt-ref": "1", "lag-in-frames": "16"}
    ),
    "vp9, hidden frames": lambda: encode(
        FRAMES, "webm", "libvpx-vp9", options=VPX | {"auto-alt-ref": "1", "lag-in-frames": "16"}
    ),
    "vp9, mp4": lambda: encode(FRAMES, "mp4", "libvpx-vp9", options=VPX),
    "vp9, size changes": lambda: encode_two_sizes(FRAMES[:40], SMALLER[:50], "webm", "libvpx-vp9", VPX),
    "av1": lambda: encode(FRAMES, "mp4", "libsvtav1", options={"g": "20", "preset": "10"}),
    "mpeg4": lambda: encode(FRAMES, "mp4", "mpeg4", options=MPEG),
    "mpeg4, avi": lambda: encode(FRAMES, "avi", "mpeg4", options=MPEG),
    "mpeg4, avi without index": lambda: encode(FRAMES, "avi", "mpeg4", options=MPEG).replace(b"idx1", b"JUNK"),
    "mpeg4, time stamps of decoding": lambda: stamps_of_decoding(
        encode(FRAMES, "mp4", "mpeg4", options=MPEG), "matroska"
    ),
    "mpeg2, transport stream": lambda: encode(FRAMES, "mpegts", "mpeg2video", 25, MPEG),
    "mpeg2, program stream": lambda: encode(FRAMES, "mpeg", "mpeg2video", 25, MPEG),
    "mpeg2, interlaced": lambda: encode(FRAMES, "mpegts", "mpeg2video", 25, MPEG | {"flags": "+ildct+ilme"}),
    "mpeg2, size changes": lambda: encode_two_sizes(FRAMES[:40], SMALLER[:50], "mpegts", "mpeg2video", MPEG),
    "mpeg1": lambda: encode(FRAMES, "mpeg", "mpeg1video", 25, MPEG),
    "mjpeg, mov": lambda: encode(FRAMES, "mov", "mjpeg", pix_fmt="yuvj420p"),
    "mjpeg, avi": lambda: encode(FRAMES, "avi", "mjpeg", pix_fmt="yuvj420p"),
    "ffv1": lambda: encode(FRAMES, "matroska", "ffv1", options={"g": "10"}),
    "prores": lambda: encode(FRAMES, "mov", "prores_ks", pix_fmt="yuv422p10le"),
    "flash video": lambda: encode(FRAMES, "flv", "flv", options={"g": "12"}),
    "gif": lambda: encode(FRAMES, "gif", "gif", fps=25, pix_fmt="rgb8"),
    "a cover and two videos": with_cover_and_second_video,
}


@cache
def encoding(name: str) -> bytes:
    return ENCODINGS[name]()


@cache
def full_decode(name: str) -> list[np.ndarray]:
    with av.open(io.BytesIO(encoding(name))) as container:
        stream = container.streams.best("video")
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


def samplings(count: int) -> dict[str, list[int]]:
    middle = count // 2
    return {
        "all": list(range(count)),
        "dense": list(range(middle - 8, middle + 8, 2)),
        "5 clips": [start + 2 * i for start in range(0, count - 8, (count - 8) // 4) for i in range(4)],
        "segments": [(2 * i + 1) * count // 16 for i in range(8)],
        "64 frames": [i * (count - 1) // 63 for i in range(64)],
        "first": [0],
        "late": [count - 2],
        "last": [count - 1],
    } | {f"only {number}": [number] for number in range(middle, middle + 13)}


def equal(frames: dict[int, np.ndarray], full: list[np.ndarray]) -> bool:
    return all(np.array_equal(frame, full[number]) for number, frame in frames.items())


@pytest.mark.parametrize("name", ENCODINGS)
def test_frames_are_those_of_a_full_decode(name: str) -> None:
    full = full_decode(name)
    for sampling, wanted in samplings(len(full)).items():
        frames, count, decoded = pick(encoding(name), wanted)
        assert count == len(full), sampling
        assert equal(frames, full), sampling
        # A plan costs one full decode at most, and so does either of the two passes that may have to follow it.
        assert decoded <= 3 * COUNT, sampling


@pytest.mark.parametrize("name", [name for name in ENCODINGS if name.startswith(("h264", "hevc", "vp8", "vp9", "av1"))])
def test_rate_and_times_are_those_that_ffmpeg_finds_by_decoding_the_first_pictures(name: str) -> None:
    with av.open(io.BytesIO(encoding(name))) as container:
        stream = container.streams.best("video")
        fps, tick = stream.average_rate or stream.guessed_rate, stream.time_base
        stamps = [frame.pts for frame in container.decode(stream)]
    index = read_frames(io.BytesIO(encoding(name)), LIMITS, lambda source: source.index)
    # The headers of this one are far from its time stamps, whose frames come ever more slowly.
    if name != "h264, cut in a GOP, variable frame rate":
        assert index.fps == fps
    # Without usable time stamps the frame rate makes the times; a torn stream has fewer frames than it promises.
    if len(stamps) == len(index) and None not in stamps and stamps == sorted(stamps) and "decoding" not in name:
        assert [index.time(number) for number in range(len(index))] == [(pts - stamps[0]) * tick for pts in stamps]


@pytest.mark.parametrize("name", [name for name in ENCODINGS if ", cut " in name])
def test_recording_that_begins_within_a_gop_has_the_times_and_length_of_what_comes_out(name: str) -> None:
    content = encoding(name)
    with av.open(io.BytesIO(content)) as container:
        promised = sum(packet.size > 0 for packet in container.demux(video=0))
    with av.open(io.BytesIO(content)) as container:
        seconds = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    result, _ = decode(content, decode_request(clips=3, crop=(48, 48), resize=48))
    assert result.media.frames == len(seconds) <= promised - 3
    for view, times in zip(result.views, result.times, strict=True):
        assert times == pytest.approx([seconds[frame] - seconds[0] for frame in view.frames], abs=1e-5)
    assert result.media.fps is not None
    length = seconds[-1] - seconds[0] + 1 / result.media.fps
    assert result.media.duration_seconds == pytest.approx(length, abs=0.001)


def mini_gops(count: int, keyint: int, b_frames: int, closed: bool) -> list[tuple[int, bool, int]]:
    """Return (number, is B-frame, GOP) in decoding order: I P b..b; leading B-frames belong to the older GOP."""
    anchors = []
    for start in range(0, count, keyint):
        end = min(start + keyint, count)
        anchors += [*range(start, end, b_frames + 1)]
        # The last frame before a keyframe, which nothing may refer across, is a P-frame.
        if closed or end == count:
            anchors.append(end - 1)
    order = []
    before = -1
    for anchor in sorted(set(anchors)):
        order.append((anchor, False, anchor // keyint))
        order += [(number, True, number // keyint) for number in range(before + 1, anchor)]
        before = anchor
    return order


def least_frames(order: list[tuple[int, bool, int]], wanted: Collection[int]) -> int:
    """Return how many frames must be decoded: from a wanted frame's keyframe to itself, without unwanted B-frames."""
    needed = set()
    for target in wanted:
        gop = next(gop for number, _, gop in order if number == target)
        start = next(at for at, (_, is_b, its_gop) in enumerate(order) if its_gop == gop and not is_b)
        end = next(at for at, (number, _, _) in enumerate(order) if number == target)
        needed |= {number for number, is_b, _ in order[start : end + 1] if not is_b or number in wanted}
    return len(needed)


@pytest.mark.parametrize(
    ("name", "keyint", "b_frames", "closed"),
    [
        ("h264, closed GOP, B-frames", 20, 3, True),
        ("h264, open GOP", 20, 3, False),
        ("h264, open GOP, mpegts", 20, 3, False),
        ("h264, no B-frames", 20, 0, True),
        ("h264, all intra", 1, 0, True),
        ("h264, fragmented", 20, 3, True),
        ("h264, variable frame rate", 20, 3, True),
        ("vp9, hidden frames", 20, 0, True),
        ("vp8, hidden frames", 20, 0, True),
        ("av1", 20, 0, True),
        ("mpeg2, transport stream", 12, 2, False),
        ("mpeg2, program stream", 12, 2, False),
        ("mpeg4, avi", 12, 2, False),
        ("mjpeg, mov", 1, 0, True),
        ("ffv1", 10, 0, True),
        ("prores", 1, 0, True),
    ],
)
def test_no_more_is_decoded_than_the_structure_of_the_stream_demands(
    name: str, keyint: int, b_frames: int, closed: bool
) -> None:
    order = mini_gops(COUNT, keyint, b_frames, closed)
    for sampling, wanted in samplings(COUNT).items():
        assert pick(encoding(name), wanted)[2] == least_frames(order, wanted), sampling


def test_known_counts() -> None:
    # Keyframes 0, 20, 40, ...; from 40: 40 I, 44 P, 41 b, 42 b, 43 b, 48 P, 45 b, ...
    content = encoding("h264, closed GOP, B-frames")
    assert pick(content, [40])[2] == 1
    assert pick(content, [41])[2] == 3  # 40, 44, 41
    assert pick(content, [48])[2] == 3  # 40, 44, 48
    assert pick(content, [42, 46])[2] == 5  # 40, 44, 42, 48, 46
    assert pick(content, [0, 45, 80])[2] == 6  # 0; 40, 44, 48, 45; 80


SMALL = FRAMES[:, :32, :32]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_structure_and_any_choice(data: st.DataObject) -> None:
    number = st.integers
    codec = data.draw(st.sampled_from(["libx264", "libx265", "mpeg4", "mpeg2video"]))
    count = data.draw(number(1, 40))
    if codec in ("libx264", "libx265"):
        keyint = data.draw(number(1, 30))
        parameters = {
            "keyint": keyint,
            "min-keyint": data.draw(number(1, keyint)),
            "bframes": data.draw(number(0, min(5, max(0, keyint - 1)))),
            "b-adapt": data.draw(number(0, 1)),
            "ref": data.draw(number(1, 4)),
            "open-gop": data.draw(number(0, 1)),
            "scenecut": data.draw(st.sampled_from([0, 40])),
            "rc-lookahead": 10,
        }
        text = ":".join(f"{key}={value}" for key, value in parameters.items())
        options = {"preset": "ultrafast"} | (
            {"x264-params": text} if codec == "libx264" else {"x265-params": f"log-level=none:{text}"}
        )
    else:
        options = {"g": str(data.draw(number(1, 20))), "bf": str(data.draw(number(0, 3)))}
    container = data.draw(st.sampled_from(["mp4", "matroska", "mpegts"]))
    frames = SMALL if codec != "libx265" else FRAMES[:, :32, :64]
    order = data.draw(st.permutations(range(len(frames))))[:count]
    content = encode(np.ascontiguousarray(frames[order]), container, codec, 25, options)
    full = decode_all(content, container)
    wanted = data.draw(st.sets(number(0, len(full) - 1), min_size=1, max_size=8))
    picked, promised, decoded = pick(content, wanted)
    assert promised == len(full) == count
    assert equal(picked, full)
    assert decoded <= count


def test_frames_in_another_order_than_the_time_stamps_promise_are_counted() -> None:
    def delay(number: int, packet: av.Packet) -> bool:
        # In decoding order I0 P3 b1 b2, shown at 0, 100, 33 and 67 ms: b1 claims to come after b2.
        if number == 2:
            packet.pts += 44
        return True

    lying = remux(h264("bframes=2", "matroska"), "matroska", delay)
    full = decode_all(lying)
    frames, count, decoded = pick(lying, [1, 2, 3])
    assert count == COUNT
    assert equal(frames, full)
    assert COUNT < decoded <= 2 * COUNT


def test_lost_packets_are_no_reason_to_guess() -> None:
    stream = bytearray(encoding("h264, open GOP, mpegts"))
    # Transport packets of 188 bytes: the loss of some shows in the counter of those that follow.
    del stream[188 * 60 : 188 * 64]
    full = decode_all(bytes(stream))
    for wanted in ([len(full) - 1], [30, 60]):
        frames, count, _ = pick(bytes(stream), wanted)
        assert count == len(full)
        assert equal(frames, full)


def test_stream_without_its_keyframes_is_refused() -> None:
    headless = remux(encoding("h264, no B-frames"), "mpegts", lambda _, packet: not packet.is_keyframe)
    with pytest.raises(UndecodableMediaError):
        pick(headless, [0])
