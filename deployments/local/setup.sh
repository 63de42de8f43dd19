#!/usr/bin/env bash
# Makes the environment from requirements.lock: setup.sh <folder> <version of uv>.
# uv installs many times faster; where it cannot be had, pip does the same.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv="$1"
uv_version="$2"

if [ ! -x "$venv/bin/python" ]; then
    python="$(command -v python3.11 || command -v python3 || true)"
    if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
        found="$([ -n "$python" ] && "$python" --version 2>&1 || echo none)"
        echo "setup: Menagerie needs Python 3.11; found: $found. Install it so that python3.11 is on PATH." >&2
        exit 1
    fi
    "$python" -m venv "$venv"
fi
python="$venv/bin/python"
# shellcheck source=deployments/local/find_links.sh
. deployments/local/find_links.sh "$venv"

with_uv() {
    "$python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version" &&
        "$venv/bin/uv" pip install --python "$python" --compile-bytecode -r requirements.lock &&
        "$venv/bin/uv" pip install --python "$python" --no-deps -e .
}
if ! with_uv; then
    echo "setup: uv $uv_version cannot do it here, pip takes its place" >&2
    "$python" -m pip install --disable-pip-version-check -r requirements.lock
    "$python" -m pip install --disable-pip-version-check --no-deps -e .
fi
echo "setup: done; \`make\` lists what can be run"
