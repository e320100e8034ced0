"""Let torchcodec, which brings no FFmpeg, use the one inside PyAV: both sides then run the same decoders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import av

LIBRARIES = ("avcodec", "avdevice", "avfilter", "avformat", "avutil", "swresample", "swscale")


def restart_with_ffmpeg() -> None:
    """Start this program again with PyAV's libraries, under their usual names, where the dynamic linker looks."""
    theirs = Path(av.__file__).parent.parent / "av.libs"
    ours = Path(sys.prefix) / "ffmpeg"
    before = os.environ.get("LD_LIBRARY_PATH", "")
    if not theirs.is_dir() or str(ours) in before.split(":"):
        return
    ours.mkdir(exist_ok=True)
    for name in LIBRARIES:
        for library in theirs.glob(f"lib{name}-*.so.*"):
            major = library.name.partition(".so.")[2].partition(".")[0]
            link = ours / f"lib{name}.so.{major}"
            link.unlink(missing_ok=True)
            link.symlink_to(library)
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{ours}:{theirs}:{before}"}
    os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606
