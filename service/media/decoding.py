"""Make a request's views from the frames that they need; all views share one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from service.errors import MediaLimitError
from service.media import orientation
from service.media.description import describe, orientation_of, upright_rgb
from service.media.frames import FrameSource, read_frames
from service.media.preprocessing import CropName, crop_names, crop_offset, resize, resized_size
from service.media.probing import check_pixels
from service.media.sampling import clip_indices
from service.media.timing import FrameIndex
from service.media.types import DecodeRequest, DecodeResult, MediaInfo, View

Allocate = Callable[[tuple[int, ...]], NDArray[np.uint8]]


def decode_views(file: BinaryIO, request: DecodeRequest, allocate: Allocate) -> DecodeResult:
    """Decode an upload into the views that `request` asks for.

    Args:
        file: The upload; any object with read, seek and tell.
        request: Sampling, preprocessing and limits.
        allocate: Called with the shape (views, T, height, width, 3), once a pass; returns the array to fill.

    Raises:
        UnsupportedMediaError, UndecodableMediaError, MediaLimitError: See service.errors.
        BadParameterError: `start` and `end` select no frame.
    """
    return read_frames(file, request.limits, lambda source: _ViewMaker(source, request, allocate).run())


class _ViewMaker:
    """Fills the views of one request from one pass over the frames."""

    def __init__(self, source: FrameSource, request: DecodeRequest, allocate: Allocate) -> None:
        self.source = source
        self.request = request
        self.allocate = allocate
        self.turn = orientation.UPRIGHT
        self.views: tuple[View, ...] = ()
        self.shape: tuple[int, ...] = ()

    def run(self) -> DecodeResult:
        clips = self._plan(self.source.index)
        wanted: dict[int, list[tuple[int, int]]] = {}  # frame number -> [(clip, position)]
        for clip, frames in enumerate(clips):
            for position, frame in enumerate(frames):
                wanted.setdefault(frame, []).append((clip, position))
        media: MediaInfo | None = None
        crops: tuple[CropName, ...] = ()
        output: NDArray[np.uint8] | None = None
        for number, picture in self.source.frames(wanted):
            if media is None or output is None:
                self.turn = orientation_of(self.source, picture)
                media = describe(self.source, picture, self.turn)
                crops = self._crop_names(media)
                output = self._allocate(clips, crops)
            self._place(picture, wanted[number], crops, output)
        assert media is not None
        time = self.source.index.time
        return DecodeResult(
            media=media,
            views=self.views,
            times=tuple(tuple(round(float(time(frame)), 6) for frame in view.frames) for view in self.views),
            shape=self.shape,
            frames_decoded=self.source.decoded,
        )

    def _plan(self, index: FrameIndex) -> list[list[int]]:
        """Return the frame numbers of each clip."""
        request = self.request
        self.source.check_start(request.start)
        first, count = index.between(request.start, request.end)
        clips = request.clips_of(self.source.format.kind)
        return [
            [first + frame for frame in clip_indices(request.sampling, count, index.fps, clip, clips)]
            for clip in range(clips)
        ]

    def _crop_names(self, media: MediaInfo) -> tuple[CropName, ...]:
        views = self.request.views
        return crop_names(media.height, media.width, views.crops, views.single_crop)

    def _allocate(self, clips: list[list[int]], crops: tuple[CropName, ...]) -> NDArray[np.uint8]:
        self.views = tuple(
            View(clip=clip, crop=crop, frames=tuple(frames)) for clip, frames in enumerate(clips) for crop in crops
        )
        height, width = self.request.preprocessing.crop
        self.shape = (len(self.views), self.request.sampling.num_frames, height, width, 3)
        return self.allocate(self.shape)

    def _place(
        self,
        frame: VideoFrame,
        places: list[tuple[int, int]],
        crops: tuple[CropName, ...],
        output: NDArray[np.uint8],
    ) -> None:
        """Convert, turn, resize and crop one decoded frame into every view that shows it."""
        resized = prepare_frame(self.source, frame, self.turn, self.request)
        rule = self.request.preprocessing
        height, width = rule.crop
        for number, crop in enumerate(crops):
            top, left = crop_offset(resized.shape[0], resized.shape[1], rule.crop, crop, rule.centering)
            cropped = resized[top : top + height, left : left + width]
            for clip, position in places:
                output[clip * len(crops) + number, position] = cropped


def prepare_frame(source: FrameSource, frame: VideoFrame, turn: int, request: DecodeRequest) -> NDArray[np.uint8]:
    """Return a decoded frame as upright RGB (H, W, 3), resized as the model's papers do.

    Raises:
        MediaLimitError: The frame, or its resized form (an extreme aspect), has too many pixels.
    """
    check_pixels(frame.width, frame.height, request.limits)
    height, width = resized_size(frame.height, frame.width, request.preprocessing.resize)
    if height * width > request.limits.max_pixels:
        raise MediaLimitError(
            f"{frame.width}x{frame.height} is too narrow: resized for the model it would have {height * width} pixels, "
            f"the limit is {request.limits.max_pixels}"
        )
    return resize(upright_rgb(source, frame, turn), request.preprocessing)
