"""When the frames of a video show, by what its packets and its container say."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from statistics import median_low

from av.video.stream import VideoStream

from service.errors import BadParameterError, MediaLimitError, UndecodableMediaError
from service.media.formats import APNG, FLV, GIF, MATROSKA, MOV, MP4, WEBM, ContainerFormat
from service.media.types import DecodeLimits

# A container's rate may be so many times that of its time stamps: some say what was meant, before frames were dropped.
MOST_OVERSTATED = Fraction(3, 2)
# Theirs may be so many times the container's: fields in packets of their own come twice as fast as frames.
MOST_UNDERSTATED = Fraction(5, 2)
# A rate as near as that to the time stamps is the one that they were rounded from.
ROUNDING = Fraction(1, 100)
# Containers whose rate stands beside the time stamps, and is not made of them.
RATED_FORMATS = (MATROSKA, WEBM, FLV)
# Containers that say of each frame how long it shows; of others FFmpeg makes that of the rate.
TIMED_FORMATS = (MP4, MOV, GIF, APNG)


@dataclass(frozen=True)
class FrameIndex:
    """The frames that a video's packets promise, without decoding.

    Attributes:
        ticks: Presentation time of each frame in units of `tick` from the first, ascending.
        tick: Seconds of one unit.
        fps: Average frames a second, or None.
        origin: Time stamp of the first frame; None: the frame rate makes the times.
        last: How many of these units the last frame shows; None: as long as an average one.
    """

    ticks: tuple[int, ...]
    tick: Fraction
    fps: Fraction | None
    origin: int | None = None
    last: int | None = None

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.ticks)

    @property
    def duration(self) -> float | None:
        """Seconds from the first frame to the end of the last; None: of a single one, nobody knows."""
        if self.fps is None and len(self) == 1:
            return None
        return float(self.until(len(self) - 1))

    def time(self, frame: int) -> Fraction:
        """Return when a frame shows, seconds from the first one."""
        return self.ticks[frame] * self.tick

    def until(self, frame: int) -> Fraction:
        """Return when a frame is followed by the next one, or the last one ends, seconds from the first one."""
        if frame + 1 < len(self):
            return self.time(frame + 1)
        if self.last is not None:
            return self.time(frame) + self.last * self.tick
        return self.time(frame) + (1 / self.fps if self.fps else 0)

    def of_decoded(self, stamps: Sequence[int | None]) -> FrameIndex:
        """Return the index of the frames that came out, fewer than the packets promise, with these time stamps.

        They count if they are some of the packets', in order; otherwise the frames have the times of the first packets.
        """
        origin = self.origin
        seen = [] if origin is None else [stamp - origin for stamp in stamps if stamp is not None]
        if len(seen) < len(stamps) or seen != sorted(set(seen).intersection(self.ticks)):
            return replace(self, ticks=self.ticks[: len(stamps)], last=None)
        last = self.last if seen[-1] == self.ticks[-1] else None
        return replace(self, ticks=tuple(tick - seen[0] for tick in seen), origin=stamps[0], last=last)

    def between(self, start: float | None, end: float | None) -> tuple[int, int]:
        """Return the first frame and the number of frames that show between `start` and `end`, seconds.

        The first one is that which shows at `start`, the last one begins before `end`.

        Raises:
            BadParameterError: There is none.
        """
        first = 0 if start is None else self._showing_at(as_written(start))
        after = len(self) if end is None else bisect_left(self.ticks, ceil(as_written(end) / self.tick))
        if first >= after:
            length = "unknown" if self.duration is None else f"{self.duration:.3f} s"
            given = [f"{name}={value}" for name, value in (("start", start), ("end", end)) if value is not None]
            raise BadParameterError(f"{' with '.join(given)}: no frame shows then; the video's length is {length}")
        return first, after - first

    def _showing_at(self, seconds: Fraction) -> int:
        """Return the number of the frame that shows at `seconds`; one that does not exist if none does any more."""
        last = len(self) - 1
        if seconds > self.time(last) and seconds >= self.until(last):
            return len(self)
        return bisect_right(self.ticks, floor(seconds / self.tick)) - 1


def as_written(number: float) -> Fraction:
    """Return a number as the client wrote it: 0.8 means 4/5, not the binary number beside it."""
    return Fraction(repr(number))


def index_frames(
    times: list[tuple[int | None, int | None]],
    container_format: ContainerFormat,
    stream: VideoStream,
    limits: DecodeLimits,
) -> FrameIndex:
    """Return the frames of `stream` whose packets have these time stamps and durations, None being unknown.

    Raises:
        UndecodableMediaError: None.
        MediaLimitError: Too many seconds.
    """
    if not times:
        raise UndecodableMediaError("the upload holds no video frames")
    known = sorted(stamp for stamp, _ in times if stamp is not None)
    tick, stated, guessed = stream.time_base, _positive(stream.average_rate), _positive(stream.guessed_rate)
    if tick is None or len(known) < len(times):
        # Without time stamps (raw AVI), the frame rate makes the times.
        fps = stated or guessed
        index = FrameIndex(tuple(range(len(times))), 1 / (fps or Fraction(25)), fps)
    else:
        ticks = tuple(stamp - known[0] for stamp in known)
        fps = _frame_rate(ticks, tick, stated, guessed, rated=container_format in RATED_FORMATS)
        # Of frames that are decoded in another order only the sum of the durations says when they show.
        shown = sum(duration or 0 for _, duration in times) if container_format in TIMED_FORMATS else 0
        last = shown - ticks[-1] if shown > ticks[-1] else None
        index = FrameIndex(ticks, tick, fps, known[0], last)
    if index.duration is not None and index.duration > limits.max_seconds:
        raise MediaLimitError(
            f"the video lasts {index.duration:.1f} s; the limit is {limits.max_seconds:g} s: cut it into shorter parts"
        )
    return index


def _positive(rate: Fraction | None) -> Fraction | None:
    # What a header says can be negative.
    return rate if rate and rate > 0 else None


def _frame_rate(
    ticks: tuple[int, ...], tick: Fraction, stated: Fraction | None, guessed: Fraction | None, *, rated: bool
) -> Fraction | None:
    """Return the average frames a second: as the container states them, unless the time stamps belie it.

    What browsers record states no rate, and a stream that was copied from another container the wrong one: FFmpeg then
    takes the unit of the time stamps for it, 1000 frames a second or 30000. A rate is believed if most frames come as
    fast as it says, although there may be gaps, as in a live recording. One that is too low is believed where it is the
    number of frames by the length of the video, in which the last frame may show for long: the papers' loaders take it.

    Args:
        ticks: When the frames show, ascending from 0.
        tick: Seconds of one unit of them.
        stated: What the container says.
        guessed: What FFmpeg makes of the first time stamps.
        rated: Whether what the container says is not made of the time stamps.
    """
    length = ticks[-1] * tick
    if not length:
        return stated
    if stated:
        intervals = length / len(ticks), median_low(b - a for a, b in pairwise(ticks)) * tick
        too_high = min(intervals) > MOST_OVERSTATED / stated
        too_low = rated and max(intervals) * MOST_UNDERSTATED < 1 / stated
        if not (too_high or too_low):
            return stated
    measured = (len(ticks) - 1) / length
    return guessed if guessed and abs(guessed / measured - 1) <= ROUNDING else measured
