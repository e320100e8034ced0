"""Time and memory of segmentation against the area looked at: `python -m bench.segmentation --repository DIR NAME`."""

from __future__ import annotations

import argparse
import io
import time

import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from bench.memory import peak_memory
from demo.local_server import local_server

SIZES = ((512, 512), (512, 1024), (512, 2048), (1024, 1024), (1024, 2048), (2048, 2048))


def noise_picture(height: int, width: int) -> bytes:
    """Return a JPEG of smooth noise."""
    cells = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def measure(repository: str, name: str, size: tuple[int, int]) -> tuple[float, float]:
    """Return the seconds of a request and the peak of the server's resident memory, megabytes, in a new server."""
    content = noise_picture(*size)
    with local_server(repository=repository, request_timeout=3600, max_windows=100_000) as server:
        began = time.perf_counter()
        url, query = f"{server.url}/v1/models/{name}/segment", {"short_side": min(size)}
        # Past any proxy that the environment names: the address is this machine.
        answer = httpx.post(url, content=content, params=query, timeout=3600, trust_env=False)
        answer.raise_for_status()
        return time.perf_counter() - began, peak_memory(server.pid) / 1e6


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="segmentation model")
    parser.add_argument("--repository", default="model_repository", help="folder with its artefact (%(default)s)")
    arguments = parser.parse_args()
    rows = [(size, *measure(arguments.repository, arguments.name, size)) for size in tqdm(SIZES, unit="size")]
    print(f"{'size':>10}  {'area':>5}  {'seconds':>8}  {'ratio':>6}  {'peak MB':>8}")
    for (height, width), seconds, megabytes in rows:
        area = height * width / (SIZES[0][0] * SIZES[0][1])
        print(f"{width:>5}x{height:<4}  {area:>5.0f}  {seconds:>8.2f}  {seconds / rows[0][1]:>6.1f}  {megabytes:>8.0f}")


if __name__ == "__main__":
    main()
