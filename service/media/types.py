"""What crosses between the server and a decode worker. The worker is not trusted: everything is validated JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.manifest import Preprocessing, Sampling, Views


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DecodeLimits(_Message):
    """How much one upload may ask of a worker.

    Attributes:
        max_pixels: Pixels of one frame, as coded or after the resize.
        max_frames: Frames in the container.
        max_seconds: Duration of the video.
        max_streams: Streams in the container.
    """

    max_pixels: int
    max_frames: int
    max_seconds: float
    max_streams: int


class DecodeRequest(_Message):
    """One upload to decode: which frames, how prepared, within which limits.

    Attributes:
        start, end: Part of the video to sample, seconds; None: from the beginning, to the end.
    """

    preprocessing: Preprocessing
    sampling: Sampling
    views: Views
    limits: DecodeLimits
    start: float | None = Field(default=None, ge=0)
    end: float | None = Field(default=None, gt=0)


class MediaInfo(_Message):
    """What an upload is; width and height as a viewer shows it, rotation in clockwise degrees that this took."""

    kind: Literal["video", "image"]
    format: str
    codec: str
    width: int
    height: int
    frames: int
    fps: float | None
    duration_seconds: float | None
    rotation: int


class View(_Message):
    """One view: number of its clip, name of its crop, decoded frame numbers in time order."""

    clip: int
    crop: str
    frames: tuple[int, ...]


class DecodeResult(_Message):
    """Answer of a worker; the pixels travel beside it as uint8 of `shape` (views, T, height, width, 3).

    Attributes:
        frames_decoded: Frames that the decoder put out to get there.
    """

    media: MediaInfo
    views: tuple[View, ...]
    shape: tuple[int, ...]
    frames_decoded: int


class DecodeFailure(_Message):
    """Answer of a worker that refuses an upload: a service error by its code."""

    code: str
    detail: str
