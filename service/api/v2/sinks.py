"""Where the content of an input goes while it comes: encoded files into memory files, frames into an array."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.api.memory_files import append, check_media, close_upload, open_upload
from service.api.v2.interface import CLIP, FRAMES, of_element
from service.errors import BadParameterError, ServiceError

_PREFIX_BYTES = 4


class Clips:
    """The memory files of the encoded files of one request, in their order."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def open(self) -> None:
        """Begin the next file."""
        self.descriptors.append(open_upload())

    def write(self, content: bytes | memoryview) -> None:
        """Add to the present file."""
        append(self.descriptors[-1], content)

    def close(self) -> None:
        """Give all files back."""
        while self.descriptors:
            close_upload(self.descriptors.pop())


class Sink(Protocol):
    """Takes the bytes behind the JSON."""

    def write(self, content: bytes | memoryview) -> None:
        """Take the next bytes."""
        ...

    def finish(self) -> None:
        """Check, once everything came, that it was enough."""
        ...


class NoSink:
    """For an input that was in the JSON: nothing may follow."""

    def write(self, content: bytes | memoryview) -> None:
        """Refuse bytes that no input claims."""
        if content:
            raise BadParameterError("bytes follow the JSON, and no input has the parameter binary_data_size")

    def finish(self) -> None:
        """Nothing is missing."""


class WholeBody:
    """The whole body is one encoded file."""

    def __init__(self, clips: Clips) -> None:
        self._clips = clips
        clips.open()

    def write(self, content: bytes | memoryview) -> None:
        """Add to the file."""
        self._clips.write(content)

    def finish(self) -> None:
        """Look at what came."""
        check_media(self._clips.descriptors[0])


class ElementsSink:
    """Binary data of `clip`: files with their lengths before them.

    Args:
        clips: Gets the files.
        count: How many there must be.
        size: Bytes that they and their lengths take.
    """

    def __init__(self, clips: Clips, count: int, size: int) -> None:
        self._clips = clips
        self._count = count
        self._left = size
        self._prefix = b""
        self._missing = 0  # bytes of the present element

    def write(self, content: bytes | memoryview) -> None:
        """Take the next bytes of the elements."""
        view = memoryview(content)
        if len(view) > self._left:
            raise BadParameterError(f"input `{CLIP}` is followed by more bytes than its binary_data_size")
        while view:
            taken = self._element(view) if self._missing else self._length(view)
            self._left -= taken
            view = view[taken:]

    def _length(self, view: memoryview) -> int:
        part = view[: _PREFIX_BYTES - len(self._prefix)]
        self._prefix += part
        if len(self._prefix) == _PREFIX_BYTES:
            self._begin(int.from_bytes(self._prefix, "little"), self._left - len(part))
            self._prefix = b""
        return len(part)

    def _begin(self, length: int, left: int) -> None:
        number = len(self._clips.descriptors)
        if number == self._count:
            raise BadParameterError(f"input `{CLIP}` has more elements than the {self._count} of its shape")
        if not 0 < length <= left:
            raise BadParameterError(
                f"element {number} of `{CLIP}` says it has {length} bytes, and {left} of binary_data_size are left"
            )
        self._clips.open()
        self._missing = length

    def _element(self, view: memoryview) -> int:
        part = view[: self._missing]
        self._clips.write(part)
        self._missing -= len(part)
        if not self._missing:
            _check_last(self._clips, self._count)
        return len(part)

    def finish(self) -> None:
        """Check that all elements came."""
        found = len(self._clips.descriptors)
        if self._left or self._missing or self._prefix or found < self._count:
            raise BadParameterError(
                f"input `{CLIP}` has {found} elements for the {self._count} of its shape; {self._left} bytes of its "
                f"binary_data_size are missing, {len(self._prefix)} are behind the last element"
            )


class FramesSink:
    """Binary data of `frames`: their values, row-major.

    Attributes:
        frames: What came.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        # Pages are touched only as bytes come, so that a shape alone costs nothing.
        self.frames: NDArray[np.uint8] = np.empty(shape, np.uint8)
        self._target = self.frames.reshape(-1)
        self._written = 0

    def write(self, content: bytes | memoryview) -> None:
        """Take the next values."""
        end = self._written + len(content)
        if end > len(self._target):
            raise BadParameterError(f"input `{FRAMES}` is followed by more bytes than its binary_data_size")
        self._target[self._written : end] = np.frombuffer(content, np.uint8)
        self._written = end

    def finish(self) -> None:
        """Check that all values came."""
        if self._written < len(self._target):
            raise BadParameterError(
                f"{self._written} bytes came of input `{FRAMES}`, whose binary_data_size is {len(self._target)}"
            )


def write_files(clips: Clips, files: Sequence[bytes]) -> None:
    """Write whole files.

    Raises:
        UnsupportedMediaError: One is of no accepted format.
    """
    for content in files:
        clips.open()
        clips.write(content)
        _check_last(clips, len(files))


def files_from_json(data: Any, count: int) -> list[bytes]:
    """Return the files whose base64 text is in the JSON.

    Raises:
        BadParameterError: The data is not a list of `count` texts in base64.
    """
    if not isinstance(data, list) or len(data) != count:
        raise BadParameterError(f"input `{CLIP}`: data must be a list of the {count} elements of its shape, as base64")
    return [_from_base64(text, number) for number, text in enumerate(data)]


def _from_base64(text: Any, number: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise BadParameterError(
            f"element {number} of `{CLIP}` is not base64, as a file in JSON must be; or send it as binary data"
        ) from error


def _check_last(clips: Clips, count: int) -> None:
    """Refuse the last of `count` files as soon as it is there, if it is of no accepted format."""
    number = len(clips.descriptors) - 1
    try:
        check_media(clips.descriptors[number])
    except ServiceError as error:
        raise of_element(error, number, count) from error
