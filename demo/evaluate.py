"""Measure the served accuracy: POST freshly generated, encoded clips to a server (`python -m demo.evaluate`)."""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import httpx
from tqdm import tqdm

from demo.clips import generate_file
from demo.local_server import local_server
from demo.recipes import RECIPES
from demo.shapes import LABEL_SETS
from models import model_entry

# Training and its held-out set use 1 and 2 (demo/training.py).
EVALUATION_SEED = 2026
CLIENTS = 4

LabelledFile = tuple[bytes, str]


def generate_files(seed: int, count: int, labels: str) -> list[LabelledFile]:
    """Return the first clips of the set `seed`, encoded, with their labels of a set."""
    with ProcessPoolExecutor() as processes:
        made = processes.map(partial(generate_file, seed, labels=labels), range(count), chunksize=8)
        return list(tqdm(made, total=count, desc=f"generating {labels}", unit="clip"))


def predicted_label(client: httpx.Client, name: str, content: bytes) -> str:
    """Return model `name`'s first label for an encoded file."""
    answer = client.post(f"/v1/models/{name}/classify", content=content)
    answer.raise_for_status()
    label: str = answer.json()["predictions"][0]["label"]
    return label


def find_confusions(client: httpx.Client, name: str, files: list[LabelledFile]) -> Counter[tuple[str, str]]:
    """Return how often model `name` took which label for which other one."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        answers = threads.map(partial(predicted_label, client, name), (content for content, _ in files))
        predicted = list(tqdm(answers, total=len(files), desc=f"asking {name}", unit="clip"))
    return Counter((label, answer) for (_, label), answer in zip(files, predicted, strict=True) if label != answer)


def main() -> None:
    """Generate, POST, count; print the accuracy and every confusion."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000, help="clips to generate (%(default)s)")
    parser.add_argument("--seed", type=int, default=EVALUATION_SEED, help="of the clips (%(default)s)")
    parser.add_argument("--port", type=int, default=8017, help="port of the server under test (%(default)s)")
    arguments = parser.parse_args()
    files = {labels: generate_files(arguments.seed, arguments.clips, labels) for labels in LABEL_SETS}
    with (
        local_server(arguments.port) as server,
        httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client,
    ):
        found = {name: find_confusions(client, name, files[model_entry(name).weights.labels]) for name in RECIPES}
    print(f"top-1 over HTTP of {arguments.clips} clips (seed {arguments.seed})")
    for name, confusions in found.items():
        print(f"  {1 - confusions.total() / arguments.clips:7.2%}  {name}")
        for (label, answer), times in confusions.most_common():
            print(f"           {label} taken for {answer}: {times}")


if __name__ == "__main__":
    main()
