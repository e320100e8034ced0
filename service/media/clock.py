"""The clock of a broadcast, which may begin anew: recordings that were joined, parts of a DVD, an encoder's restart."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

from av.packet import Packet
from av.video.stream import VideoStream

# Seconds. The next picture is due within 0.7 (ISO/IEC 13818-1, 2.7.4); the clock goes on where the signal fails for
# longer. FFmpeg's own program takes as much for a jump.
LONGEST_GAP = Fraction(10)
# Slow recordings come at an even pace all the same.
LONGEST_GAP_FRAMES = 10
# Seconds. Files whose pictures lack times of decoding have those of presentation in their place, which go to and fro.
LONGEST_STEP_BACK = Fraction(1, 2)


def follow_clock(packets: Sequence[Packet[VideoStream]], tick: Fraction | None) -> list[int]:
    """Where the clock of a stream jumps, have the time stamps go on a frame after those before.

    Args:
        packets: All packets of the stream in decoding order; their time stamps are changed.
        tick: Seconds of one unit of their time stamps.

    Returns:
        Positions of the packets behind the jumps.
    """
    known = [stamp for stamp in map(_decoding_stamp, packets) if stamp is not None]
    steps = [later - earlier for earlier, later in pairwise(known) if later > earlier]
    if tick is None or not steps:
        return []
    frame = median_low(steps)
    furthest = max(LONGEST_GAP / tick, Fraction(LONGEST_GAP_FRAMES * frame))
    nearest = -LONGEST_STEP_BACK / tick
    jumps: list[int] = []
    before: int | None = None
    shift = 0
    for position, packet in enumerate(packets):
        stamp = _decoding_stamp(packet)
        if stamp is not None:
            if before is not None and not nearest <= stamp - before <= furthest:
                shift += before + frame - stamp
                jumps.append(position)
            before = stamp
        if shift:
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
    return jumps


def _decoding_stamp(packet: Packet[VideoStream]) -> int | None:
    return packet.pts if packet.dts is None else packet.dts
