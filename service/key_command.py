"""`clipserve key`: make a key for a client."""

from __future__ import annotations

import argparse
import secrets
import sys

from pydantic import ValidationError

from service.keyring import digest
from service.settings import ApiKey
from service.validation import described

# 256 bits: what nobody can guess needs no slow hash.
KEY_BYTES = 32


class KeyCommand:
    """`clipserve key`."""

    help = "make a key for a client: the key on standard error, the lines for the configuration on standard output"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take what may be configured of a key."""
        parser.add_argument("name", help="what the log will call the client")
        parser.add_argument("--admin", action="store_true", help="the key may change what is served")
        parser.add_argument(
            "--requests-per-second",
            type=float,
            metavar="RATE",
            help="how many requests it may make (default: any number)",
        )
        parser.add_argument("--burst", type=int, metavar="N", help="how many it may make at once after a pause")

    def run(self, arguments: argparse.Namespace) -> int:
        """Print the key and its lines; 2 if it cannot be configured like that."""
        secret = secrets.token_urlsafe(KEY_BYTES)
        try:
            key = ApiKey(
                name=arguments.name,
                sha256=digest(secret.encode()),
                admin=arguments.admin,
                requests_per_second=arguments.requests_per_second,
                burst=arguments.burst,
            )
        except ValidationError as error:
            for item in error.errors():
                print(f"clipserve: {described(item, '.'.join(map(str, item['loc'])))}", file=sys.stderr)
            return 2
        # Two streams, so that `clipserve key NAME >> clipserve.toml` configures the key and does not store it.
        # The blank line ends the file's last one, which may have no end.
        print(f"{secret}\nThis is shown once; clients send it as `Authorization: Bearer <key>`.", file=sys.stderr)
        print("\n".join(["", "[[api_keys]]", *_toml_lines(key)]))
        return 0


def _toml_lines(key: ApiKey) -> list[str]:
    """Return what is not the default; no value here needs quoting beyond what is done."""
    given = key.model_dump(exclude_defaults=True)
    return [f"{name} = {_toml_value(value)}" for name, value in given.items()]


def _toml_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
