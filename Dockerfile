# Targets: `serve` (default, no torch), `serve-gpu` (the same on an NVIDIA GPU), `export` (torch; makes the artefacts that
# they read), `loadtest` (Locust).
# Dependencies are installed apart from the sources, so that editing code does not install them again.

FROM python:3.11-slim-bookworm AS base
# ONNX Runtime's Linux wheels report to their maker unless told not to.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1
# A number that the host is unlikely to use: files in volumes belong to nobody else.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin clipserve

FROM base AS build
ENV PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /venv
COPY pyproject.toml constraints.txt ./
# One list for each group of dependencies, serve.txt, export.txt and so on, from the one place that names them.
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    groups = {'serve': project['dependencies'], **project['optional-dependencies']}; \
    [open(f'{name}.txt', 'w').write('\n'.join(lines)) for name, lines in groups.items()]"
RUN pip install -c constraints.txt -r serve.txt

FROM base AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY export export
COPY service service
RUN pip wheel --no-deps --wheel-dir /dist .

FROM build AS serve-build
RUN pip install -c constraints.txt -r cpu.txt
COPY --from=wheel /dist /dist
RUN pip install --no-deps /dist/*.whl

FROM build AS serve-gpu-build
RUN pip install -c constraints.txt -r gpu.txt
COPY --from=wheel /dist /dist
RUN pip install --no-deps /dist/*.whl

FROM build AS export-build
# Reaches pip in this stage alone: the index of torch's CPU wheels, where the default one offers only the CUDA build.
ARG PIP_EXTRA_INDEX_URL
RUN pip install -c constraints.txt -r export.txt -r cpu.txt
COPY --from=wheel /dist /dist
RUN pip install --no-deps /dist/*.whl

FROM build AS loadtest-build
RUN pip install -c constraints.txt -r loadtest.txt

FROM base AS export
COPY --from=export-build /venv /venv
# A new volume takes the owner of the folder that it is mounted on.
RUN install --directory --owner=clipserve --group=clipserve /models
WORKDIR /app
# Owned by the user that reads them: some checkouts, and files just written by training, are private to their owner.
COPY --chown=10001:10001 demo/weights demo/weights
USER 10001:10001
ENTRYPOINT ["clipserve", "export"]

FROM base AS loadtest
COPY --from=loadtest-build /venv /venv
WORKDIR /app
COPY --chown=10001:10001 demo demo
COPY --chown=10001:10001 loadtest loadtest
USER 10001:10001
ENTRYPOINT ["python", "-m", "locust", "-f", "loadtest/locustfile.py"]

FROM base AS server
ENV CLIPSERVE_HOST=0.0.0.0 \
    CLIPSERVE_PORT=8000 \
    CLIPSERVE_REPOSITORY=/models
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Without proxies: Docker may put proxy variables into a container, and this address is the container itself.
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=3 CMD ["python", "-c", "\
import os, urllib.request as r; \
r.build_opener(r.ProxyHandler({})).open(f'http://127.0.0.1:{os.environ[\"CLIPSERVE_PORT\"]}/readyz', timeout=2)"]
CMD ["clipserve", "serve"]

FROM server AS serve-gpu
COPY --from=serve-gpu-build /venv /venv
# What NVIDIA's container toolkit is to bring in, and where engines are kept.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    CLIPSERVE_RUNTIME=cuda \
    CLIPSERVE_CACHE=/cache
USER root
RUN install --directory --owner=clipserve --group=clipserve --mode=700 /cache
USER 10001:10001

FROM server AS serve
COPY --from=serve-build /venv /venv
