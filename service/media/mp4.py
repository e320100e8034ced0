"""Look through the boxes of an MP4 or QuickTime file without reading its tables (ISO/IEC 14496-12)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, NamedTuple

from service.errors import MediaLimitError, UnsupportedMediaError
from service.media.extent import check_extent

# Seven for each fragment of a recording: enough for 18,000 of them, five hours at one a second.
MOST_BOXES = 1 << 17
# One hour of a dozen sound tracks has two million. A few bytes can claim any number, and FFmpeg makes room for each.
MOST_SAMPLES = 1 << 22
# Titles, artists and the like: some dozens. FFmpeg looks through all that it has for each further one.
MOST_TAGS = 1024

# Boxes of boxes, as far as they lead to tables and tags; `meta` is one in QuickTime, and has a version first in MP4.
_CONTAINERS = frozenset((b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"udta", b"meta"))
_VERSION_BYTES = 4
_TABLES = frozenset((b"hdlr", b"elst", b"stsz", b"stz2", b"stts", b"trun"))
_SHORTEST_EDIT_BYTES = 12
_OTHER_HANDLERS = (b"vide", b"subp", b"clcp")
# FFmpeg lists sound in pieces of at least so many samples where each of them lasts one tick.
_SOUND_PIECE = 160


class Box(NamedTuple):
    """A box's kind, and where its content begins and ends; its size may say that it reaches further."""

    kind: bytes
    position: int
    end: int
    stated_end: int


class _Track:
    """What the tables of one track claim.

    Attributes:
        samples: Samples of the track.
        edits: Entries of its edit list; each may list all samples anew.
        handlers: What the track is said to hold.
        lasts_one_tick: Whether that is how long each sample lasts.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.edits = 1
        self.handlers: set[bytes] = set()
        self.lasts_one_tick = False

    @property
    def listed(self) -> int:
        """Samples that FFmpeg lists for the track, at most."""
        # A track of QuickTime has a second handler, which tells where its data are.
        is_sound = b"soun" in self.handlers and self.handlers.isdisjoint(_OTHER_HANDLERS)
        in_pieces = is_sound and self.lasts_one_tick
        return (self.samples // _SOUND_PIECE if in_pieces else self.samples) * self.edits

    def note(self, table: Box, head: bytes) -> None:
        """Take in a table by the first bytes of its content."""
        if table.kind == b"hdlr":
            self.handlers.add(head[8:12])
        elif table.kind == b"elst":
            self.edits = max(self.edits, min(_number(head, 4), (table.end - table.position) // _SHORTEST_EDIT_BYTES))
        elif table.kind in (b"stsz", b"stz2"):
            self.samples = max(self.samples, _number(head, 8))
        elif table.kind == b"stts":
            self.lasts_one_tick = (_number(head, 4), _number(head, 12)) == (1, 1)


def boxes(file: BinaryIO) -> Iterator[Box]:
    """Yield the boxes of a file, those in containers after their container.

    Raises:
        MediaLimitError: There are more than MOST_BOXES.
    """
    size = file.seek(0, 2)
    count = 0
    open_containers = [_children(file, 0, size)]
    while open_containers:
        box = next(open_containers[-1], None)
        if box is None:
            open_containers.pop()
            continue
        count += 1
        if count > MOST_BOXES:
            raise MediaLimitError(f"the upload has more than {MOST_BOXES} boxes: encode it again")
        yield box
        if box.kind in _CONTAINERS:
            open_containers.append(_children(file, _first_child(file, box), box.end))


def _children(file: BinaryIO, position: int, end: int) -> Iterator[Box]:
    while position + 8 <= end:
        file.seek(position)
        head = file.read(16)
        size, kind, content = _number(head, 0), head[4:8], position + 8
        if size == 1:
            size, content = int.from_bytes(head[8:16], "big"), position + 16
        # Zero: to the end of what it lies in.
        after = position + size if size else end
        # FFmpeg goes no further either where a box is smaller than its head, or its head reaches beyond what it is in.
        if after < content or content > end:
            return
        position = min(after, end)
        yield Box(kind, content, position, after)


def _first_child(file: BinaryIO, container: Box) -> int:
    if container.kind != b"meta":
        return container.position
    file.seek(container.position)
    return container.position + (_VERSION_BYTES if file.read(_VERSION_BYTES) == bytes(_VERSION_BYTES) else 0)


def _number(content: bytes, position: int) -> int:
    return int.from_bytes(content[position : position + 4], "big")


def check_tables(file: BinaryIO) -> None:
    """Refuse a file whose tables would keep FFmpeg busy, or fill its memory, out of proportion, or are cut short.

    Raises:
        UndecodableMediaError: The file ends within its tables. FFmpeg would take those that came for all.
        MediaLimitError: Too many boxes, samples or tags.
        UnsupportedMediaError: The tables are compressed, and cannot be looked at.
    """
    size = file.seek(0, 2)
    tags = listed = 0
    track = _Track()
    for box in boxes(file):
        if box.kind == b"moov":
            check_extent(size, box.stated_end)
        if box.kind == b"cmov":
            raise UnsupportedMediaError("QuickTime files with a compressed header are not accepted: save it again")
        if box.kind == b"ilst":
            tags += sum(1 for _ in islice(_children(file, box.position, box.end), MOST_TAGS + 1))
            if tags > MOST_TAGS:
                raise MediaLimitError(f"the upload has more than {MOST_TAGS} tags: save it without them")
        elif box.kind == b"trak":
            listed += track.listed
            track = _Track()
        elif box.kind in _TABLES:
            file.seek(box.position)
            head = file.read(min(16, box.end - box.position))
            track.note(box, head)
            listed += _number(head, 4) if box.kind == b"trun" else 0
        if listed + track.listed > MOST_SAMPLES:
            raise MediaLimitError(
                f"the upload's tables and edit lists name more than {MOST_SAMPLES} samples: encode it again"
            )
