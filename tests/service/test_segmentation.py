"""POST /v1/segment against a real server, with an artefact whose right answer is known for every pixel."""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pycocotools import mask as coco

from tests.media import encode
from tests.segmenter import COLOURS, LABELS, NAME, PALETTE, quarters, write_repository
from tests.server import RunningServer, serving
from tests.service.test_png import chunk


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the nearest-colour segmenter and the demo's classifier."""
    folder = tmp_path_factory.mktemp("segmentation")
    with serving(folder, repository=write_repository(folder), max_segmented_frames=8) as running:
        yield running


def post(server: RunningServer, content: bytes, **query: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/segment", content=content, params=query, timeout=60)


def mask_of(answer: httpx.Response) -> NDArray[np.uint8]:
    """Return the classes of an indexed PNG."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.mode == "P"
    assert picture.getpalette()[:12] == [level for colour in PALETTE for level in colour]  # type: ignore[index]
    return np.asarray(picture)


def saved(picture: Image.Image, format_name: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_name, **options)
    return buffer.getvalue()


def coloured(mask: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(COLOURS[mask])


def away_from_borders(mask: NDArray[np.uint8], pixels: int) -> NDArray[np.bool_]:
    """Return where a mask has one class all around."""
    kernel = np.ones((2 * pixels + 1,) * 2, np.uint8)
    return np.asarray(cv2.erode(mask, kernel) == cv2.dilate(mask, kernel))


# Of wide and high pictures, of pictures smaller than a cell of the network, of odd sides, of extreme aspects.
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (37, 53), (53, 37), (17, 3000), (3000, 17), (128, 128), (301, 200), (720, 1279)]
)
def test_mask_has_the_size_and_the_axes_of_the_upload(server: RunningServer, size: tuple[int, int]) -> None:
    expected = quarters(*size)
    mask = mask_of(post(server, saved(coloured(expected))))
    assert mask.shape == size
    # Classes are told apart on a grid of four pixels of the network, each some pixels of the upload; borders may move
    # by one cell.
    reach = 1 + int(4 * max(max(size) / 512, min(size) / 128))
    inner = away_from_borders(expected, reach)
    assert (mask == expected)[inner].all()
    if min(size) > 30:
        assert inner.mean() > 0.7


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_that_of_the_picture_that_a_viewer_shows(
    server: RunningServer, format_name: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_name == "WEBP" else {}
    content = saved(coloured(quarters(90, 140)), format_name, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    mask = mask_of(post(server, content))
    expected = mask_of(post(server, saved(upright.convert("RGB"))))
    assert mask.shape == expected.shape == (upright.height, upright.width)
    assert (mask == expected).mean() > 0.99
    assert len(np.unique(mask)) == 4


def sixteen_bit(picture: Image.Image) -> bytes:
    """Return a PNG with 16 bits a channel, which PIL does not write."""
    bgr = np.asarray(picture)[..., ::-1].astype(np.uint16) * 257
    return cv2.imencode(".png", bgr)[1].tobytes()


def with_alpha(picture: Image.Image) -> Image.Image:
    turned = picture.convert("RGBA")
    turned.putalpha(Image.linear_gradient("L").resize(picture.size))
    return turned


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(saved(with_alpha(coloured(quarters(90, 140)))), id="alpha"),
        pytest.param(sixteen_bit(coloured(quarters(90, 140))), id="16 bit"),
        pytest.param(saved(coloured(quarters(90, 140)).quantize(4)), id="palette"),
        pytest.param(saved(coloured(quarters(90, 140)).quantize(4), "GIF"), id="gif"),
        pytest.param(saved(coloured(quarters(90, 140)), "BMP"), id="bmp"),
        pytest.param(saved(coloured(quarters(90, 140)), "JPEG", quality=95, progressive=True), id="progressive jpeg"),
        pytest.param(saved(coloured(quarters(90, 140)), "WEBP", lossless=True), id="lossless webp"),
    ],
)
def test_every_kind_of_colour_picture_gives_the_same_mask(server: RunningServer, content: bytes) -> None:
    mask = mask_of(post(server, content))
    expected = quarters(90, 140)
    assert (mask == expected)[away_from_borders(expected, 3)].all()


def animation_of_one_frame(picture: Image.Image, **options: Any) -> bytes:
    """Return an animated PNG (PNG specification, third edition, 11.3.6): the picture's own data are its only frame."""
    content = saved(picture, **options)
    control = chunk(b"acTL", struct.pack(">II", 1, 0))
    frame = chunk(b"fcTL", struct.pack(">5I2H2B", 0, *picture.size, 0, 0, 1, 10, 0, 0))
    return content[:33] + control + frame + content[33:]


@pytest.mark.parametrize("save", [lambda picture: saved(picture, "GIF"), animation_of_one_frame], ids=["GIF", "APNG"])
def test_animation_of_one_frame_is_a_picture(server: RunningServer, save: Callable[[Image.Image], bytes]) -> None:
    content = save(coloured(quarters(90, 140)))
    assert post(server, content, output="overlay").headers["content-type"] == "image/jpeg"
    media = post(server, content, output="rle").json()["media"]
    assert (media["kind"], media["frames"], media["fps"], media["duration_seconds"]) == ("image", 1, None, None)
    assert "is a picture, which shows at 0 s" in post(server, content, start=0.05).json()["detail"]


@pytest.mark.parametrize("orientation", [5, 6])
def test_exif_orientation_turns_an_animation_of_one_frame(server: RunningServer, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = coloured(quarters(90, 140))
    expected = mask_of(post(server, saved(picture, exif=exif)))
    assert np.array_equal(mask_of(post(server, animation_of_one_frame(picture, exif=exif))), expected)


@pytest.mark.parametrize(
    ("mode", "black"),
    [("L", 0), ("LA", (0, 255)), ("1", 0), ("I;16", 0)],
    ids=["grey", "grey alpha", "bits", "grey 16"],
)
def test_pictures_without_colour_are_taken(server: RunningServer, mode: str, black: Any) -> None:
    mask = mask_of(post(server, saved(Image.new(mode, (70, 50), black))))
    assert mask.shape == (50, 70)
    assert not mask.any()


# pycocotools' decoder has not followed numpy 2 in a detail that it does not need.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_run_lengths_are_the_mask(server: RunningServer) -> None:
    truth = quarters(61, 83)
    truth[truth == 2] = 3
    content = saved(coloured(truth))
    mask = mask_of(post(server, content))
    answer = post(server, content, output="rle").json()
    assert (answer["model"], answer["version"]) == (NAME, "1")
    assert (answer["media"]["width"], answer["media"]["height"]) == (83, 61)
    (found,) = answer["masks"]
    assert (found["frame"], found["time_seconds"]) == (0, 0.0)
    rebuilt = np.full(mask.shape, 255, np.uint8)
    for segment in found["segments"]:
        part = coco.decode({"size": segment["rle"]["size"], "counts": segment["rle"]["counts"].encode()}).astype(bool)
        assert part.sum() == segment["area"] == (mask == segment["index"]).sum()
        assert segment["share"] == pytest.approx(segment["area"] / mask.size)
        assert (segment["label"], segment["color"]) == (LABELS[segment["index"]], PALETTE[segment["index"]])
        rebuilt[part] = segment["index"]
    assert np.array_equal(rebuilt, mask)
    areas = [segment["area"] for segment in found["segments"]]
    assert areas == sorted(areas, reverse=True)
    assert len(areas) == 3
    assert set(answer["timing_seconds"]) == {"receive", "decode", "queue", "inference", "total"}


def test_overlay_blends_the_classes_in_and_names_them(server: RunningServer) -> None:
    truth = quarters(200, 320)
    answer = post(server, saved(coloured(truth)), output="overlay")
    assert answer.headers["content-type"] == "image/jpeg"
    shown = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    assert shown.shape[1] == 320
    assert shown.shape[0] > 200
    for index, (y, x) in enumerate(((50, 80), (50, 240), (150, 80), (150, 240))):
        expected = (COLOURS[index].astype(int) + PALETTE[index]) / 2
        assert abs(shown[y, x] - expected).max() < 12, LABELS[index]
    legend = shown[200:].reshape(-1, 3)
    for colour in PALETTE:
        assert (abs(legend - colour).max(axis=1) < 24).sum() > 40, colour


def moving_clip() -> bytes:
    """Return two seconds at 10 frames a second: the red half moves to the other side after the first."""
    left = quarters(96, 160) % 2
    return encode(np.stack([COLOURS[left]] * 10 + [COLOURS[1 - left]] * 10), fps=10, options={"crf": "10"})


def test_video_gives_a_mask_for_each_sampled_frame(server: RunningServer) -> None:
    answer = post(server, moving_clip(), fps=2)
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.namelist() == [f"frame_{number:06d}.png" for number in (0, 5, 10, 15)]
    left = quarters(96, 160) % 2
    inner = away_from_borders(left, 4)
    for name, expected in zip(archive.namelist(), (left, left, 1 - left, 1 - left), strict=True):
        mask = np.asarray(Image.open(archive.open(name)))
        assert (mask == expected)[inner].mean() > 0.99, name

    found = post(server, moving_clip(), output="rle", fps=2, start=0.4, end=1.2).json()["masks"]
    assert [(mask["frame"], mask["time_seconds"]) for mask in found] == [(4, 0.4), (9, 0.9)]


def test_overlay_of_a_video_is_a_video(server: RunningServer) -> None:
    answer = post(server, moving_clip(), output="overlay", fps=4)
    assert answer.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(answer.content)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", Fraction(4))
    assert len(frames) == 8
    red, black = ((COLOURS[index].astype(int) + PALETTE[index]) / 2 for index in (1, 0))
    for number, frame in enumerate(frames):
        expected = (black, red) if number < 4 else (red, black)
        for x, colour in zip((40, 120), expected, strict=True):
            assert abs(frame[48, x] - colour).max() < 30, (number, x)


WIDE = Image.new("L", (20_000, 100))


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        (saved(Image.new("RGB", (70_000, 100))), 65500),
        (saved(Image.new("RGB", (100, 65_490))), 65500),
        (saved(WIDE, "GIF", save_all=True, append_images=[Image.new("L", WIDE.size, 9)]), 16384),
    ],
    ids=["wide", "high with its legend", "video"],
)
def test_overlay_that_no_encoder_writes_is_refused_with_the_limit(
    server: RunningServer, content: bytes, limit: int
) -> None:
    problem = post(server, content, output="overlay").json()
    assert (problem["status"], problem["code"]) == (400, "bad_parameter")
    assert f"at most {limit}" in problem["detail"]
    assert "output=png" in problem["detail"]
    assert post(server, content, output="png").status_code == 200


def test_overlay_of_rarely_sampled_frames_is_a_video(server: RunningServer) -> None:
    answer = post(server, moving_clip(), output="overlay", fps=0.0004)
    assert answer.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(answer.content)) as container:
        assert container.streams.video[0].average_rate == Fraction(1, 1001)
        assert len(list(container.decode(video=0))) == 1


def test_no_frame_is_masked_twice(server: RunningServer) -> None:
    clip = encode(COLOURS[np.stack([quarters(64, 64)] * 6)], fps=10)
    found = post(server, clip, output="rle", fps=240).json()["masks"]
    assert [mask["frame"] for mask in found] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ({"output": "svg"}, "bad_parameter", "'png', 'overlay' or 'rle'"),
        ({"fps": 0}, "bad_parameter", "greater than 0"),
        ({"fps": "nan"}, "bad_parameter", "fps"),
        ({"short_side": 10}, "bad_parameter", "greater than or equal to 64"),
        ({"short_side": 10**400}, "bad_parameter", "less than or equal to 65535"),
        ({"top_k": 3}, "bad_parameter", "top_k"),
        ({"start": 1, "end": 0.5}, "bad_parameter", "end=0.5 must lie after start=1.0"),
        ({"start": 50}, "bad_parameter", "no frame shows then"),
        ({"fps": 10}, "bad_parameter", "20 frames of this video; the limit is 8"),
    ],
)
def test_wrong_parameters_are_named(server: RunningServer, query: dict[str, Any], code: str, says: str) -> None:
    answer = post(server, moving_clip(), **query)
    assert answer.status_code == 400
    assert answer.json()["code"] == code
    assert says in answer.json()["detail"]


def test_models_are_asked_for_what_they_can_do(server: RunningServer) -> None:
    picture = saved(coloured(quarters(64, 64)))
    segment = httpx.post(f"{server.url}/v1/models/uniformer_tiny_shapes/segment", content=picture)
    classify = httpx.post(f"{server.url}/v1/models/{NAME}/classify", content=picture)
    for answer, path, able in (
        (segment, "/v1/models/uniformer_tiny_shapes/classify", NAME),
        (classify, f"/v1/models/{NAME}/segment", "uniformer_tiny_shapes"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "wrong_task")
        assert path in answer.json()["detail"]
        assert able in answer.json()["detail"]
    assert httpx.post(f"{server.url}/v1/models/nobody/segment", content=picture).status_code == 404
    # Without a name, each path finds the model that can.
    assert httpx.post(f"{server.url}/v1/classify", content=picture).json()["model"] == "uniformer_tiny_shapes"
    assert post(server, picture, output="rle").json()["model"] == NAME
    models = httpx.get(f"{server.url}/v1/models").json()["models"]
    assert {model["name"]: model["default"] for model in models} == {NAME: True, "uniformer_tiny_shapes": True}
    assert httpx.get(f"{server.url}/v1/models/{NAME}").json()["manifest"]["preprocessing"]["short_side"] == 128


def test_uploads_of_all_sizes_at_the_same_time_do_not_meet(server: RunningServer) -> None:
    sizes = [(60 + 13 * i, 150 - 9 * i) for i in range(8)] * 2
    truths = [np.asarray(np.rot90(quarters(*size), i), np.uint8) for i, size in enumerate(sizes)]
    with ThreadPoolExecutor(8) as clients:
        masks = list(clients.map(lambda truth: mask_of(post(server, saved(coloured(truth)))), truths))
    for mask, truth in zip(masks, truths, strict=True):
        assert mask.shape == truth.shape
        assert (mask == truth)[away_from_borders(truth, 3)].all()


def resident_peak(pid: int) -> int:
    """Return the largest resident memory that a process has had, bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_large_pictures_come_back_at_their_own_size_within_bounded_memory(server: RunningServer) -> None:
    truth = quarters(4000, 6000)
    content = saved(coloured(truth), "JPEG", quality=80)
    before = resident_peak(server.process.pid)
    mask = mask_of(post(server, content))
    assert mask.shape == truth.shape
    assert (mask == truth)[away_from_borders(truth, 126)].all()
    # The mask and a copy while its PNG is written, 24 MB each; one plane of float32 at that size would take 96.
    assert resident_peak(server.process.pid) - before < 128 << 20


def test_large_pictures_are_looked_at_closely_through_windows(server: RunningServer) -> None:
    rng = np.random.default_rng(4)
    # Squares of 40 pixels: far below what is left of them at the usual size, and no window's border is theirs.
    truth = np.kron(rng.integers(0, 4, (30, 45)), np.ones((40, 40))).astype(np.uint8)
    content = saved(coloured(truth))
    mask = mask_of(post(server, content, short_side=1200))
    assert mask.shape == truth.shape
    assert (mask == truth)[away_from_borders(truth, 5)].all()
    usual = mask_of(post(server, content))
    assert (usual == truth).mean() < (mask == truth).mean()

    refused = post(server, saved(coloured(quarters(2000, 3000))), short_side=2000)
    assert refused.status_code == 400
    assert "windows of 128x128; the limit is 512" in refused.json()["detail"]


def test_pictures_that_are_too_many_pixels_are_refused(server: RunningServer) -> None:
    answer = post(server, saved(coloured(quarters(100, 100))), short_side=20000)
    assert (answer.status_code, answer.json()["code"]) == (422, "media_limit_exceeded")
    assert "the limit is 160000000: ask for a short_side below 20000" in answer.json()["detail"]


def test_picture_shows_at_the_beginning_and_never_after_it(server: RunningServer) -> None:
    picture = saved(coloured(quarters(100, 100)))
    for path in ("segment", "classify"):
        for query in ({"end": 1.5}, {"start": 0, "end": 1}):
            assert httpx.post(f"{server.url}/v1/{path}", content=picture, params=query).status_code == 200
        answer = httpx.post(f"{server.url}/v1/{path}", content=picture, params={"start": 5})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")
        assert answer.json()["detail"].startswith("start=5: the upload is a picture, which shows at 0 s")


def test_show_frames_is_a_sheet_of_what_the_network_sees_of_a_video(server: RunningServer) -> None:
    colours = [(10, 20, 30), (200, 100, 50), (90, 180, 240)]
    frames = np.stack([np.full((128, 192, 3), colour, np.uint8) for colour in colours])
    clip = encode(frames, codec="ffv1", container="matroska", pix_fmt="bgr0", fps=1)
    answer = post(server, clip, show="frames")
    assert answer.headers["content-type"] == "image/png"
    assert {"decode", "queue"} <= {entry.split(";")[0] for entry in answer.headers["server-timing"].split(", ")}
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    for colour in colours:
        assert (pixels == colour).all(axis=2).sum() == 128 * 192


def test_show_frames_shows_every_window_of_a_large_picture(server: RunningServer) -> None:
    picture = saved(Image.new("RGB", (512, 512), (10, 20, 30)))
    answer = post(server, picture, show="frames", short_side=512)
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    # Windows of 128 that overlap by a third at least, at multiples of 32: one every 64 pixels.
    windows = ((512 - 128) // 64 + 1) ** 2
    assert (pixels == (10, 20, 30)).all(axis=2).sum() == windows * 128 * 128


def test_broken_upload_counts_as_decoding_and_a_sheet_too(server: RunningServer) -> None:
    def decoded() -> float:
        name = f'clipserve_decode_duration_seconds_count{{model="{NAME}"}} '
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = decoded()
    picture = saved(coloured(quarters(64, 64)), "JPEG")
    assert post(server, picture[: len(picture) // 2 - 200]).status_code == 422
    assert post(server, picture, show="frames").status_code == 200
    assert decoded() == before + 2
