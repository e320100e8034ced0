"""The same frames with less decoding: stop after the last one that is wanted, as Hugging Face's examples do.

It takes the container's word for the number of frames, which WebM and others do not give.
"""

from __future__ import annotations

import io

import av

from loadtest.peers.full_decode import Clip, Protocol, ThreadType, frame_numbers, frame_rate, prepare


def decode_clip(upload: bytes, protocol: Protocol, thread_type: ThreadType = "SLICE") -> Clip:
    """Decode up to the last frame that is picked.

    Args:
        upload: The file.
        protocol: Of the model.
        thread_type: PyAV's; "SLICE" is its default, "AUTO" decodes several frames at a time.

    Raises:
        ValueError: The container does not say how many frames there are.
    """
    with av.open(io.BytesIO(upload), "r") as container:
        stream = container.streams.video[0]
        stream.thread_type = thread_type
        if not stream.frames:
            raise ValueError("the container states no number of frames")
        frames = frame_numbers(protocol, stream.frames, frame_rate(stream))
        wanted = set(frames)
        picked = {}
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                picked[number] = frame
            if number == frames[-1]:
                break
        return Clip(prepare([picked[frame] for frame in frames], protocol), frames)
