"""LitServe with its batching; clips of a batch are decoded side by side in threads, as its own benchmark does.

`python -m loadtest.peers.litserve_app --port PORT`
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve

from loadtest.peers.decoders import chosen_decoder
from loadtest.peers.full_decode import Clip
from loadtest.peers.onnx_model import OnnxModel, told_cores

WORKERS = 2
MAX_BATCH_SIZE, BATCH_TIMEOUT = 8, 0.002


class ClassifyApi(litserve.LitAPI):
    """One worker process has one of these."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # the name is the library's
        """Load what a worker needs, in its process."""
        self._decode = chosen_decoder()
        self._model = OnnxModel(told_cores())
        self._pool = ThreadPoolExecutor(told_cores())

    # Without an annotation, by which LitServe would let FastAPI read something else than the form.
    def decode_request(self, request) -> bytes:  # type: ignore[no-untyped-def]
        """Return the bytes of the form's file."""
        content: bytes = request["file"].file.read()
        return content

    def batch(self, inputs: list[bytes]) -> list[Clip]:
        """Decode what came together."""
        return list(self._pool.map(self._decode, inputs))

    def predict(self, x: list[Clip]) -> list[dict[str, Any]]:
        """Return an answer for each clip."""
        return self._model.classify(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return them one by one."""
        return output


def main() -> None:
    """Serve on the loopback address until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    api = ClassifyApi(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=parser.parse_args().port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
