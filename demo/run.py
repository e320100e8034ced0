"""The demo: start the server, POST the sample clip and picture, print the answers (`python -m demo.run`)."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

from demo.local_server import DIRECT, local_server

MEDIA_FOLDER = Path(__file__).parent / "media"


def classify(address: str, file: Path) -> dict[str, Any]:
    """POST a file as the raw body and return the server's answer."""
    request = urllib.request.Request(f"{address}/v1/classify", file.read_bytes(), method="POST")  # noqa: S310
    request.add_header("Content-Type", "application/octet-stream")
    with DIRECT.open(request, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def show(address: str, file: Path, expected: str) -> bool:
    """Classify one sample, print the answer, and tell whether it is the right one."""
    answer = classify(address, file)
    media, timing = answer["media"], answer["timing_seconds"]
    print(f"\n{file.name}: {media['codec']} {media['width']}x{media['height']}, {media['frames']} frames")
    for prediction in answer["predictions"][:3]:
        print(f"  {prediction['score']:6.1%}  {prediction['label']}")
    print(
        f"  {timing['total'] * 1000:.1f} ms: decode {timing['decode'] * 1000:.1f}, "
        f"queue {timing['queue'] * 1000:.1f}, inference {timing['inference'] * 1000:.1f}"
    )
    right: bool = answer["predictions"][0]["label"] == expected
    print(f"  {'right' if right else 'WRONG'}: the file shows {expected!r}")
    return right


def main() -> int:
    """Run the demo; 1 if an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="port to serve on (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep serving until Ctrl-C")
    arguments = parser.parse_args()
    samples: dict[str, str] = json.loads((MEDIA_FOLDER / "labels.json").read_text())
    with local_server(arguments.port) as address:
        results = [show(address, MEDIA_FOLDER / name, label) for name, label in samples.items()]
        print(f"\npage: {address}/    documentation of the interface: {address}/docs", flush=True)
        if arguments.keep:
            print("serving until Ctrl-C", flush=True)
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                print()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
