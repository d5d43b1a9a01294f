#!/usr/bin/env bash
# Whether the service that SERVICE_TYPE names answers: status 0 or 1. For Docker's HEALTHCHECK.
set -euo pipefail

case "${SERVICE_TYPE:-}" in
    api) url="http://127.0.0.1:${SEARCH_PORT:-8000}/health/ready" ;;
    # One process of the three less, and the container has ended: the webserver speaks for all.
    sync) url="http://127.0.0.1:${DAGSTER_WEBSERVER_PORT:-3000}/server_info" ;;
    *) exit 1 ;;
esac

# Without the proxies that the environment may name.
exec python -c '
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    opener.open(sys.argv[1], timeout=15)
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
' "$url"
