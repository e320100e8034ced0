"""A GPU, or no tests: they fail where one is promised and skip elsewhere."""

import os

import pytest

from service.errors import RuntimeLoadError
from service.runtimes.gpu import Gpu, driver_version, find_gpu


@pytest.fixture(scope="session", autouse=True)
def gpu() -> Gpu:
    """The GPU. CLIPSERVE_GPU_PROMISED=1, or a driver, promises one."""
    try:
        return find_gpu()
    except RuntimeLoadError as error:
        if os.environ.get("CLIPSERVE_GPU_PROMISED") == "1" or driver_version():
            pytest.fail(f"a GPU was promised, but {error}")
        pytest.skip(str(error))
