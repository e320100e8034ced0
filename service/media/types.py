"""What crosses between the server and a decode worker. The worker is not trusted: everything is validated JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from service.manifest import Preprocessing, Sampling, Views, WholePicture

# Of what goes over the socket in one piece; the kernel takes none of much more than half as much again.
MAX_PACKET_BYTES = 1 << 17
# More than the JSON of an answer takes for one frame (its number and time) and for one view besides its frames.
FRAME_JSON_BYTES = 64
VIEW_JSON_BYTES = 128
# Where a worker that has a request sets the position of its first array's file, before it looks at the upload: from
# then on that may be to blame. Server and worker share the position, so this takes no message.
TAKEN_POSITION = 1
# Arrays of one answer.
MAX_ARRAYS = 2


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    """One upload to decode into views: which frames, how prepared, within which limits.

    Attributes:
        start, end: Part of the video to sample, seconds; None: from the beginning, to the end.
    """

    kind: Literal["views"] = "views"
    preprocessing: Preprocessing
    sampling: Sampling
    views: Views
    limits: DecodeLimits
    start: float | None = Field(default=None, ge=0)
    end: float | None = Field(default=None, gt=0)

    def clips_of(self, kind: Literal["video", "image"]) -> int:
        """Return how many clips are made of an upload: of a picture one, since all would be the same."""
        return 1 if kind == "image" else self.views.clips

    @property
    def array_bytes(self) -> tuple[int, ...]:
        """Bytes of each array of the answer, at most."""
        views = self.views.clips * self.views.crops
        height, width = self.preprocessing.crop
        return (views * self.sampling.num_frames * height * width * 3,)

    @property
    def answer_bytes(self) -> int:
        """Bytes of the answer's JSON, at most: one packet would hold all but the frames."""
        views = self.views.clips * self.views.crops
        return MAX_PACKET_BYTES + views * (VIEW_JSON_BYTES + self.sampling.num_frames * FRAME_JSON_BYTES)


class PictureRequest(_Message):
    """One upload to decode into whole pictures: itself, or the frames of a video at even times.

    Attributes:
        short_side: Short side of the pictures in place of the model's own; its longest side grows with it.
        fps: Pictures for each second of a video; no frame is taken twice.
        start, end: Part of the video to sample, seconds; None: from the beginning, to the end.
        max_pictures: Pictures of one upload.
        max_total_pixels: Pixels of all its pictures together, as uploaded and as resized.
        originals: Whether the pictures are wanted at the upload's own size as well.
    """

    kind: Literal["pictures"] = "pictures"
    preprocessing: WholePicture
    limits: DecodeLimits
    short_side: int | None = None
    fps: float = Field(gt=0)
    start: float | None = Field(default=None, ge=0)
    end: float | None = Field(default=None, gt=0)
    max_pictures: int
    max_total_pixels: int
    originals: bool = False

    @property
    def array_bytes(self) -> tuple[int, ...]:
        """Bytes of each array of the answer, at most."""
        return (self.max_total_pixels * 3,) * (2 if self.originals else 1)

    @property
    def answer_bytes(self) -> int:
        """Bytes of the answer's JSON, at most: one packet would hold all but the frames."""
        return MAX_PACKET_BYTES + self.max_pictures * FRAME_JSON_BYTES


AnyRequest = DecodeRequest | PictureRequest
ANY_REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(Annotated[AnyRequest, Field(discriminator="kind")])


class MediaInfo(_Message):
    """What an upload is; width and height are in stored pixels, after a clockwise turn of `rotation` degrees."""

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
        times: When each frame of each view shows, seconds from the first frame of the video.
        frames_decoded: Frames that the decoder put out to get there.
    """

    media: MediaInfo
    views: tuple[View, ...]
    times: tuple[tuple[float, ...], ...]
    shape: tuple[int, ...]
    frames_decoded: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the arrays that travel beside this."""
        return (self.shape,)

    @property
    def frames_needed(self) -> int:
        """How many different frames the views are made of."""
        return len({frame for view in self.views for frame in view.frames})


class PictureResult(_Message):
    """Answer of a worker; one or two arrays of uint8 RGB (N, H, W, 3) travel beside it.

    Attributes:
        frames: Number of the decoded frame behind each picture.
        times: Its time, seconds from the first frame of the video.
        content: Height and width that the picture takes up in `shape`; the rest is filled up.
        shape: Of the pictures as the network wants them.
        original_shape: Of the pictures at the upload's own size; None if they were not asked for.
        frames_decoded: Frames that the decoder put out to get there.
    """

    media: MediaInfo
    frames: tuple[int, ...]
    times: tuple[float, ...]
    content: tuple[int, int]
    shape: tuple[int, int, int, int]
    original_shape: tuple[int, int, int, int] | None
    frames_decoded: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the arrays that travel beside this."""
        return (self.shape,) if self.original_shape is None else (self.shape, self.original_shape)

    @property
    def frames_needed(self) -> int:
        """How many frames the pictures are made of."""
        return len(self.frames)


AnyResult = DecodeResult | PictureResult


class DecodeFailure(_Message):
    """Answer of a worker that refuses an upload: a service error by its code.

    Attributes:
        trace: Where an exception that nobody foresaw came from, for the log; None for the others.
    """

    code: str
    detail: str
    trace: str | None = None


ANY_ANSWER: TypeAdapter[AnyResult | DecodeFailure] = TypeAdapter(AnyResult | DecodeFailure)


class WorkerReady(_Message):
    """First message of a worker.

    Attributes:
        unfiltered: Why its system calls could not be filtered; None if they are.
    """

    unfiltered: str | None
