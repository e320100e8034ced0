"""The classes of a network: those that its weights are registered with, or those of somebody's own checkpoint."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

from export.errors import ExportError
from models import load_labels, load_palette, model_entry
from service.manifest import MAX_TEXT_BYTES, Colour, ManifestError, label_lines, open_file

# With one class every softmax is 1 and every mask is one colour; and what a file differs by from torch is measured as a
# share of the spread of the logits, of which a single one has none.
LEAST_CLASSES = 2
# A mask holds one byte a pixel.
MOST_CLASSES_OF_MASKS = 256


@dataclass(frozen=True)
class Classes:
    """What the outputs of a network stand for.

    Attributes:
        labels: Name of each.
        palette: Colour of each, RGB; empty for classifiers.
    """

    labels: tuple[str, ...]
    palette: tuple[Colour, ...] = ()


def registered_classes(name: str) -> Classes:
    """Return the classes that model `name` is registered with."""
    weights = model_entry(name).weights
    is_of_masks = weights.task == "image_segmentation"
    return Classes(load_labels(weights.labels), load_palette(weights.labels) if is_of_masks else ())


def own_classes(name: str, file: Path) -> Classes:
    """Return the classes whose names are the lines of `file`, UTF-8, for a checkpoint of model `name` with such a head.

    For masks they get colours: see `even_hues`.

    Raises:
        ExportError: A line is blank, has control characters or repeats another, there are too few or too many, or the
            file cannot be read or is no text.
    """
    labels = tuple(line.strip() for line in label_lines(_read(file)))
    _check_each(labels, file)
    if len(labels) < LEAST_CLASSES:
        raise ExportError(
            f"{file} has {len(labels)} names (--labels); the least is {LEAST_CLASSES}: a network that always gives the "
            "same class tells nothing"
        )
    if model_entry(name).weights.task != "image_segmentation":
        return Classes(labels)
    if len(labels) > MOST_CLASSES_OF_MASKS:
        raise ExportError(
            f"{file} has {len(labels)} names (--labels); the limit is {MOST_CLASSES_OF_MASKS} for {name}, as a mask "
            "holds one byte a pixel: train it on fewer classes"
        )
    return Classes(labels, even_hues(len(labels)))


def even_hues(count: int) -> tuple[Colour, ...]:
    """Return `count` different colours, at most 256: full saturation and brightness, hues evenly spaced from red on."""
    colours = (hsv_to_rgb(number / count, 1, 1) for number in range(count))
    return tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours)


def _read(file: Path) -> str:
    try:
        with open_file(file) as stream:
            content = stream.read(MAX_TEXT_BYTES + 1)
        # Some editors begin a file with a byte order mark, which is no part of the first name.
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ExportError(f"{file} cannot be read (--labels): {error.strerror}") from error
    except (ManifestError, UnicodeDecodeError) as error:
        raise ExportError(f"{file} is no text in UTF-8 with the name of a class in each line: {error}") from error
    if len(content) > MAX_TEXT_BYTES:
        raise ExportError(f"{file} is larger than the {MAX_TEXT_BYTES} bytes that the server reads of labels")
    return text


def _check_each(labels: tuple[str, ...], file: Path) -> None:
    first_lines: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        where = f"line {number} of {file} (--labels)"
        if not label:
            raise ExportError(f"{where} is blank: give every class a name, and no line besides")
        if any(category(character) == "Cc" for character in label):
            raise ExportError(f"{where} has a tab or another control character, {label!r:.80}: give the name alone")
        if label in first_lines:
            raise ExportError(f"{where} is {label!r:.80}, as line {first_lines[label]} is: two classes need two names")
        first_lines[label] = number
