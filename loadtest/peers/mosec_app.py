"""mosec in two stages, as its documentation shows: processes that decode, and one that runs batches.

`python -m loadtest.peers.mosec_app --address 127.0.0.1 --port PORT --timeout MILLISECONDS`; mosec reads these itself.
"""

from __future__ import annotations

from typing import Any

import mosec

from loadtest.peers.decoders import chosen_decoder
from loadtest.peers.full_decode import Clip
from loadtest.peers.onnx_model import OnnxModel, told_cores

MAX_BATCH_SIZE, MAX_WAIT_MILLISECONDS = 8, 2


class Decode(mosec.Worker):
    """The first stage: a clip at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._decode = chosen_decoder()

    def deserialize(self, data: bytes) -> bytes:
        """Return the body of the request as it came."""
        return data

    def forward(self, data: bytes) -> Clip:
        """Return what the network gets; mosec pickles it for the next stage."""
        try:
            return self._decode(data)
        except Exception as error:
            raise mosec.ValidationError(f"cannot decode the video: {error}") from error


class Infer(mosec.Worker):
    """The second stage: a batch at a time; its answers become JSON."""

    def __init__(self) -> None:
        super().__init__()
        self._model = OnnxModel(told_cores())

    def forward(self, data: list[Clip]) -> list[dict[str, Any]]:
        """Return an answer for each clip."""
        return self._model.classify(data)


def main() -> None:
    """Serve until a signal comes."""
    server = mosec.Server()
    server.append_worker(Decode, num=told_cores())
    server.append_worker(Infer, num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=MAX_WAIT_MILLISECONDS)
    server.run()


if __name__ == "__main__":
    main()
