"""Hold what a decode worker answers against what it was asked: one that was taken over answers what it likes.

The sizes, counts and texts of an answer decide what the server allocates, draws and sends. Each is either what the
request and the upload's size make it, or within the request's limits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.errors import InternalError
from service.media.formats import ALL_FORMATS, STILLS
from service.media.preprocessing import aligned_size, crop_names, whole_size
from service.media.types import (
    AnyRequest,
    AnyResult,
    DecodeLimits,
    DecodeRequest,
    DecodeResult,
    MediaInfo,
    PictureRequest,
    PictureResult,
)

_KINDS = {(known.name, known.kind) for known in (*ALL_FORMATS, *STILLS.values())}
# FFmpeg's names of codecs. Which there are depends on how it was built.
_CODEC_NAME = re.compile(r"[a-z0-9_]{1,32}")
# The sum over all requests is a metric, which one answer must not make useless. No decoder gets as far in its time.
_MOST_FRAMES_DECODED = 1 << 32


def check_answer(result: AnyResult, request: AnyRequest) -> None:
    """Go on if `result` can be the answer to `request`. What it says of the upload's content is the worker's word.

    Raises:
        InternalError: It cannot.
    """
    _check_media(result.media, request.limits)
    _require(0 < result.frames_decoded < _MOST_FRAMES_DECODED, f"{result.frames_decoded} decoded frames")
    if isinstance(result, DecodeResult) and isinstance(request, DecodeRequest):
        _check_views(result, request)
    elif isinstance(result, PictureResult) and isinstance(request, PictureRequest):
        _check_pictures(result, request)
    else:
        raise _misfit(f"a {type(result).__name__} to a request for {request.kind}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise _misfit(what)


def _misfit(what: str) -> InternalError:
    return InternalError(f"a decode worker sent an answer that does not fit its request: {what:.200}")


def _check_media(media: MediaInfo, limits: DecodeLimits) -> None:
    sides = media.width, media.height
    _require(min(sides) > 0 and media.width * media.height <= limits.max_pixels, f"media of {sides} pixels")
    _require(0 < media.frames <= limits.max_frames, f"media of {media.frames} frames")
    _require((media.format, media.kind) in _KINDS, f"format {media.format!r} of a {media.kind}")
    _require(_CODEC_NAME.fullmatch(media.codec) is not None, f"codec {media.codec!r}")
    _require(media.rotation in (0, 90, 180, 270), f"a rotation of {media.rotation} degrees")


def _check_views(result: DecodeResult, request: DecodeRequest) -> None:
    media, views = result.media, request.views
    crops = crop_names(media.height, media.width, views.crops, views.single_crop)
    expected = [(clip, crop) for clip in range(request.clips_of(media.kind)) for crop in crops]
    _require([(view.clip, view.crop) for view in result.views] == expected, f"{len(result.views)} views")
    count = request.sampling.num_frames
    _require(result.shape == (len(expected), count, *request.preprocessing.crop, 3), f"shape {result.shape}")
    _require(len(result.times) == len(expected), f"times of {len(result.times)} views")
    for view, times in zip(result.views, result.times, strict=True):
        _check_frames(view.frames, times, count, media, request.limits)


def _check_pictures(result: PictureResult, request: PictureRequest) -> None:
    media, count = result.media, result.shape[0]
    _require(0 < count <= request.max_pictures, f"{count} pictures")
    _check_frames(result.frames, result.times, count, media, request.limits)
    _require(list(result.frames) == sorted(set(result.frames)), "frames out of order")
    size = whole_size(media.height, media.width, request.preprocessing, request.short_side)
    aligned = aligned_size(size)
    content = aligned if request.preprocessing.align == "stretch" else size
    _require(result.shape == (count, *aligned, 3), f"shape {result.shape}")
    _require(result.content == content, f"content of {result.content}")
    original = (count, media.height, media.width, 3)
    _require(result.original_shape == (original if request.originals else None), f"shape {result.original_shape}")
    for _, height, width, _ in (result.shape, original):
        pixels = count * height * width
        _require(pixels <= request.max_total_pixels, f"{pixels} pixels")


def _check_frames(
    frames: Sequence[int], times: Sequence[float], count: int, media: MediaInfo, limits: DecodeLimits
) -> None:
    _require(len(frames) == len(times) == count, f"{len(frames)} frames and {len(times)} times for {count}")
    _require(all(0 <= frame < media.frames for frame in frames), "frames that the media do not have")
    _require(all(0 <= time <= limits.max_seconds for time in times), "times that the media do not have")
