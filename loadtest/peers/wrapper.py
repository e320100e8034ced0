"""The server that people write themselves: FastAPI, one endpoint in its pool of threads, no batching.

`python -m loadtest.peers.wrapper --port PORT`
"""

from __future__ import annotations

import argparse
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, UploadFile

from loadtest.peers.decoders import chosen_decoder
from loadtest.peers.onnx_model import OnnxModel, told_cores


def create_app() -> FastAPI:
    """Return the application."""
    app = FastAPI()
    decode = chosen_decoder()
    model = OnnxModel(told_cores())

    # Not async: FastAPI runs it in a thread, and PyAV, OpenCV and ONNX Runtime let other threads go on while they work.
    @app.post("/classify")
    def classify(file: UploadFile) -> dict[str, Any]:
        try:
            clip = decode(file.file.read())
        except Exception as error:
            raise HTTPException(422, f"cannot decode the video: {error}") from error
        return model.classify([clip])[0]

    return app


def main() -> None:
    """Serve on the loopback address until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(create_app(), host="127.0.0.1", port=parser.parse_args().port, log_level="warning")


if __name__ == "__main__":
    main()
