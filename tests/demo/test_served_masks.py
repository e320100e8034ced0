"""The demo's segmentation network behind a real server."""

import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from demo.mean_iou import MeanIoU
from demo.scene_files import encode_png, generate_scene
from demo.scenes import SCENE_LABELS
from models import load_palette
from tests.server import RunningServer, serving

SEED = 77
SCENES = [generate_scene(SEED, number) for number in range(12)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(tmp_path_factory.mktemp("masks")) as running:
        yield running


def mask_of(server: RunningServer, content: bytes) -> NDArray[np.uint8]:
    answer = httpx.post(f"{server.url}/v1/segment", content=content, timeout=60)
    assert answer.status_code == 200, answer.text
    picture = Image.open(io.BytesIO(answer.content))
    colours = [level for colour in load_palette("tiny_shapes_scenes") for level in colour]
    assert picture.getpalette()[: len(colours)] == colours  # type: ignore[index]
    return np.asarray(picture)


def test_scenes_are_segmented_and_mirrored_ones_get_the_mirrored_mask(server: RunningServer) -> None:
    result = MeanIoU(len(SCENE_LABELS))
    same = []
    for scene in SCENES:
        mask = mask_of(server, encode_png(scene.picture))
        mirrored = mask_of(server, encode_png(scene.picture[:, ::-1]))
        result.add(scene.mask, mask)
        same.append((mask == mirrored[:, ::-1]).mean())
    assert result.mean > 0.8
    assert np.mean(same) >= 0.98


def test_turned_upload_gets_the_mask_of_the_upright_picture(server: RunningServer) -> None:
    picture = Image.fromarray(SCENES[0].picture)
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it clockwise by 90 degrees
    buffer = io.BytesIO()
    picture.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    assert np.array_equal(mask_of(server, buffer.getvalue()), mask_of(server, encode_png(SCENES[0].picture)))
