"""Time and memory of segmentation against the area looked at: `python -m bench.segmentation --repository DIR NAME`.

Times are the least of requests that take turns on one server, memory is the peak of a new server for each size.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from functools import partial
from time import perf_counter

import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from bench.memory import peak_memory
from bench.turns import least_seconds
from demo.local_server import LocalServer, end_on_signals, local_server

Size = tuple[int, int]

SIZES: tuple[Size, ...] = ((512, 512), (512, 1024), (512, 2048), (1024, 1024), (1024, 2048), (2048, 2048))
# Turns of each size.
ROUNDS = 5

_server = partial(local_server, request_timeout=3600, max_windows=100_000)


def noise_picture(height: int, width: int) -> bytes:
    """Return a JPEG of smooth noise."""
    cells = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def request(server: LocalServer, name: str, size: Size) -> Callable[[], None]:
    """Return a function that has a picture of that height and width segmented at its own size."""
    content = noise_picture(*size)
    url, query = f"{server.url}/v1/models/{name}/segment", {"short_side": min(size)}

    def ask() -> None:
        # Past any proxy that the environment names: the address is this machine.
        httpx.post(url, content=content, params=query, timeout=3600, trust_env=False).raise_for_status()

    return ask


def request_seconds(repository: str, name: str) -> dict[Size, float]:
    """Return the least seconds of a request of each size, in turns; the server has seen every size before."""
    with _server(repository=repository) as server:
        requests = {size: request(server, name, size) for size in SIZES}
        for ask in requests.values():
            ask()
        return least_seconds(requests, ROUNDS, perf_counter)


def memory_peak(repository: str, name: str, size: Size) -> int:
    """Return the most resident memory, bytes, of a new server that gets one request."""
    with _server(repository=repository) as server:
        request(server, name, size)()
        return peak_memory(server.pid)


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="segmentation model")
    parser.add_argument("--repository", default="model_repository", help="folder with its artefact (%(default)s)")
    arguments = parser.parse_args()
    end_on_signals()
    where = arguments.repository, arguments.name
    seconds = request_seconds(*where)
    peaks = {size: memory_peak(*where, size) for size in tqdm(SIZES, "memory", unit="size", leave=False, disable=None)}
    print(f"{'size':>10}  {'area':>5}  {'seconds':>8}  {'ratio':>6}  {'peak MB':>8}")
    smallest = SIZES[0]
    for size, spent in seconds.items():
        height, width = size
        area, ratio = height * width / (smallest[0] * smallest[1]), spent / seconds[smallest]
        print(f"{width:>5}x{height:<4}  {area:>5.0f}  {spent:>8.2f}  {ratio:>6.1f}  {peaks[size] / 1e6:>8.0f}")


if __name__ == "__main__":
    main()
