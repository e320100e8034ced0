"""Masks for clients: at the size of their pictures, as indexed PNG, and as runs with names and shares."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from service.manifest import Colour
from service.outputs.bands import BandResize, bands
from service.outputs.windows import strongest

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Segment:
    """All pixels of one class.

    Attributes:
        index: Of the class.
        label: Its name.
        color: Its colour in pictures, RGB.
        area: Pixels.
        share: Of the picture's pixels, 0 to 1.
        size: Height and width of the picture.
        counts: COCO's compressed run lengths, columns first.
    """

    index: int
    label: str
    color: Colour
    area: int
    share: float
    size: tuple[int, int]
    counts: str


def mask_of_logits(
    logits: NDArray[np.float32], seen: tuple[int, int], content: tuple[int, int], size: tuple[int, int]
) -> Mask:
    """Return the class of each pixel at (height, width) `size`, as the papers' test finds it.

    The logits are enlarged to the size at which the network saw the picture, and those of the picture itself to its own
    size, both bilinearly; then comes the arg max. Only classes that are the first or second anywhere can win, so only
    their planes are enlarged, one after the other and a band of rows at a time.

    Args:
        logits: Coarse logits (classes, H/4, W/4).
        seen: Height and width of the network's input.
        content: What the picture takes up of it.
        size: Height and width of the mask.
    """
    candidates = _leading_classes(logits)
    mask = np.empty(size, np.uint8)
    for rows in bands(size):
        to_size = BandResize(content[0], size[0], rows)
        to_seen = BandResize(logits.shape[1], seen[0], to_size.needed)
        pictures = (to_seen.resize(logits[index, to_seen.needed], seen[1])[:, : content[1]] for index in candidates)
        planes = (to_size.resize(picture, size[1]) for picture in pictures)
        mask[rows] = candidates[strongest(planes, mask[rows].shape)]
    return mask


def _leading_classes(logits: NDArray[np.float32]) -> Mask:
    """Return the classes, uint8, that are the first or second of logits (classes, h, w) anywhere."""
    classes, height, width = logits.shape
    leading = np.zeros(classes, bool)
    for rows in bands((height, width * classes)):
        leading[np.argpartition(logits[:, rows], -min(2, classes), axis=0)[-2:]] = True
    return np.flatnonzero(leading).astype(np.uint8)


def enlarge(mask: Mask, size: tuple[int, int]) -> Mask:
    """Bring a mask whose logits are gone to another (height, width) so that borders stay smooth.

    Each class votes for a pixel as strongly as it is present around it: the arg max of the classes' own planes resized
    bilinearly. Taking the nearest pixel instead would give stairs.
    """
    if mask.shape == size:
        return mask
    enlarged = np.empty(size, np.uint8)
    for rows in bands(size):
        band = BandResize(len(mask), size[0], rows)
        source = mask[band.needed]
        present = np.unique(source)
        planes = (band.resize((source == index).astype(np.float32), size[1]) for index in present)
        enlarged[rows] = present[strongest(planes, enlarged[rows].shape)]
    return enlarged


def class_areas(mask: Mask, classes: int) -> NDArray[np.int64]:
    """Return the pixels of each class, int64 (classes,)."""
    areas = np.zeros(classes, np.int64)
    for rows in bands(mask.shape):
        areas += np.bincount(mask[rows].ravel(), minlength=classes)
    return areas


def to_png(mask: Mask, palette: tuple[Colour, ...]) -> bytes:
    """Return an indexed PNG whose pixel values are the classes and whose palette has their colours."""
    picture = Image.fromarray(mask)
    picture.putpalette([level for colour in palette for level in colour])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def to_zip(masks: Iterable[tuple[int, Mask]], palette: tuple[Colour, ...]) -> bytes:
    """Return a zip archive of indexed PNGs, each named by the number of its frame: frame_000042.png."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # a PNG is compressed already
        for frame, mask in masks:
            # A fixed date, so that the same masks are the same bytes.
            archive.writestr(zipfile.ZipInfo(f"frame_{frame:06d}.png"), to_png(mask, palette))
    return buffer.getvalue()


def segments(mask: Mask, labels: tuple[str, ...], palette: tuple[Colour, ...]) -> list[Segment]:
    """Return the classes that are present, largest first."""
    areas = class_areas(mask, len(labels))
    order = [int(index) for index in np.argsort(-areas, kind="stable") if areas[index]]
    runs = _Runs(mask)
    return [
        Segment(
            index=index,
            label=labels[index],
            color=palette[index],
            area=int(areas[index]),
            share=float(areas[index] / mask.size),
            size=(mask.shape[0], mask.shape[1]),
            counts=runs.counts(index),
        )
        for index in order
    ]


class _Runs:
    """The runs of equal classes in a mask, column after column.

    Found by numpy, which lets other threads run meanwhile; pycocotools would not, and would look at every pixel once a
    class.
    """

    def __init__(self, mask: Mask) -> None:
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        self._shape = (mask.shape[0], mask.shape[1])
        self._edges = np.concatenate([[0], changes, [flat.size]])
        self._classes = flat[self._edges[:-1]]

    def counts(self, index: int) -> str:
        """Return COCO's compressed run lengths of one class: pixels without it, with it, without it and so on."""
        (own,) = np.nonzero(self._classes == index)
        edges = np.stack([self._edges[own], self._edges[own + 1]], axis=1).ravel()
        lengths = np.diff(edges, prepend=0)
        # What comes after the last run of the class, if anything does.
        rest = self._edges[-1:] - edges[-1:]
        plain: Any = {"size": self._shape, "counts": [*lengths.tolist(), *rest[rest > 0].tolist()]}
        counts = coco.frPyObjects(plain, *self._shape)["counts"]
        return counts if isinstance(counts, str) else counts.decode("ascii")
