"""Which container formats and codecs are opened: a list, decided by the first bytes and never by a name.

FFmpeg would open text files as video, follow playlists and listen on ports if it were left to guess. Here the format
is recognised by its magic bytes and FFmpeg is told which single demuxer to use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from service.errors import UnsupportedMediaError
from service.media import png

SNIFF_BYTES = 4096

# Decoders, by FFmpeg's names, that an upload may ask for.
ALLOWED_CODECS = (
    *("h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "libvpx", "libvpx-vp9", "mpeg4", "mpeg2video", "mpeg1video"),
    *("h263", "theora", "vc1", "wmv3", "flv", "prores", "dnxhd", "mjpeg", "ffv1"),
    *("gif", "png", "apng", "webp", "bmp"),
)


@dataclass(frozen=True)
class ContainerFormat:
    """One accepted container.

    Attributes:
        name: What the answer calls it.
        demuxer: FFmpeg's demuxer.
        kind: Whether it is a single picture or a sequence of frames.
    """

    name: str
    demuxer: str
    kind: Literal["image", "video"]


MP4 = ContainerFormat("mp4", "mov", "video")
MOV = ContainerFormat("mov", "mov", "video")
WEBM = ContainerFormat("webm", "matroska", "video")
MATROSKA = ContainerFormat("matroska", "matroska", "video")
AVI = ContainerFormat("avi", "avi", "video")
MPEGTS = ContainerFormat("mpegts", "mpegts", "video")
MPEGPS = ContainerFormat("mpeg", "mpeg", "video")
FLV = ContainerFormat("flv", "flv", "video")
OGG = ContainerFormat("ogg", "ogg", "video")
GIF = ContainerFormat("gif", "gif", "video")
APNG = ContainerFormat("apng", "apng", "video")
JPEG = ContainerFormat("jpeg", "jpeg_pipe", "image")
PNG = ContainerFormat("png", "png_pipe", "image")
WEBP = ContainerFormat("webp", "webp_pipe", "image")
BMP = ContainerFormat("bmp", "bmp_pipe", "image")

# What animations that turn out to have one frame are.
STILLS = {animation: replace(animation, kind="image") for animation in (GIF, APNG)}

ALL_FORMATS = (MP4, MOV, WEBM, MATROSKA, AVI, MPEGTS, MPEGPS, FLV, OGG, GIF, APNG, JPEG, PNG, WEBP, BMP)

_PREFIXES: tuple[tuple[bytes, ContainerFormat], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM", BMP),
    (b"FLV\x01", FLV),
    (b"OggS", OGG),
    (b"\x00\x00\x01\xba", MPEGPS),
)
# Still-picture brands of the ISO container, which FFmpeg would open as video.
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heif", b"mif1", b"msf1")


def recognise(file: BinaryIO) -> ContainerFormat:
    """Return the container format of an upload.

    Raises:
        UnsupportedMediaError: It is no accepted format.
        MediaLimitError: It is a PNG of too many chunks.
    """
    file.seek(0)
    found = sniff(file.read(SNIFF_BYTES))
    return APNG if found is PNG and png.is_animated(file) else found


def sniff(head: bytes, advice: str = "") -> ContainerFormat:
    """Return the container format that starts with `head`, the first SNIFF_BYTES of an upload.

    They do not tell whether a PNG is animated: a colour profile of any length may stand before what says so.

    Args:
        head: The bytes.
        advice: What is added to the refusal of what is not recognised.

    Raises:
        UnsupportedMediaError: It is no accepted format.
    """
    found = _by_prefix(head) or _iso(head) or _riff(head) or _matroska(head) or _mpegts(head)
    if found is None:
        accepted = ", ".join(accepted.name for accepted in ALL_FORMATS)
        raise UnsupportedMediaError(f"the upload is none of the accepted formats: {accepted}{advice}")
    return found


def _by_prefix(head: bytes) -> ContainerFormat | None:
    return next((found for prefix, found in _PREFIXES if head.startswith(prefix)), None)


def _iso(head: bytes) -> ContainerFormat | None:
    box = head[4:8]
    if box == b"ftyp":
        brand = head[8:12]
        if brand in _STILL_BRANDS:
            raise UnsupportedMediaError(f"{brand.decode()} pictures are not accepted: send JPEG, PNG or WebP")
        return MOV if brand == b"qt  " else MP4
    # QuickTime files from before the ftyp box existed.
    return MOV if box in (b"moov", b"mdat", b"wide", b"free", b"skip") else None


def _riff(head: bytes) -> ContainerFormat | None:
    if head[:4] != b"RIFF":
        return None
    return {b"AVI ": AVI, b"WEBP": WEBP}.get(head[8:12])


def _matroska(head: bytes) -> ContainerFormat | None:
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    return WEBM if b"webm" in head[:64] else MATROSKA


def _mpegts(head: bytes) -> ContainerFormat | None:
    # Packets of 188 bytes begin with 0x47; Blu-ray streams put 4 bytes before each.
    plain = len(head) > 376 and head[0] == head[188] == head[376] == 0x47
    blu_ray = len(head) > 388 and head[4] == head[196] == head[388] == 0x47
    return MPEGTS if plain or blu_ray else None
