"""Decode the frames that models sample from ten-second clips: the service, a full decode, seeking, torchcodec.

Every contestant starts from the bytes of the file in memory, uses one thread and ends with the wanted frames as RGB.
How many of these are others than the full decode's stands beside the ratio, where there are any. `python -m
bench.decoding`, or `make bench`, prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from bench.clips import COUNT, ENCODINGS, FPS, HEIGHT, WIDTH, make_clip
from bench.ffmpeg import restart_with_ffmpeg
from bench.turns import least_seconds, seconds_of
from service.manifest import Sampling
from service.media.frames import FrameSource, read_frames
from service.media.sampling import clip_indices
from service.media.types import DecodeLimits

LIMITS = DecodeLimits(max_pixels=1 << 24, max_frames=10_000, max_seconds=600, max_streams=8)
Frames = dict[int, NDArray[np.uint8]]
# Takes the bytes of a file and the wanted frames; returns these, and how many its decoder put out.
Contestant = Callable[[bytes, Sequence[int]], tuple[Frames, int]]


def samplings() -> dict[str, list[int]]:
    """Return the frame numbers, sorted and without repetition, that some protocols take from a clip."""

    def taken(rule: Sampling, clips: int) -> list[int]:
        numbers = (clip_indices(rule, COUNT, Fraction(FPS), clip, clips) for clip in range(clips))
        return sorted({number for clip in numbers for number in clip})

    dense = Sampling(kind="dense", num_frames=16, rate=4, target_fps=FPS)
    segments = Sampling(kind="segments_middle", num_frames=16)
    uniform = Sampling(kind="segments_middle", num_frames=64)
    return {
        "dense 16x4": taken(dense, 1),
        "dense 16x4, 5 clips": taken(dense, 5),
        "16 segments": taken(segments, 1),
        "64 frames": taken(uniform, 1),
    }


def planned(content: bytes, wanted: Sequence[int]) -> tuple[Frames, int]:
    """Decode as the service does; return the frames and how many the decoder put out."""

    def use(source: FrameSource) -> tuple[Frames, int]:
        frames = {number: source.rgb(frame) for number, frame in source.frames(set(wanted))}
        return frames, source.decoded

    return read_frames(io.BytesIO(content), LIMITS, use)


def full(content: bytes, wanted: Sequence[int]) -> tuple[Frames, int]:
    """Decode everything; convert only what is wanted."""
    chosen = set(wanted)
    with av.open(io.BytesIO(content), "r") as container:
        stream = one_threaded(container.streams.video[0])
        frames: Frames = {}
        for number, frame in enumerate(container.decode(stream)):
            if number in chosen:
                frames[number] = rgb(frame)
        return frames, COUNT


def seeking(content: bytes, wanted: Sequence[int]) -> tuple[Frames, int]:
    """Seek to the keyframe before each wanted frame and decode up to it."""
    frames: Frames = {}
    decoded = 0
    with av.open(io.BytesIO(content), "r") as container:
        stream = one_threaded(container.streams.video[0])
        assert stream.time_base is not None
        # Half a frame of slack: some containers round time stamps.
        second, slack = 1 / stream.time_base, Fraction(1, 2 * FPS) / stream.time_base
        for number in wanted:
            stamp = start = Fraction(number, FPS) * second
            while number not in frames:
                container.seek(round(start), stream=stream)
                for frame in container.decode(stream):
                    decoded += 1
                    assert frame.pts is not None
                    if frame.pts + slack > stamp:
                        break
                assert frame.pts is not None
                if frame.pts - slack < stamp:
                    frames[number] = rgb(frame)
                # In HEVC one may land on a keyframe that is shown later, though it is stored earlier.
                start -= second
    return frames, decoded


def torchcodec_in(mode: str) -> Contestant:
    """Return the contestant that asks torchcodec for all frames at once, in one of its seek modes.

    What its decoder puts out it does not tell: that is 0.
    """
    from torchcodec.decoders import VideoDecoder

    def torchcodec(content: bytes, wanted: Sequence[int]) -> tuple[Frames, int]:
        decoder = VideoDecoder(content, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=mode)
        batch = decoder.get_frames_at(list(wanted)).data.numpy()
        return dict(zip(wanted, batch, strict=True)), 0

    return torchcodec


def one_threaded(stream: VideoStream) -> VideoStream:
    """Return the stream, set to decode in the calling thread."""
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "NONE"
    return stream


def rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Return the pixels of a frame, (H, W, 3)."""
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def contestants() -> dict[str, Contestant]:
    """Return those that run here; what does not is named on the error stream."""
    entries: dict[str, Contestant] = {
        "service": planned,
        "full decode": full,
        "seeking": seeking,
    }
    try:
        import torch

        torch.set_num_threads(1)
        entries["torchcodec, exact"] = torchcodec_in("exact")
        entries["torchcodec, approximate"] = torchcodec_in("approximate")
    except (ImportError, OSError, RuntimeError) as error:
        print(f"torchcodec does not run here: {str(error).splitlines()[0]}", file=sys.stderr)
    return entries


@dataclass(frozen=True)
class Seen:
    """What a contestant made of a clip.

    Attributes:
        decoded: How many frames its decoder put out.
        wrong: Numbers of the wanted frames for which it gave others than the full decode.
    """

    decoded: int
    wrong: list[int]


def look(runners: dict[str, Contestant], content: bytes, wanted: Sequence[int]) -> dict[str, Seen]:
    """Run each once and compare its frames with those of the full decode.

    Raises:
        SystemExit: The service gives others.
    """
    expected, _ = full(content, wanted)
    seen = {}
    for name, run in runners.items():
        frames, decoded = run(content, wanted)
        wrong = [number for number in wanted if not np.array_equal(frames[number], expected[number])]
        seen[name] = Seen(decoded, wrong)
    if wrong := seen["service"].wrong:
        raise SystemExit(f"the service gives other frames than the full decode for the numbers {wrong}")
    return seen


def measure(runners: dict[str, Contestant], content: bytes, wanted: Sequence[int], rounds: int) -> dict[str, float]:
    """Return the least processor seconds of each, by turns. Seeking, many times slower than the others, has one."""
    runs = {name: partial(run, content, wanted) for name, run in runners.items()}
    slow = runs.pop("seeking")
    return {**least_seconds(runs, rounds, time.process_time), "seeking": seconds_of(slow, time.process_time)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure decoding: the service against a full decode and others.")
    parser.add_argument(
        "--rounds", type=int, default=7, help="turns of each but seeking; the least time counts (%(default)s)"
    )
    rounds = parser.parse_args().rounds
    restart_with_ffmpeg()
    runners = contestants()
    others = [name for name in runners if name != "service"]
    turns = f"least of {rounds} rounds, seeking once"
    print(f"{COUNT} frames of {WIDTH}x{HEIGHT}; one thread; {turns}; {os.uname().machine}\n")
    print(
        "| encoding | sampling | frames wanted | decoded per wanted | of full | by seeking | service, ms | service / "
        + " | service / ".join(others)
        + " |"
    )
    print("|" + " --- |" * (7 + len(others)))
    for name, encoding in ENCODINGS.items():
        content = make_clip(encoding)
        for sampling, wanted in samplings().items():
            seen = look(runners, content, wanted)
            seconds = measure(runners, content, wanted, rounds)
            ratios = [
                f"{seconds['service'] / seconds[other]:.2f}"
                + (f" ({len(seen[other].wrong)} wrong)" if seen[other].wrong else "")
                for other in others
            ]
            decoded, sought = seen["service"].decoded, seen["seeking"].decoded
            print(
                f"| {name} | {sampling} | {len(wanted)} | {decoded / len(wanted):.2f} | {decoded / COUNT:.2f} "
                f"| {sought / len(wanted):.1f} | {seconds['service'] * 1000:.1f} | {' | '.join(ratios)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
