# Two images: `limiter` (the last stage, hence the default) and `platform`, the stand-in external services for the demo.

FROM python:3.11-slim-bookworm AS packages
# Where packages come from, if not from pip's default; nothing of this stage but the venv gets into an image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
COPY requirements.lock ./
# The venv has no pip of its own, and so neither have the images. Only wheels: building one would run unlocked code.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
        --requirement requirements.lock


FROM python:3.11-slim-bookworm AS runtime
# Set by whoever builds and publishes the image: --build-arg SOURCE=https://... REVISION=$(git rev-parse HEAD).
ARG SOURCE=""
ARG REVISION=""
LABEL org.opencontainers.image.version="1.5.3" \
    org.opencontainers.image.source="$SOURCE" \
    org.opencontainers.image.revision="$REVISION"
RUN groupadd --system --gid 10001 limiter \
    && useradd --system --uid 10001 --gid limiter --no-create-home --home-dir /app --shell /usr/sbin/nologin limiter \
    && install --directory --owner=limiter --group=limiter /recordings
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM


FROM runtime AS platform
LABEL org.opencontainers.image.title="rps-limiter-platform" \
    org.opencontainers.image.description="Stand-in for the external services of rps-limiter, with a sample fleet"
COPY project/dev/fake_platform project/dev/fake_platform
ENV PYTHONPATH=/app/project \
    PLATFORM_HOST=0.0.0.0 \
    PLATFORM_PORT=8090
EXPOSE 8090
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, socket; \
    socket.create_connection(('127.0.0.1', int(os.environ['PLATFORM_PORT'])), 4)"]
CMD ["python", "-m", "dev.fake_platform"]


FROM runtime AS limiter
LABEL org.opencontainers.image.title="rps-limiter" \
    org.opencontainers.image.description="Life-cycle manager for booked ML models: scales them with their traffic, takes \
back the unused ones"
COPY alembic.ini ./
COPY project/migrations project/migrations
COPY project/src project/src
# For the command line: `python -m limiter.ctl`.
ENV PYTHONPATH=/app/project/src
EXPOSE 8080
# Not alive is anything but a 200; a proxy in the environment is not meant for this call.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as http; \
    url = 'http://127.0.0.1:' + (os.environ.get('HTTP_PORT') or '8080') + '/health/liveness'; \
    http.build_opener(http.ProxyHandler({})).open(url, timeout=4)"]
# Not through a shell: SIGTERM must reach the process, which then ends its runs in order.
CMD ["python", "project/src/main.py"]
