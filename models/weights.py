"""What belongs to a set of weights besides the numbers: labels, preprocessing, sampling, views, published figures.

The order of the labels and the way frames are prepared are properties of the weights, not of the data set: UniFormer's
Kinetics heads are in another order than MViT's (models/labels/SOURCES.md). Each family file holds a table of these
entries; the exporter writes them into the artefact's manifest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Task = Literal["video_classification", "image_classification", "image_segmentation", "pose"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How one decoded RGB frame becomes network input.

    Attributes:
        resize: Short side after the resize, pixels; the long side is floor(long * resize / short).
        crop: Height and width of the crop, pixels.
        interpolation: "bilinear" samples without antialiasing (the video papers' float pipeline); "bicubic" and
            "bilinear_antialias" filter over the whole footprint as PIL does (the image papers' pipeline).
        mean, std: Statistics of values in [0, 1], in the order of `channels`.
        channels: The order that the network wants; some Something-Something weights were trained on BGR.
    """

    resize: int
    crop: tuple[int, int]
    interpolation: Literal["bilinear", "bilinear_antialias", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: Literal["rgb", "bgr"] = "rgb"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width that the network sees."""
        return self.crop

    @property
    def centering(self) -> Literal["ceil", "round"]:
        """How an odd margin is split for the centre crop: the image papers use torchvision, the video papers do not."""
        return "ceil" if self.interpolation == "bilinear" else "round"


@dataclass(frozen=True)
class WholePicture:
    """How one decoded RGB frame becomes the input of a network for dense prediction: whole, at a size of its own.

    The picture is scaled, keeping its ratio, until its short side has `short_side` pixels or its long side
    `max_long_side`, whichever comes first. Then both sides become multiples of 32.

    Attributes:
        short_side, max_long_side: Pixels.
        align: How a side becomes a multiple: "stretch" resizes once more, up to the next one (the Semantic FPN configs'
            AlignResize); "pad" fills up at the right and the bottom with the mean colour.
        window: Side of the square windows in which a picture larger than short_side x max_long_side is looked at;
            that of the crops that the weights were trained on.
        mean, std: Statistics of values in [0, 1], in the order of `channels`.
        channels: The order that the network wants.
    """

    short_side: int
    max_long_side: int
    align: Literal["stretch", "pad"]
    window: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    channels: Literal["rgb", "bgr"] = "rgb"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of a window."""
        return self.window, self.window


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video make a clip; the arithmetic is service/media/sampling.py.

    Attributes:
        kind: "dense": T frames over a span of T * rate source frames, both ends included (PySlowFast, UniFormer);
            "dense_stride": every rate-th frame (Charades);
            "segments_middle": the middle of T equal segments (PySlowFast's Something-Something);
            "segments_offset": segment start plus an offset that depends on the clip (UniFormer, MorphMLP);
            "segments_centre": floor of the exact middle of T equal segments;
            "single": one frame, for image models.
        num_frames: T.
        rate: tau, source frames a step; only for the dense kinds.
        target_fps: Rate that `rate` counts in; None: the file's own rate.
    """

    kind: Literal["dense", "dense_stride", "segments_middle", "segments_offset", "segments_centre", "single"]
    num_frames: int
    rate: int | None = None
    target_fps: float | None = None


@dataclass(frozen=True)
class Views:
    """The test protocol: how many views of a video are shown to the network and how their outputs become one.

    Attributes:
        clips: Temporal views.
        crops: Spatial views, 1 or 3 (left, centre, right; top, centre, bottom of a portrait picture).
        single_crop: Which crop is meant by one crop; PySlowFast-style Something-Something loaders mean the first.
        combine: "mean_logits" ranks as the papers' sum of logits does; "mean_softmax"; "max_sigmoid" for multi-label.
    """

    clips: int = 1
    crops: int = 1
    single_crop: Literal["center", "first"] = "center"
    combine: Literal["mean_logits", "mean_softmax", "max_sigmoid"] = "mean_logits"


@dataclass(frozen=True)
class Published:
    """Figures as the authors published them; none was reproduced here.

    Attributes:
        params_m: Parameters, millions.
        gflops: Multiply-adds, 10^9, as the source counts them, of all that one answer takes: every view of a video
            together; a whole picture, of the size that `source` names where that is not the input size.
        top1: Top-1 accuracy (or the metric named in `metric`), per cent.
        source: Table or README row that the figures stand in.
    """

    params_m: float | None
    gflops: float | None
    top1: float | None
    source: str
    metric: str = "top-1"


@dataclass(frozen=True)
class Weights:
    """One set of weights: everything needed to use the model.

    Attributes:
        task: What the network answers.
        dataset: Data set that the head was trained on, for people.
        labels: Name of the label file in models/labels, without suffix.
        preprocessing, sampling, views: The test pipeline of the paper.
        published: The paper's figures; None for weights trained in this project.
        checkpoint: File name of the official checkpoint where one is known.
        origin: Where the official file is to be had.
        licence: Licence note that travels with an exported artefact.
        multi_label: True: scores are independent sigmoids.
    """

    task: Task
    dataset: str
    labels: str
    preprocessing: Preprocessing | WholePicture
    sampling: Sampling
    views: Views
    published: Published | None
    checkpoint: str | None
    origin: str
    licence: str
    multi_label: bool = False


def imagenet_weights(
    size: int,
    published: Published | None,
    *,
    checkpoint: str | None,
    origin: str,
    licence: str,
    crop_share: float = 0.875,
    combine: Literal["mean_logits", "mean_softmax"] = "mean_logits",
) -> Weights:
    """Return the entry of an ImageNet-1K classifier that is tested the usual way.

    Bicubic resize of the short side to `size / crop_share` (floored), centre crop of `size`, ImageNet's statistics.
    """
    return Weights(
        task="image_classification",
        dataset="ImageNet-1K",
        labels="imagenet1k",
        preprocessing=Preprocessing(int(size / crop_share), (size, size), "bicubic", IMAGENET_MEAN, IMAGENET_STD),
        sampling=Sampling("single", num_frames=1),
        views=Views(combine=combine),
        published=published,
        checkpoint=checkpoint,
        origin=origin,
        licence=licence,
    )


SHAPES_DATASET = "generated shapes (demo/)"
SHAPES_ORIGIN = "demo/weights, trained by `make train-demo`"
SHAPES_LICENCE = "Apache-2.0"


def shapes_weights(name: str, num_frames: int, size: int) -> Weights:
    """Return the entry of a video classifier trained on the generated clips of demo/.

    A clip of the network spans 32 frames at 30 a second, whatever the number of frames that it takes out of these.

    Args:
        name: Registered name; its weights are demo/weights/<name>.safetensors.
        num_frames: Frames a clip, a divisor of 32.
        size: Height and width of the input.
    """
    return Weights(
        task="video_classification",
        dataset=SHAPES_DATASET,
        labels="shapes",
        preprocessing=_shapes_preprocessing(size),
        sampling=Sampling("dense", num_frames, rate=32 // num_frames, target_fps=30),
        views=Views(),
        published=None,
        checkpoint=f"{name}.safetensors",
        origin=SHAPES_ORIGIN,
        licence=SHAPES_LICENCE,
    )


def outlines_weights(name: str, size: int) -> Weights:
    """Return the entry of an image classifier trained on single frames of the same clips: which shape it is.

    A video is looked at in four frames.

    Args:
        name: Registered name; its weights are demo/weights/<name>.safetensors.
        size: Height and width of the input.
    """
    return Weights(
        task="image_classification",
        dataset=SHAPES_DATASET,
        labels="outlines",
        preprocessing=_shapes_preprocessing(size),
        sampling=Sampling("single", num_frames=1),
        views=Views(clips=4),
        published=None,
        checkpoint=f"{name}.safetensors",
        origin=SHAPES_ORIGIN,
        licence=SHAPES_LICENCE,
    )


def _shapes_preprocessing(size: int) -> Preprocessing:
    return Preprocessing(size, (size, size), "bilinear", (0.45,) * 3, (0.225,) * 3)


@cache
def load_labels(name: str) -> tuple[str, ...]:
    """Return the class names of label file `name` in output order.

    Raises:
        ValueError: There is no such file.
    """
    path = files("models").joinpath("labels", f"{name}.txt")
    if not path.is_file():
        raise ValueError(f"there is no label file models/labels/{name}.txt")
    return tuple(path.read_text(encoding="utf-8").splitlines())


@cache
def load_palette(name: str) -> tuple[tuple[int, int, int], ...]:
    """Return the colours of the classes of label file `name`, RGB from 0 to 255, in output order.

    Raises:
        ValueError: There is no such palette.
    """
    path = files("models").joinpath("labels", f"{name}.palette.json")
    if not path.is_file():
        raise ValueError(f"there is no palette models/labels/{name}.palette.json")
    return tuple((red, green, blue) for red, green, blue in json.loads(path.read_text(encoding="utf-8")))
