"""The views equal what decoding everything and picking gives, on real files of many encodings."""

import io
import struct
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from demo.clips import encode_picture
from service.errors import (
    BadParameterError,
    InternalError,
    MediaLimitError,
    UndecodableMediaError,
    UnsupportedMediaError,
)
from service.media.answers import check_answer
from service.media.preprocessing import crop_names, crop_offset, resize
from service.media.sampling import clip_indices
from service.media.types import DecodeRequest
from tests.media import (
    LIMITS,
    decode,
    decode_all,
    decode_request,
    encode,
    numbered_frames,
    with_display_matrix,
    with_rotation,
)

FRAMES = numbered_frames(75)

ENCODINGS = {
    "h264, B-frames, one keyframe": encode(FRAMES, options={"g": "250", "bf": "3", "preset": "veryfast"}),
    "h264, keyframe every 12": encode(FRAMES, options={"g": "12", "preset": "veryfast"}),
    "h264, open GOP": encode(FRAMES, options={"x264-params": "keyint=20:open-gop=1:bframes=3"}),
    "h264, all intra": encode(FRAMES, options={"g": "1", "preset": "veryfast"}),
    "h264, fragmented mp4": encode(FRAMES, container_options={"movflags": "frag_keyframe+empty_moov"}),
    "h264, 10 bit": encode(FRAMES, options={"preset": "veryfast"}, pix_fmt="yuv420p10le"),
    "h264, 60 frames a second": encode(FRAMES, fps=60, options={"preset": "veryfast"}),
    "h264, mpegts": encode(FRAMES, container="mpegts", options={"preset": "veryfast"}),
    "h264, matroska": encode(FRAMES, container="matroska", options={"preset": "veryfast"}),
    "h264, mov": encode(FRAMES, container="mov", options={"preset": "veryfast"}),
    "hevc, mp4": encode(FRAMES, codec="libx265", options={"preset": "ultrafast", "x265-params": "log-level=none"}),
    "vp9, webm": encode(FRAMES, "webm", "libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "mpeg4, avi": encode(FRAMES, "avi", "mpeg4"),
    "mpeg2, mpeg": encode(FRAMES, "mpeg", "mpeg2video", fps=25),
    "mjpeg, mov": encode(FRAMES, "mov", "mjpeg", pix_fmt="yuvj420p"),
    "gif": encode(FRAMES, "gif", "gif", fps=25, pix_fmt="rgb8"),
}
REQUESTS = {
    "one dense clip": decode_request(),
    "four clips, three crops": decode_request(clips=4, crops=3),
    "segments": decode_request(kind="segments_offset", num_frames=16, rate=None, target_fps=None),
}


def expected_views(content: bytes, request: DecodeRequest, fps: Fraction) -> np.ndarray:
    """Decode everything, pick, resize, crop: the plain way."""
    frames = decode_all(content)
    views = []
    for clip in range(request.views.clips):
        indices = clip_indices(request.sampling, len(frames), fps, clip, request.views.clips)
        prepared = [resize(frames[index], request.preprocessing) for index in indices]
        height, width = prepared[0].shape[:2]
        for name in crop_names(height, width, request.views.crops, request.views.single_crop):
            top, left = crop_offset(height, width, request.preprocessing.crop, name, "ceil")
            views.append([frame[top : top + 96, left : left + 96] for frame in prepared])
    return np.asarray(views)


@pytest.mark.parametrize("content", ENCODINGS.values(), ids=ENCODINGS.keys())
@pytest.mark.parametrize("request_name", REQUESTS)
def test_views_equal_decoding_everything_and_picking(content: bytes, request_name: str) -> None:
    wanted = REQUESTS[request_name]
    result, pixels = decode(content, wanted)
    assert result.media.frames == len(decode_all(content)) == len(FRAMES)
    assert result.media.fps is not None
    expected = expected_views(content, wanted, Fraction(round(result.media.fps)))
    assert pixels.shape == result.shape == expected.shape
    assert np.array_equal(pixels, expected)


def test_media_is_described() -> None:
    media = decode(ENCODINGS["h264, B-frames, one keyframe"], decode_request())[0].media
    assert (media.kind, media.format, media.codec) == ("video", "mp4", "h264")
    assert (media.width, media.height, media.frames, media.fps) == (128, 96, 75, 30.0)
    assert media.duration_seconds == pytest.approx(2.5, abs=0.04)


def test_start_and_end_select_a_part() -> None:
    result, _ = decode(ENCODINGS["h264, all intra"], decode_request(start=1.0, end=1.5))
    assert min(result.views[0].frames) == 30
    assert max(result.views[0].frames) == 44
    with pytest.raises(BadParameterError, match=r"^start=9\.0: no frame shows then; .*2\.5"):
        decode(ENCODINGS["h264, all intra"], decode_request(start=9.0))


def test_part_far_into_a_clip_is_decoded_from_the_keyframe_before_it() -> None:
    result, _ = decode(ENCODINGS["h264, keyframe every 12"], decode_request(start=2.0, target_fps=None, rate=1))
    # Frames 60 to 74 are there, and the clip takes 8 in the middle; a keyframe lies less than 12 before any frame.
    assert result.views[0].frames == tuple(range(63, 71))
    assert result.frames_decoded < 8 + 12


# np.rot90 turns counter-clockwise.
@pytest.mark.parametrize(("clockwise", "turns"), [(0, 0), (90, -1), (180, 2), (270, 1)])
def test_display_matrix_turns_the_video(clockwise: int, turns: int) -> None:
    plain = encode(FRAMES[:9], options={"preset": "veryfast"})
    result, pixels = decode(with_rotation(plain, clockwise), decode_request())
    assert result.media.rotation == clockwise
    upright = np.ascontiguousarray(np.rot90(decode_all(plain)[0], turns))
    assert (result.media.height, result.media.width) == upright.shape[:2]
    resized = resize(upright, decode_request().preprocessing)
    top, left = (-(-(side - 96) // 2) for side in resized.shape[:2])
    assert np.array_equal(pixels[0, 0], resized[top : top + 96, left : left + 96])


@pytest.mark.parametrize(
    ("matrix", "mirror"),
    [
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
        ((1, 0, 0, -1), lambda frame: frame[::-1]),
        ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda frame: frame[::-1, ::-1].transpose(1, 0, 2)),
    ],
    ids=["left-right", "up-down", "transposed", "transversed"],
)
def test_mirroring_display_matrix_mirrors_the_video(matrix: tuple[int, int, int, int], mirror: Any) -> None:
    plain = encode(FRAMES[:9], options={"preset": "veryfast"})
    result, pixels = decode(with_display_matrix(plain, *matrix), decode_request())
    upright = np.ascontiguousarray(mirror(decode_all(plain)[0]))
    assert (result.media.height, result.media.width) == upright.shape[:2]
    resized = resize(upright, decode_request().preprocessing)
    top, left = (-(-(side - 96) // 2) for side in resized.shape[:2])
    assert np.array_equal(pixels[0, 0], resized[top : top + 96, left : left + 96])


def test_pixels_count_as_square() -> None:
    wide = encode(FRAMES[:9], options={"preset": "veryfast", "x264-params": "sar=4/3"})
    with av.open(io.BytesIO(wide)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    result, pixels = decode(wide, decode_request())
    assert (result.media.width, result.media.height) == (128, 96)
    square = encode(FRAMES[:9], options={"preset": "veryfast"})
    assert np.array_equal(pixels, decode(square, decode_request())[1])


# The eight EXIF orientations, by what PIL's exif_transpose does to the picture.
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture(orientation: int) -> None:
    picture = Image.open(io.BytesIO(encode_picture(FRAMES[30])))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif, quality=95)
    result, pixels = decode(file.getvalue(), decode_request())
    upright = ImageOps.exif_transpose(Image.open(file))
    assert (result.media.width, result.media.height) == upright.size
    resized = resize(np.asarray(upright.convert("RGB")), decode_request().preprocessing)
    top, left = (-(-(side - 96) // 2) for side in resized.shape[:2])
    expected = resized[top : top + 96, left : left + 96].astype(np.int64)
    # Two JPEG decoders (PIL's and FFmpeg's) differ by a little; a wrong turn differs by far more.
    assert np.abs(pixels[0, 0] - expected).mean() < 3


def test_picture_is_a_one_frame_clip() -> None:
    result, pixels = decode(encode_picture(FRAMES[0]), decode_request())
    assert (result.media.kind, result.media.format, result.media.frames) == ("image", "jpeg", 1)
    assert result.media.fps is result.media.duration_seconds is None
    assert (pixels == pixels[0, 0]).all()


def test_picture_is_looked_at_once_however_many_clips_are_asked_for() -> None:
    picture = encode_picture(FRAMES[0])
    wanted = decode_request(clips=4, crops=3)
    result, pixels = decode(picture, wanted)
    assert [(view.clip, view.crop) for view in result.views] == [(0, "left"), (0, "center"), (0, "right")]
    assert [view.frames for view in result.views] == [(0,) * 8] * 3
    assert np.array_equal(pixels, decode(picture, decode_request(clips=1, crops=3))[1])
    check_answer(result, wanted)
    with pytest.raises(InternalError, match="3 views"):
        check_answer(result.model_copy(update={"media": decode(ENCODINGS["h264, all intra"], wanted)[0].media}), wanted)


def test_cover_art_is_not_taken_for_the_video() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        cover = output.add_stream("mjpeg")
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"  # type: ignore[union-attr]
        cover.disposition = av.stream.Disposition.attached_pic  # type: ignore[union-attr]
        video = output.add_stream("libx264", rate=30)
        video.height, video.width, video.pix_fmt = 96, 128, "yuv420p"  # type: ignore[union-attr]
        output.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))  # type: ignore[union-attr]
        output.mux(cover.encode(None))  # type: ignore[union-attr]
        for frame in FRAMES[:10]:
            output.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))  # type: ignore[union-attr]
        output.mux(video.encode(None))  # type: ignore[union-attr]
    media = decode(file.getvalue(), decode_request())[0].media
    assert (media.width, media.height, media.frames) == (128, 96, 10)


@pytest.mark.parametrize(("container", "codec"), [("avi", "mpeg4"), ("mp4", "libx264"), ("matroska", "libx264")])
def test_metadata_in_any_encoding_is_no_obstacle(container: str, codec: str) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        output.metadata["title"] = "caf--"
        stream = output.add_stream(codec, rate=30)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"  # type: ignore[union-attr]
        for frame in FRAMES[:10]:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))  # type: ignore[union-attr]
        output.mux(stream.encode(None))  # type: ignore[union-attr]
    content = file.getvalue()
    assert b"caf--" in content
    latin_1 = content.replace(b"caf--", b"caf\xe9\xff")
    assert decode(latin_1, decode_request())[0].media.frames == 10


def test_gif_that_claims_a_huge_canvas_is_refused() -> None:
    gif = bytearray(ENCODINGS["gif"])
    gif[6:10] = (16000).to_bytes(2, "little") * 2
    with pytest.raises((MediaLimitError, UndecodableMediaError)):
        decode(bytes(gif), decode_request())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("flags", ["", "faststart"])
def test_mp4_cut_short_is_refused(share: float, flags: str) -> None:
    whole = encode(FRAMES, container_options={"movflags": flags} if flags else None)
    with pytest.raises(UndecodableMediaError):
        decode(whole[: int(len(whole) * share)], decode_request())


def test_upload_whose_frames_share_their_bytes_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 256, 256, 3), np.uint8)
    content = bytearray(encode(noise, "mov", "mjpeg", pix_fmt="yuvj420p"))

    def number(at: int, value: int) -> None:
        content[at : at + 4] = value.to_bytes(4, "big")

    # A chunk for each of the 40 frames, all of them at the place of the first one and a quarter of the file long.
    number(content.index(b"stsz") + 8, len(content) // 4)
    number(content.index(b"stsc") + 16, 1)
    chunks = content.index(b"stco") + 8
    assert content[chunks : chunks + 4] == b"\0\0\0\1"
    number(chunks, 40)
    content[chunks + 8 : chunks + 8] = bytes(content[chunks + 4 : chunks + 8]) * 39
    for box in (b"stco", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        at = content.index(box) - 4
        number(at, int.from_bytes(content[at : at + 4], "big") + 4 * 39)
    with pytest.raises(MediaLimitError, match="its frames repeat them"):
        decode(bytes(content), decode_request())


def test_damaged_data_is_refused_or_concealed_but_never_crashes() -> None:
    whole = bytearray(ENCODINGS["h264, mpegts"])
    rng = np.random.default_rng(0)
    for at in rng.integers(400, len(whole), 60):
        whole[at] ^= 0xFF
    with suppress(UndecodableMediaError):
        _, pixels = decode(bytes(whole), decode_request())
        assert pixels.shape == (1, 8, 96, 96, 3)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("max_pixels", 5000, "12288 pixels; the limit is 5000"),
        ("max_frames", 50, "more than 50 frames"),
        ("max_seconds", 2.0, "lasts 2.5 s; the limit is 2 s"),
    ],
)
def test_limits_are_named(limit: str, value: float, message: str) -> None:
    limits = LIMITS.model_copy(update={limit: value})
    with pytest.raises(MediaLimitError, match=message):
        decode(ENCODINGS["h264, keyframe every 12"], decode_request(limits=limits))


def test_sliver_that_would_grow_huge_is_refused() -> None:
    sliver = np.zeros((2, 16000, 3), np.uint8)
    with pytest.raises(MediaLimitError, match="too narrow"):
        decode(encode_picture(sliver), decode_request(limits=LIMITS.model_copy(update={"max_pixels": 60_000})))


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    "content",
    [
        b"hello, this is text\n" * 40,
        PLAYLIST,
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"\x00" * 600,
    ],
    ids=["text", "playlist", "concat script", "SDP", "SVG", "PDF", "zeros"],
)
def test_what_is_no_media_is_refused_by_its_first_bytes(content: bytes) -> None:
    with pytest.raises(UnsupportedMediaError, match="accepted formats"):
        decode(content, decode_request())


@pytest.mark.parametrize("prefix", [b"\x00\x00\x00\x18ftypmp42", b"RIFF\x00\x00\x00\x00AVI ", b"\x1a\x45\xdf\xa3webm"])
def test_text_behind_the_right_first_bytes_is_undecodable(prefix: bytes) -> None:
    with pytest.raises(UndecodableMediaError):
        decode(prefix + PLAYLIST * 20, decode_request())


def test_frame_rate_below_zero_is_not_believed() -> None:
    content = encode(numbered_frames(40), "flv", "flv")
    # An onMetaData property: its name, the type number, and a big-endian double (FLV specification 10.1, E.4.4.2).
    place = content.index(b"framerate\x00") + len(b"framerate\x00")
    forged = content[:place] + struct.pack(">d", -25) + content[place + 8 :]
    result, _ = decode(forged, decode_request())
    plain, _ = decode(content, decode_request())
    assert plain.media.fps == 30
    assert result.media.fps is None or result.media.fps > 0
    # What shows for 40 frames at 30 a second, by the frames' own times.
    assert result.media.duration_seconds == pytest.approx(40 / 30, abs=0.05)
