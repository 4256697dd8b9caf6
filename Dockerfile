# pipesync as an image: exact versions, compiled bytecode, nobody is root, and nothing needs a writable root.
#   docker build --tag pipesync .
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD":/etc/pipesync:ro -v pipesync:/var/lib/pipesync pipesync doctor
FROM python:3.12.8-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/pipesync
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
COPY rules ./rules
COPY adapters ./adapters
# --compile writes .pyc files: imports are three times as fast, and the root file system can be read-only.
RUN /opt/pipesync/bin/pip install --compile --constraint constraints.txt ".[postgres]"

FROM python:3.12.8-slim-bookworm
RUN groupadd --gid 10001 pipesync \
 && useradd --uid 10001 --gid pipesync --home-dir /var/lib/pipesync --no-create-home --shell /usr/sbin/nologin pipesync \
 && install -d -o pipesync -g pipesync -m 0700 /var/lib/pipesync
COPY --from=build /opt/pipesync /opt/pipesync
ENV PATH=/opt/pipesync/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIPESYNC_WAREHOUSE=/var/lib/pipesync/warehouse.duckdb \
    PIPESYNC_LEDGER=/var/lib/pipesync/ledger.db
USER 10001:10001
WORKDIR /var/lib/pipesync
VOLUME ["/var/lib/pipesync"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["pipesync"]
CMD ["status", "--config", "/etc/pipesync/pipesync.yaml"]
