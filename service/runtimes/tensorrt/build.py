"""Build an engine in a process of its own.

It is started as `python -m service.runtimes.tensorrt.build BINDINGS PARENT [OUT] < request.json`, for TensorRT can
crash where a GPU or driver does not suit it, and keeps much memory after a build. BINDINGS is `tensorrt` or
`tensorrt_rtx`, PARENT the number of the process that starts this one, the request a BuildRequest, OUT the number of a
descriptor that the engine is written to. Without it nothing is kept: the exporter only wants to know whether the file
can be built. Prints the version of TensorRT; what goes wrong goes to standard error.
"""

from __future__ import annotations

import sys
from typing import cast

from pydantic import TypeAdapter

from service.errors import RuntimeLoadError
from service.parent import end_with_parent
from service.runtimes.gpu import find_gpu
from service.runtimes.tensorrt.api import BindingsName, load_bindings
from service.runtimes.tensorrt.building import BuildError, BuildRequest, build

REQUEST = TypeAdapter(BuildRequest)


def main() -> int:
    """Build what standard input asks for; 1 if it cannot be built."""
    # A server that is gone has no use for the engine, and the next one does not wait for it.
    bindings, parent, *output = sys.argv[1:]
    end_with_parent(int(parent))
    request = REQUEST.validate_json(sys.stdin.buffer.read())
    try:
        if bindings == "tensorrt":
            # It measures kernels, and may crash where it cannot.
            find_gpu()
        trt = load_bindings(cast(BindingsName, bindings))
        plan = build(trt, request)
    except (BuildError, ImportError, RuntimeLoadError) as error:
        print(f"{request.model_file}: {error}", file=sys.stderr)
        return 1
    for descriptor in output:
        with open(int(descriptor), "wb") as file:
            file.write(plan)
    print(trt.__version__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
