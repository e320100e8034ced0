"""The artefact's manifest: every field of manifest.json, and how they must agree."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.manifest.shapes import SIDE_MULTIPLE, SMALLEST_SIDE, aligned_side

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.txt"
PALETTE_FILE = "palette.json"
# No network takes clips of more frames, nor pictures scaled to a longer short side. Beyond, the server's limits would
# refuse every upload, as if that were to blame.
MAX_CLIP_FRAMES = 1024
MAX_SHORT_SIDE = 4096
_VERSION = re.compile(r"[1-9][0-9]{0,17}")

PrecisionName = Literal["fp32", "fp16", "bf16", "int8"]
EngineBuilder = Literal["tensorrt", "tensorrt_rtx"]
_Level = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[_Level, _Level, _Level]  # RGB
Shape = tuple[int | Literal["batch", "height", "width", "height/4", "width/4"], ...]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_version(text: str) -> int | None:
    """Return the number of a version; None: a folder that is called so is none."""
    return int(text) if _VERSION.fullmatch(text) else None


class TensorSpec(_Part):
    """Name, element type and shape of an input or output.

    An axis of no fixed length is a string: "batch", and for segmentation "height" and "width", multiples of 32 from 64
    on, and their quarters.
    """

    name: str
    dtype: Literal["uint8", "float32"]
    shape: Shape

    def check(self, place: str, dtype: str, shapes: Sequence[Shape], why: str) -> None:
        """Hold type and shape against what other parts of the manifest say.

        Raises:
            ValueError: They are others; the message says so of `place`, and `why`.
        """
        if self.dtype != dtype or self.shape not in shapes:
            wanted = " or ".join(json.dumps(shape) for shape in shapes)
            raise ValueError(f"{place} is {self.dtype} {json.dumps(self.shape)}, should be {dtype} {wanted}, {why}")


class Preprocessing(_Part):
    """How one decoded RGB frame becomes one uint8 frame of the input tensor, and what the graph does to it after.

    Attributes:
        resize: Short side after the resize, pixels; the long side is floor(long * resize / short).
        crop: Height and width of the crop, pixels.
        interpolation: "bilinear" samples four neighbours without antialiasing; "bilinear_antialias" and "bicubic"
            filter over the whole footprint as PIL does.
        centering: How an odd margin is split for the centre crop: "ceil" puts the larger half before (PySlowFast),
            "round" rounds half to even (torchvision).
        mean, std, channels: Applied inside the graph to values in [0, 1]; recorded here for people.
    """

    resize: int = Field(gt=0, le=MAX_SHORT_SIDE)
    crop: tuple[int, int]
    interpolation: Literal["bilinear", "bilinear_antialias", "bicubic"]
    centering: Literal["ceil", "round"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: Literal["rgb", "bgr"]

    @model_validator(mode="after")
    def _crop_fits(self) -> Preprocessing:
        if not 0 < min(self.crop) <= max(self.crop) <= self.resize:
            raise ValueError(f"crop {self.crop} should have sides from 1 to `resize`, which is {self.resize}")
        return self


class WholePicture(_Part):
    """How one decoded RGB frame becomes the input of a segmentation network: whole, at a size of its own.

    The picture is scaled, keeping its ratio, until its short side has `short_side` pixels or its long side
    `max_long_side`, whichever comes first. Then both sides become multiples of 32. Neither step antialiases.

    Attributes:
        short_side, max_long_side: Pixels.
        align: How a side becomes a multiple of 32: "stretch" resizes once more, up to the next one; "pad" fills up at
            the right and the bottom with the mean colour.
        window: Side of the square windows in which a picture is looked at that the network does not take at once.
        mean, std, channels: Applied inside the graph to values in [0, 1].
    """

    short_side: int = Field(ge=SMALLEST_SIDE, le=MAX_SHORT_SIDE)
    max_long_side: int = Field(ge=SMALLEST_SIDE)
    align: Literal["stretch", "pad"]
    window: int = Field(ge=SMALLEST_SIDE, multiple_of=SIDE_MULTIPLE)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: Literal["rgb", "bgr"]

    @model_validator(mode="after")
    def _sides_in_order(self) -> WholePicture:
        if self.max_long_side < self.short_side:
            raise ValueError(f"max_long_side {self.max_long_side} must not be less than short_side {self.short_side}")
        if not self.takes(self.window, self.window):
            raise ValueError(
                f"window {self.window} must not be more than max_long_side {self.max_long_side}, nor its square more "
                f"than short_side x max_long_side, {self.most_pixels}"
            )
        return self

    @property
    def most_pixels(self) -> int:
        """Pixels of the largest picture that the network takes at once."""
        return self.short_side * self.max_long_side

    @property
    def longest_side(self) -> int:
        """Pixels of the longest side of such a picture."""
        return aligned_side(self.max_long_side)

    def takes(self, height: int, width: int) -> bool:
        """Whether the network takes a picture of that height and width at once; both are multiples of 32."""
        return height * width <= self.most_pixels and max(height, width) <= self.longest_side


class Sampling(_Part):
    """Which frames of a video make a clip (service/media/sampling.py has the arithmetic).

    Attributes:
        kind: Name of the rule.
        num_frames: Frames a clip.
        rate: Source frames a step, for the dense rules.
        target_fps: Frame rate that `rate` counts in; None: the file's own.
    """

    kind: Literal["dense", "dense_stride", "segments_middle", "segments_offset", "segments_centre", "single"]
    num_frames: int = Field(gt=0, le=MAX_CLIP_FRAMES)
    rate: int | None = Field(default=None, gt=0)
    target_fps: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _rate_given(self) -> Sampling:
        if self.kind in ("dense", "dense_stride") and self.rate is None:
            raise ValueError(f"sampling of kind {self.kind} needs a rate")
        return self

    @model_validator(mode="after")
    def _single_is_one(self) -> Sampling:
        if self.kind == "single" and self.num_frames != 1:
            raise ValueError(f"num_frames {self.num_frames} should be 1, since sampling of kind single takes one frame")
        return self


class Views(_Part):
    """Default number of views of a request and how their outputs are combined."""

    clips: int = Field(gt=0)
    crops: Literal[1, 3]
    single_crop: Literal["center", "first"]
    combine: Literal["mean_logits", "mean_softmax", "max_sigmoid"]


class Checkpoint(_Part):
    """The weights that were exported; `file` is a bare file name, sha256 of its content."""

    file: str
    sha256: str


class Verification(_Part):
    """What one written model file differed by from the torch network.

    Attributes:
        batch_sizes: Batch sizes compared.
        input_sizes: Heights and widths compared, each at every batch size.
        inputs: Number of different inputs compared at each.
        arithmetic: Precision in which the runtime computed: fp32 for an fp16 file on a CPU, and for a bf16 file on one
            without such instructions, whose figures then tell of rounded weights alone; None: not noted.
        max_abs_difference: Largest difference of a logit.
        relative_error: ||file - torch|| / ||torch - mean(torch)|| of the logits of the worst view; the divisor is at
            least its root mean square over the views, for one whose classes are nearly tied. An export holds fp32 files
            to it, and fp16 and bf16 files to the median view's: networks that choose among tokens jump where a
            choice is a tie.
        top1_agreement: Share of arg maxes that agree, 0 to 1, the mean over all runs: one a view, or for segmentation
            one a pixel.
    """

    batch_sizes: tuple[int, ...]
    input_sizes: tuple[tuple[int, int], ...]
    inputs: int
    arithmetic: PrecisionName | None = None
    max_abs_difference: float
    relative_error: float
    top1_agreement: float


class ClipFigures(_Part):
    """How one model file did on decoded clips or pictures that nothing was calibrated with.

    Attributes:
        clips: How many; of each one view, so that accuracy is not that of the model's whole protocol.
        relative_error: As in Verification, but what 99 in 100 keep to: so the largest of fewer than 100.
        top1_agreement: As in Verification.
        accuracy: Share whose first class is the right one; None without labels.
        torch_accuracy: The same of the torch network in float32.
    """

    clips: int
    relative_error: float
    top1_agreement: float
    accuracy: float | None = None
    torch_accuracy: float | None = None


class Precision(_Part):
    """One model file and what its verification measured.

    Attributes:
        runtime: What ran the file to verify it.
        verification: On made-up inputs.
        on_clips: On decoded ones; None where there were none.
        calibration_clips: Decoded clips or pictures that quantisation took its ranges from.
        float32_layers: Layers that quantisation left alone.
        engines: Builders that were found to make an engine of the file, and their versions.
    """

    file: str
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"
    verification: Verification
    on_clips: ClipFigures | None = None
    calibration_clips: int = 0
    float32_layers: tuple[str, ...] = ()
    engines: dict[EngineBuilder, str] = {}


# Of a model: a folder of the repository, and a part of addresses.
NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]*$"


class _Manifest(_Part):
    """What the manifests of all tasks say.

    Attributes:
        name: What the model goes by.
        network: Registered name of its network where that is another.
        clips: SHA-256 over the names and digests of the media files that precisions were calibrated and measured with;
            None: there were none.
        parity: What torch says of the parity view (`service.manifest.parity`) in float32, a number a class, which the
            server compares with what it gets when it loads the model; None: it loads the model without.
        opset: ONNX's operator set in the model files; those in bf16 have 22, in which convolutions came to take it.
    """

    schema_version: Literal[1]
    name: str = Field(pattern=NAME_PATTERN)
    network: str | None = None
    version: str = Field(pattern=r"^[1-9][0-9]*$")
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    num_classes: int = Field(gt=0)
    labels: str
    checkpoint: Checkpoint | None
    clips: str | None = None
    parity: tuple[float, ...] | None = None
    licence: str
    opset: int
    max_batch_size: int = Field(gt=0)
    precisions: dict[PrecisionName, Precision] = Field(min_length=1)
    tools: dict[str, str]
    files: dict[str, str]

    @property
    def full_name(self) -> str:
        """Name and version, as messages, logs and pictures give them: "name/version"."""
        return f"{self.name}/{self.version}"

    @property
    def is_trained(self) -> bool:
        """Whether it was exported from a checkpoint; the weights are random otherwise."""
        return self.checkpoint is not None

    def _named_files(self) -> list[str]:
        return [self.labels, *(precision.file for precision in self.precisions.values())]

    def _check_tensors(self, views: Sequence[Shape], why: str, logits: Shape) -> None:
        """Hold what the network takes and gives against the rest of the manifest.

        Args:
            views: What uploads may be made into for the network.
            why: What says so.
            logits: Of the output that is asked for.

        Raises:
            ValueError: It is something else.
        """
        self.inputs[0].check("inputs[0]", "uint8", views, why)
        by_name = {output.name: output for output in self.outputs}
        if "logits" not in by_name:
            raise ValueError(f"outputs should have one called logits, there are {', '.join(by_name)}")
        by_name["logits"].check("logits of outputs", "float32", [logits], f"since num_classes is {self.num_classes}")

    @model_validator(mode="after")
    def _parity_is_of_all_classes(self) -> Self:
        if self.parity is not None and len(self.parity) != self.num_classes:
            raise ValueError(f"parity has {len(self.parity)} numbers for {self.num_classes} classes")
        return self

    @model_validator(mode="after")
    def _files_are_listed(self) -> Self:
        for file in self._named_files():
            if file not in self.files:
                raise ValueError(f"{file} has no sha256 under `files`")
        for file in self.files:
            if Path(file).name != file or file.startswith("."):
                raise ValueError(f"{file!r} is not a plain file name")
        return self


class ClassifierManifest(_Manifest):
    """Everything the service knows about a model that names classes of a clip or picture."""

    task: Literal["video_classification", "image_classification"]
    preprocessing: Preprocessing
    sampling: Sampling
    views: Views
    multi_label: bool

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        height, width = self.preprocessing.crop
        views: list[Shape] = [("batch", self.sampling.num_frames, height, width, 3)]
        if self.sampling.num_frames == 1:
            views.append(("batch", height, width, 3))
        why = "as sampling.num_frames and preprocessing.crop say"
        self._check_tensors(views, why, ("batch", self.num_classes))
        return self


class SegmenterManifest(_Manifest):
    """Everything the service knows about a model that names the class of every pixel.

    Attributes:
        num_classes: At most 256, as a mask holds one byte a pixel.
        palette: File with a colour for each class, [[red, green, blue], ...].
    """

    task: Literal["image_segmentation"]
    preprocessing: WholePicture
    num_classes: int = Field(gt=0, le=256)
    palette: str

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        views: list[Shape] = [("batch", "height", "width", 3)]
        self._check_tensors(views, "for pictures of any size", ("batch", self.num_classes, "height/4", "width/4"))
        return self

    def _named_files(self) -> list[str]:
        return [*super()._named_files(), self.palette]


Manifest = ClassifierManifest | SegmenterManifest
