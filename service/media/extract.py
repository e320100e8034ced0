"""Decode the media files of a folder as the server would, and keep the pixels: `python -m service.media.extract`.

    extract OUT < '{"files": [PATH, ...], "request": {...}}'

The request is that of a decode worker (service/media/types.py). OUT becomes a .npz file with an array for each file by
its place, `0` and so on: the views or pictures, uint8. No more than one file's are held in memory. The exporter
calibrates with them; it decodes nothing itself. A dot on a line of its own tells that a file is done.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from service.errors import ServiceError
from service.media.decoding import decode_views
from service.media.pictures import decode_pictures
from service.media.types import ANY_REQUEST, AnyRequest, DecodeRequest


def extract(file: Path, request: AnyRequest) -> NDArray[np.uint8]:
    """Return what the model would be given of a media file: uint8 (views, ..., height, width, 3).

    Raises:
        ServiceError: The file is not a medium that is taken.
    """
    pixels: list[NDArray[np.uint8]] = []

    def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
        pixels.append(np.empty(shape, np.uint8))
        return pixels[-1]

    with file.open("rb") as content:
        if isinstance(request, DecodeRequest):
            decode_views(content, request, allocate)
        else:
            decode_pictures(content, request, allocate, allocate)
    return pixels[-1]


def main() -> int:
    """Write the pixels of all files; 1 if one cannot be decoded."""
    given = json.load(sys.stdin)
    request = ANY_REQUEST.validate_python(given["request"])
    with ZipFile(sys.argv[1], "w") as output:
        for number, file in enumerate(given["files"]):
            try:
                pixels = extract(Path(file), request)
            except ServiceError as error:
                print(f"{file}: {error}", file=sys.stderr)
                return 1
            with output.open(f"{number}.npy", "w", force_zip64=True) as array:
                np.lib.format.write_array(array, pixels, allow_pickle=False)
            print(".", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
