"""Tell what each packet of a video stream is, by the rules of its codec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from av.packet import Packet
from av.video.stream import VideoStream

from service.media.bitstreams.h264 import read_pictures as read_h264_pictures
from service.media.bitstreams.hevc import read_pictures as read_hevc_pictures
from service.media.bitstreams.mpeg import read_mpeg2_pictures, read_mpeg4_pictures
from service.media.bitstreams.pictures import CodedPicture, UnknownStructureError
from service.media.bitstreams.vpx import read_vp8_pictures, read_vp9_pictures

_PARAMETER_SET_READERS: dict[str, Callable[[bytes, Iterable[bytes]], Iterator[CodedPicture]]] = {
    "h264": read_h264_pictures,
    "hevc": read_hevc_pictures,
}
_READERS: dict[str, Callable[[Iterable[bytes]], Iterator[CodedPicture]]] = {
    "mpeg1video": read_mpeg2_pictures,
    "mpeg2video": read_mpeg2_pictures,
    "mpeg4": read_mpeg4_pictures,
    "vp8": read_vp8_pictures,
    "vp9": read_vp9_pictures,
}
# Every picture stands alone. (Motion JPEG is not among them: tables may be left out where an earlier picture has them.)
_INTRA = ("prores", "dnxhd")
# The container's flag is enough: containers define it as a full random access point, and the decoder confirms it.
_FLAGGED = ("av1", "ffv1")


def coded_pictures(codec: str, extradata: bytes, packets: Sequence[Packet[VideoStream]]) -> list[CodedPicture]:
    """Return what each packet is; of codecs whose structure is not read here, each needs all before it.

    Args:
        codec: FFmpeg's canonical name.
        extradata: What the container gives to the decoder before the first packet.
        packets: All packets of the stream in decoding order.

    Raises:
        UnknownStructureError: The stream is damaged, or does what the reader of its codec does not follow.
    """
    # Few packets have side data, and asking for a certain kind takes longer than looking whether there is any.
    if any(side.data_type == "new_extradata" for packet in packets for side in packet.iter_sidedata()):
        raise UnknownStructureError("the container changes the stream's headers on the way")
    if any(packet.is_corrupt for packet in packets):
        raise UnknownStructureError("the container lost a part of the stream")
    if codec in _INTRA:
        return [CodedPicture(starts=True, referenced=False)] * len(packets)
    if codec in _FLAGGED:
        return [CodedPicture(starts=packet.is_keyframe, referenced=True) for packet in packets]
    if codec == "mjpeg":
        return _motion_jpeg(packets)
    content = (bytes(packet) for packet in packets)
    if codec in _PARAMETER_SET_READERS:
        return list(_PARAMETER_SET_READERS[codec](extradata, content))
    if codec in _READERS:
        return list(_READERS[codec](content))
    return [CodedPicture(starts=position == 0, referenced=True) for position in range(len(packets))]


def _motion_jpeg(packets: Sequence[Packet[VideoStream]]) -> list[CodedPicture]:
    """Take pictures for independent when each brings its own quantisation tables, and all or none Huffman tables."""
    heads = [bytes(memoryview(packet)[:2048]) for packet in packets]
    with_huffman = {b"\xff\xc4" in head for head in heads}
    if len(with_huffman) > 1 or not all(b"\xff\xdb" in head for head in heads):
        raise UnknownStructureError("pictures use the tables of earlier ones")
    return [CodedPicture(starts=True, referenced=False)] * len(packets)
