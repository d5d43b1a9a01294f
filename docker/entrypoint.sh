#!/usr/bin/env bash
# Starts the service that SERVICE_TYPE names: `api` (the search service) or `sync` (Dagster's code
# server, daemon and webserver). The same in the image and in a checkout with the package on PATH.
#
# Its own variables: SERVICE_TYPE, DAGSTER_HOME, DAGSTER_GRPC_PORT, DAGSTER_WEBSERVER_HOST,
# DAGSTER_WEBSERVER_PORT. All others are read by the services.
set -euo pipefail

app=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$app"

serve_api() {
    export SEARCH_HOST="${SEARCH_HOST:-0.0.0.0}" SEARCH_PORT="${SEARCH_PORT:-8000}"
    exec python -m search_service
}

serve_sync() {
    export DAGSTER_HOME="${DAGSTER_HOME:-$app/.dagster}" DAGSTER_GRPC_PORT="${DAGSTER_GRPC_PORT:-4000}"
    # gRPC would look for the code server behind a proxy that the environment names.
    export no_grpc_proxy="127.0.0.1${no_grpc_proxy:+,$no_grpc_proxy}"
    mkdir -p "$DAGSTER_HOME"
    DAGSTER_HOME=$(cd "$DAGSTER_HOME" && pwd) # Dagster refuses a relative path
    # A link, not a copy: on a volume that outlives the image, a newer image's settings take effect.
    [[ -e $DAGSTER_HOME/dagster.yaml ]] || ln -sf "$app/dagster.yaml" "$DAGSTER_HOME/dagster.yaml"

    # Every service leads a process group of its own. A run is a child of the code server, and in its
    # group: a signal to the group lets the run end properly too.
    set -m
    declare -gA services=()
    trap 'trap "" TERM INT; stop_all; exit 0' TERM INT

    start code dagster api grpc --host 127.0.0.1 --port "$DAGSTER_GRPC_PORT" --working-directory "$app" \
        --module-name pg_es_pipeline.definitions
    # The others report a failed location, for good, if they ask before it listens.
    while running code && ! listens "$DAGSTER_GRPC_PORT"; do
        sleep 0.2
    done
    if running code; then
        start daemon dagster-daemon run --workspace docker/workspace.yaml
        start webserver dagster-webserver --workspace docker/workspace.yaml \
            --host "${DAGSTER_WEBSERVER_HOST:-0.0.0.0}" --port "${DAGSTER_WEBSERVER_PORT:-3000}"
    fi

    local name ended status=0
    wait -n -p ended "${services[@]}" || status=$?
    for name in "${!services[@]}"; do
        if [[ ${services[$name]} == "$ended" ]]; then
            echo "entrypoint: $name ended with status $status: stopping the others" >&2
        fi
    done
    trap '' TERM INT
    stop_all
    exit $((status == 0 ? 1 : status))
}

start() {
    local name=$1
    shift
    "$@" &
    services[$name]=$!
}

running() { kill -0 "${services[$1]}" 2>/dev/null; }

listens() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# In this order: no new runs are asked for, nobody looks any more, then the runs and their server.
# Together less than the 30 s that Kubernetes gives by default.
stop_all() {
    stop daemon 8
    stop webserver 5
    stop code 12
}

stop() {
    [[ -v services[$1] ]] || return 0
    local group=${services[$1]} deadline=$((SECONDS + $2))
    kill -TERM -- "-$group" 2>/dev/null || return 0
    while kill -0 -- "-$group" 2>/dev/null; do
        if ((SECONDS > deadline)); then
            echo "entrypoint: $1 did not stop in $2 s: killed" >&2
            kill -KILL -- "-$group" 2>/dev/null || return 0
        fi
        sleep 0.1
    done
}

case "${SERVICE_TYPE:-}" in
    api) serve_api ;;
    sync) serve_sync ;;
    *)
        echo "SERVICE_TYPE is '${SERVICE_TYPE:-}': set it to 'api' (search service) or 'sync' (Dagster)" >&2
        exit 64
        ;;
esac
