"""`clipserve predict`: send files to a running server and print what it sees in them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from service.client import (
    KEY_VARIABLE,
    Answer,
    Client,
    ClientError,
    add_server_options,
    connect,
    path_of,
    report_failure,
)


class PredictCommand:
    """`clipserve predict`."""

    help = f"send videos or pictures to a running server (its key: {KEY_VARIABLE}) and print what it sees in them"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the files and whom to ask."""
        parser.add_argument("files", nargs="+", metavar="FILE", help="video or picture")
        add_server_options(parser)
        parser.add_argument("--top-k", type=int, metavar="K", help="classes to name (default: as the server does)")
        parser.add_argument(
            "--json", action="store_true", help="print each answer as the server gave it: one line of JSON a file"
        )

    def run(self, arguments: argparse.Namespace) -> int:
        """Print an answer for each file; 1 if there is none for one of them."""
        query = {} if arguments.top_k is None else {"top_k": arguments.top_k}
        try:
            client = connect(arguments)
            path = path_of(client, arguments.model, **query)
            _check_top_k(arguments, path)
        except ClientError as error:
            return report_failure(error)
        shown = _as_json if arguments.json else _as_text
        return max([_predict(client, path, file, shown) for file in arguments.files])


def _check_top_k(arguments: argparse.Namespace, path: str) -> None:
    """Refuse a number of classes for a model that names all classes of a mask.

    Raises:
        ClientError: It was given for one.
    """
    if arguments.top_k is not None and path.partition("?")[0].endswith("/segment"):
        raise ClientError(f"--top-k is for models that classify, and {arguments.model} gives masks: leave it out")


def _predict(client: Client, path: str, file: str, shown: Callable[[str, Answer], str]) -> int:
    """Print the answer for a file and return 0, or print why there is none and return 1."""
    try:
        with open(file, "rb") as opened:
            text = shown(file, client.post(path, opened))
    except (OSError, ClientError) as error:
        return report_failure(error, file)
    print(text, flush=True)
    return 0


def _as_json(_file: str, answer: Answer) -> str:
    # Refuses what is no answer; what is one stays as it came.
    answer.content()
    return answer.body.decode()


def _as_text(file: str, answer: Answer) -> str:
    content = answer.content()
    return "\n".join([f"{file}: {content['model']}/{content['version']}", *_lines(content)])


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    """Yield the classes with their scores, or for each mask with their shares of the picture."""
    for prediction in answer.get("predictions", []):
        yield f"  {prediction['score']:6.1%}  {prediction['label']}"
    for mask in answer.get("masks", []):
        if answer["media"]["kind"] == "video":
            yield f"  frame {mask['frame']}, {mask['time_seconds']:.3f} s"
        for segment in mask["segments"]:
            yield f"  {segment['share']:6.1%}  {segment['label']}"
