"""The demo: start the server, POST the sample clip and pictures, print the answers (`python -m demo.run`)."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from demo.local_server import DIRECT, end_on_signals, local_server

MEDIA_FOLDER = Path(__file__).parent / "media"
# Without a choice the first by name would answer where no model is named.
DEFAULT_MODEL = "uniformer_tiny_shapes"
# What the demo's network may err about a class's share of a picture's pixels.
SHARE_TOLERANCE = 0.02


def post(url: str, file: Path) -> dict[str, Any]:
    """POST a file as the raw body and return the server's answer."""
    request = urllib.request.Request(url, file.read_bytes(), method="POST")  # noqa: S310
    request.add_header("Content-Type", "application/octet-stream")
    with DIRECT.open(request, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def show_label(address: str, file: Path, expected: str) -> bool:
    """Classify one sample, print the answer, and tell whether it is the right one."""
    answer = post(f"{address}/v1/classify", file)
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


def show_segments(address: str, file: Path, expected: dict[str, float]) -> bool:
    """Segment one sample, print the classes' shares of it, and tell whether they are about those that were drawn."""
    answer = post(f"{address}/v1/segment?output=rle", file)
    media = answer["media"]
    found = {segment["label"]: segment["share"] for segment in answer["masks"][0]["segments"]}
    print(f"\n{file.name}: {media['codec']} {media['width']}x{media['height']}, segmented by {answer['model']}")
    for label, share in found.items():
        print(f"  {share:6.1%}  {label} (drawn: {expected.get(label, 0):.1%})")
    right = all(abs(found.get(label, 0) - expected.get(label, 0)) <= SHARE_TOLERANCE for label in found | expected)
    print(f"  {'right' if right else 'WRONG'}: shares may be off by {SHARE_TOLERANCE:.0%} of the picture")
    return right


def keep(address: str, pictures: Iterable[str]) -> None:
    """Say what can be asked of the server, masks of the pictures among it, and wait until Ctrl-C."""
    overlay = f"{address}/v1/segment?output=overlay"
    print(f"\npage: {address}/    documentation of the interface: {address}/docs")
    for name in pictures:
        print(f"the mask of a picture: curl --data-binary @demo/media/{name} '{overlay}' -o overlay.jpg")
    print("serving until Ctrl-C", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()


def read_expected(name: str) -> dict[str, Any]:
    """Return what each sample shows, by its file's name."""
    expected: dict[str, Any] = json.loads((MEDIA_FOLDER / name).read_text())
    return expected


def main() -> int:
    """Run the demo; 1 if an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="port to serve on (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep serving until Ctrl-C")
    arguments = parser.parse_args()
    end_on_signals()
    labels, shares = read_expected("labels.json"), read_expected("shares.json")
    with local_server(arguments.port, default_model=DEFAULT_MODEL) as server:
        address = server.url
        results = [show_label(address, MEDIA_FOLDER / name, expected) for name, expected in labels.items()]
        results += [show_segments(address, MEDIA_FOLDER / name, expected) for name, expected in shares.items()]
        if arguments.keep:
            keep(address, shares)
        else:
            print("\nstopping the server; `make demo KEEP=1` keeps it up, with a page to try it by hand", flush=True)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
