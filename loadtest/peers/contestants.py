"""Who is compared: how each server is started, and how it is asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from demo.local_server import free_port
from loadtest.peers.decoders import FRAME_THREADS, UNTIL_LAST, VARIABLE
from loadtest.peers.onnx_model import ARTEFACT, CORES
from loadtest.peers.process_group import ProcessGroup, started
from loadtest.peers.upload import Upload
from service.machine import available_cores

# LitServe brings uvloop, which uvicorn takes where it finds it; clipserve does not install it.
_CLIPSERVE = "import sys; sys.modules['uvloop'] = None; from service.cli import main; sys.exit(main(['serve']))"


@dataclass(frozen=True)
class Running:
    """A server that is ready.

    Attributes:
        group: Its processes.
        port: Where it listens on the loopback address.
        upload: The request that it is sent.
    """

    group: ProcessGroup
    port: int
    upload: Upload


@dataclass(frozen=True)
class Contestant:
    """A server as it is compared.

    Attributes:
        name: On the command line.
        title: In the table.
        arguments: Of the interpreter, for a port.
        path: Takes clips.
        ready: Path that answers with 200 when clips are taken.
        form: Whether a clip is a form's file, and not the body itself.
        package: What has to be installed beside our own dependencies; empty: nothing.
        environment: What this server finds in the environment.
    """

    name: str
    title: str
    arguments: Callable[[int], list[str]]
    path: str
    ready: str
    form: bool = True
    package: str = ""
    environment: Callable[[Path, int], Mapping[str, str]] = lambda *_: {}

    @property
    def missing(self) -> str:
        """What to do before it can run; empty: nothing."""
        if not self.package or find_spec(self.package):
            return ""
        return f"{self.package} is not installed: pip install -c constraints.txt -e '.[peers]'"

    @contextmanager
    def running(self, clip: bytes) -> Iterator[Running]:
        """Start it on a free port and yield it when it is ready to be sent the clip.

        Raises:
            SystemExit: It does not start.
        """
        port = free_port()
        command = [sys.executable, *self.arguments(port)]
        with TemporaryDirectory() as folder:
            # What the caller has set for servers of clipserve is not meant here.
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLIPSERVE_")}
            # All are sized alike: clipserve heeds a limit on CPU time too, which not every server finds by itself.
            cores = {CORES: str(available_cores())}
            environment = {**inherited, **cores, **self.environment(Path(folder), port)}
            with started(command, environment, f"http://127.0.0.1:{port}{self.ready}") as group:
                yield Running(group, port, Upload(self.path, clip, self.form))


def _module(name: str, *options: str) -> Callable[[int], list[str]]:
    return lambda port: ["-m", f"loadtest.peers.{name}", "--port", str(port), *options]


def _clipserve_environment(folder: Path, port: int) -> Mapping[str, str]:
    """Return defaults but for the port, a repository of the one model, and a stop without delay."""
    (folder / ARTEFACT.parent.name).symlink_to(ARTEFACT.parent)
    return {"CLIPSERVE_PORT": str(port), "CLIPSERVE_REPOSITORY": str(folder), "CLIPSERVE_DRAIN_DELAY": "0"}


def answered_frames(answer: dict[str, Any]) -> list[int]:
    """Return the numbers of the frames that an answer is about, which clipserve gives a view."""
    frames: list[int] = answer["views"][0]["frames"] if "views" in answer else answer["frames"]
    return frames


CLIPSERVE = Contestant(
    "clipserve",
    "clipserve",
    lambda _: ["-c", _CLIPSERVE],
    "/v1/classify",
    "/readyz",
    environment=_clipserve_environment,
)
_WRAPPER = Contestant("wrapper", "FastAPI", _module("wrapper"), "/classify", "/openapi.json")
_LITSERVE = Contestant("litserve", "LitServe", _module("litserve_app"), "/predict", "/health", package="litserve")
_MOSEC = Contestant(
    "mosec",
    "mosec",
    _module("mosec_app", "--address", "127.0.0.1", "--timeout", "60000"),
    "/inference",
    "/metrics",
    form=False,
    package="mosec",
)


def _decoding(contestant: Contestant, decoder: str, title: str) -> Contestant:
    """Return a server that is the same but for how it decodes."""
    return replace(
        contestant,
        name=f"{contestant.name}_{decoder}",
        title=f"{contestant.title}, {title}",
        environment=lambda *_: {VARIABLE: decoder},
    )


CONTESTANTS = (
    CLIPSERVE,
    _WRAPPER,
    _LITSERVE,
    _MOSEC,
    *(_decoding(each, UNTIL_LAST, "until the last frame") for each in (_WRAPPER, _LITSERVE, _MOSEC)),
    _decoding(_WRAPPER, FRAME_THREADS, "until the last frame, in threads"),
)
