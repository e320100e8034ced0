"""The ways to decode that a server may be told to take."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from loadtest.peers import early_stop, full_decode
from loadtest.peers.full_decode import Clip, Protocol, read_protocol
from loadtest.peers.onnx_model import ARTEFACT

# Of the environment, which worker processes inherit however they are started.
VARIABLE = "PEERS_DECODE"
FULL, UNTIL_LAST, FRAME_THREADS = "full", "until_last", "frame_threads"

_DECODERS: dict[str, Callable[[bytes, Protocol], Clip]] = {
    FULL: full_decode.decode_clip,
    UNTIL_LAST: early_stop.decode_clip,
    FRAME_THREADS: partial(early_stop.decode_clip, thread_type="AUTO"),
}


def chosen_decoder() -> Callable[[bytes], Clip]:
    """Return what makes the network's input of an upload, as the environment says; by default all is decoded."""
    decode, protocol = _DECODERS[os.environ.get(VARIABLE, FULL)], read_protocol(ARTEFACT)
    return lambda upload: decode(upload, protocol)
