#!/usr/bin/env bash
# Resolves requirements.lock anew: lock.sh <environment>. One pin a line, and nothing that names a place:
# no index address, and no local version label such as +cpu, which exists in one place alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deployments/local/find_links.sh
. deployments/local/find_links.sh "$1"

draft="$(mktemp)"
trap 'rm -f "$draft"' EXIT
"$1/bin/uv" pip compile pyproject.toml --extra dev --python-version 3.11 --no-header --no-annotate \
    --no-emit-index-url --quiet --output-file "$draft"
sed -E 's/\+[A-Za-z0-9.]+$//' "$draft" > requirements.lock
echo "lock: $(wc -l < requirements.lock) packages"
