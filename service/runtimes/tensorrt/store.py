"""The private folder of built engines.

An engine is executable code. What lies in the folder is used only if it was put there by the same user, for the same
model, GPU, driver and version of TensorRT, and has not been changed since: the folder is the user's alone, and each
file begins with a digest under a key that never leaves the folder.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from service.errors import RuntimeLoadError
from service.file_locks import take_turn
from service.files import replacing

logger = logging.getLogger(__name__)

_KEY_BYTES = 32
_DIGEST_BYTES = hashlib.sha256().digest_size
_LENGTH_BYTES = 4

Facts = Mapping[str, object]


class EngineStore:
    """Engines in a folder, by name, each with the facts that it was built for: strings, numbers and lists of them.

    Args:
        folder: Made if missing, for the user alone.

    Raises:
        RuntimeLoadError: The folder cannot be made, or others may write or read it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _refuse_others(folder, stat.S_ISDIR)
            self._key = self._read_key()
        except OSError as error:
            raise RuntimeLoadError(
                f"the folder for TensorRT engines cannot be used ({error}): set CLIPSERVE_CACHE to one that can be "
                "written"
            ) from error

    @property
    def timing_cache(self) -> Path:
        """File for what the builder measures."""
        return self._folder / "timing.cache"

    def load(self, name: str, facts: Facts) -> bytes | None:
        """Return an engine; None if there is none, or none that may be used: then the log says why."""
        try:
            content = (self._folder / f"{name}.engine").read_bytes()
        except FileNotFoundError:
            return None
        digest, signed = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if not hmac.compare_digest(digest, self._digest(signed)):
            logger.warning("the TensorRT engine %s was changed or is not of this machine: it is built again", name)
            return None
        length = int.from_bytes(signed[:_LENGTH_BYTES], "big")
        header, plan = signed[_LENGTH_BYTES : _LENGTH_BYTES + length], signed[_LENGTH_BYTES + length :]
        built_for: Facts = json.loads(header)
        if built_for != facts:
            differing = ", ".join(
                f"{key} was {built_for.get(key)}, is {value}"
                for key, value in facts.items()
                if built_for.get(key) != value
            )
            logger.warning("the TensorRT engine %s does not fit (%s): it is built again", name, differing)
            return None
        return plan

    def save(self, name: str, facts: Facts, plan: bytes) -> None:
        """Keep an engine, in place of the one that had its name; where it cannot be written, the log says so."""
        header = _serialized(facts)
        signed = len(header).to_bytes(_LENGTH_BYTES, "big") + header + plan
        try:
            with replacing(self._folder / f"{name}.engine") as file:
                file.write(self._digest(signed) + signed)
        except OSError as error:
            logger.warning("the TensorRT engine %s cannot be kept (%s): the next start builds it again", name, error)

    @contextmanager
    def turn(self, name: str) -> Iterator[int]:
        """Wait for the turn to load or build an engine, which one process at a time has, and yield its descriptor.

        The turn lasts as long as the block, and as any process lives that was given the descriptor.
        """
        path = self._folder / f"{name}.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            take_turn(lock, f"another process that loads or builds this engine ({path} is locked)")
            yield lock
        finally:
            os.close(lock)

    def _digest(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")

    def _read_key(self) -> bytes:
        file = self._folder / "key"
        if not file.exists():
            with tempfile.NamedTemporaryFile(dir=self._folder) as new:
                new.write(secrets.token_bytes(_KEY_BYTES))
                new.flush()
                # Of two processes that come here, one finds the other's key.
                with suppress(FileExistsError):
                    os.link(new.name, file)
        _refuse_others(file, stat.S_ISREG)
        key = file.read_bytes()
        if len(key) != _KEY_BYTES:
            raise RuntimeLoadError(f"{file} is not a key of this program: remove the folder {self._folder}")
        return key


def _serialized(facts: Facts) -> bytes:
    return json.dumps(facts, sort_keys=True).encode()


def _refuse_others(path: Path, is_expected: Callable[[int], bool]) -> None:
    found = path.lstat()
    if not is_expected(found.st_mode):
        raise RuntimeLoadError(f"{path} is not what it should be: remove it")
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise RuntimeLoadError(
            f"{path} belongs to, or may be used by, others than the user of this process (owner {found.st_uid}, mode "
            f"{stat.S_IMODE(found.st_mode):o}): engines in it could be anybody's code. Remove it or set CLIPSERVE_CACHE"
        )
