"""Measure the served accuracy: POST freshly generated, encoded clips to a server (`python -m demo.evaluate`)."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import httpx
from tqdm import tqdm

from demo.clips import generate_file
from demo.local_server import local_server

# Training and its held-out set use 1 and 2 (demo/training.py).
EVALUATION_SEED = 2026
CLIENTS = 4


def predicted_label(client: httpx.Client, content: bytes) -> str:
    """Return the server's first label for an encoded file."""
    answer = client.post("/v1/classify", content=content)
    answer.raise_for_status()
    label: str = answer.json()["predictions"][0]["label"]
    return label


def main() -> None:
    """Generate, POST, count; print the accuracy and every confusion."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000, help="clips to generate (%(default)s)")
    parser.add_argument("--seed", type=int, default=EVALUATION_SEED, help="of the clips (%(default)s)")
    parser.add_argument("--port", type=int, default=8017, help="port of the server under test (%(default)s)")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        made = processes.map(partial(generate_file, arguments.seed), range(arguments.clips), chunksize=8)
        files = list(tqdm(made, total=arguments.clips, desc="generating", unit="clip"))
    with (
        local_server(arguments.port) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(CLIENTS) as threads,
    ):
        answers = threads.map(partial(predicted_label, client), (content for content, _ in files))
        predicted = list(tqdm(answers, total=len(files), desc="asking the server", unit="clip"))
    confusions = Counter(
        (label, answer) for (_, label), answer in zip(files, predicted, strict=True) if label != answer
    )
    right = len(files) - confusions.total()
    print(f"top-1 over HTTP: {right}/{len(files)} = {right / len(files):.2%} (seed {arguments.seed})")
    for (label, answer), times in confusions.most_common():
        print(f"  {label} taken for {answer}: {times}")


if __name__ == "__main__":
    main()
