"""A decode worker that answers with its uploads: what one can say that hostile media has taken over.

The answer is the JSON behind the two letters with which a BMP picture begins; the pixels stay as they are, zero.
"""

from typing import BinaryIO

from service.media import worker


class Forgery:
    """Stands in for an answer."""

    def __init__(self, content: bytes) -> None:
        self._json = content.removeprefix(b"BM").decode()

    def model_dump_json(self) -> str:
        return self._json


def forge(file: BinaryIO, *_: object) -> Forgery:
    file.seek(0)
    return Forgery(file.read())


if __name__ == "__main__":
    worker.decode_views = worker.decode_pictures = forge  # type: ignore[assignment]
    worker.main()
