ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS libraries
# With requirements-otel.txt the image has OpenTelemetry as well: docs/tracing.md.
ARG REQUIREMENTS=requirements.txt
COPY requirements.txt requirements-otel.txt /tmp/
# Wheels only: no compiler is needed here, and no package runs code of its own while it is installed. pip stays outside.
RUN python -m venv --without-pip /opt/breezesync \
 && python -m pip --python /opt/breezesync/bin/python install \
      --no-cache-dir --only-binary=:all: --require-hashes -r "/tmp/$REQUIREMENTS"

FROM libraries AS sandbox_libraries
COPY requirements-sandbox.txt /tmp/
RUN python -m pip --python /opt/breezesync/bin/python install \
      --no-cache-dir --only-binary=:all: --require-hashes -r /tmp/requirements-sandbox.txt

FROM ${PYTHON_IMAGE} AS app
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent breezesync \
 && printf '#!/bin/sh\nexec python -m worker "$@"\n' >/usr/local/bin/breezesync \
 && chmod 755 /usr/local/bin/breezesync \
 && install -d -m 700 -o breezesync -g breezesync /var/spool/breezesync
ENV PATH=/opt/breezesync/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SPOOL_DIRECTORY=/var/spool/breezesync
WORKDIR /app
COPY pyproject.toml ./
COPY config config
COPY models models
COPY scheduler scheduler
COPY worker worker
# The file system is read-only when it runs: bytecode is made now or never.
RUN python -m compileall -q /app

# The provider and the demo of `docker compose --env-file docker-compose.sandbox.env`: no part of production.
FROM app AS sandbox
COPY --from=sandbox_libraries /opt/breezesync /opt/breezesync
COPY sandbox sandbox
RUN python -m compileall -q /app/sandbox
USER 10001:10001
EXPOSE 8799
CMD ["python", "-m", "sandbox", "--host", "0.0.0.0", "--port", "8799"]

# The last one is built if no target is named.
FROM app AS production
COPY --from=libraries /opt/breezesync /opt/breezesync
USER 10001:10001
EXPOSE 8700 8701
# Without an access log: connect links and codes travel in URLs.
CMD ["uvicorn", "--factory", "worker.main:web", "--host", "0.0.0.0", "--port", "8700", "--no-access-log", \
     "--timeout-graceful-shutdown", "10"]
