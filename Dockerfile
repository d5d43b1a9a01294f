# The image pg-es-sync: both services, chosen by SERVICE_TYPE. See docs/deployment.md.

FROM python:3.11-slim AS build
RUN python -m venv /opt/venv
WORKDIR /src
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY pg_es_pipeline pg_es_pipeline
COPY search_service search_service
# The tested versions, and of these only what the project needs at run time.
RUN /opt/venv/bin/pip install --no-cache-dir -c requirements.txt '.[otel]'

FROM python:3.11-slim
# Numeric, so that Kubernetes can see that it is not root.
RUN groupadd --gid 10001 pges \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /var/lib/pg-es \
        --shell /usr/sbin/nologin pges \
    && install -d -o 10001 -g 10001 /var/lib/pg-es/dagster
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY docker docker
COPY dagster.yaml tables.yaml ./
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/var/lib/pg-es/dagster
USER 10001:10001
EXPOSE 8000 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s CMD ["/app/docker/healthcheck.sh"]
ENTRYPOINT ["/app/docker/entrypoint.sh"]
