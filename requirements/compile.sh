#!/bin/sh
# Writes every lock in this folder anew: hash-pinned, for every supported Python, without addresses.
# Usage: requirements/compile.sh [UV]
set -eu
cd "$(dirname "$0")/.."
uv="${1:-.venv/bin/uv}"
lock() {
    out="$1"; shift
    "$uv" pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
        --no-annotate --custom-compile-command 'make lock' "$@" -o "requirements/$out.txt"
    echo "requirements/$out.txt"
}
lock dev pyproject.toml requirements/dev.in --extra flask --extra django --extra fastapi --extra otlp \
    --extra distro --extra emulator --extra flags --extra fast --extra gateway
lock demo pyproject.toml requirements/demo.in --extra flask --extra otlp --extra distro --extra emulator --extra fast
lock gateway pyproject.toml requirements/gateway.in --extra gateway
lock build requirements/build.in
for name in floor edot adot logfire plain declarative clients; do
    lock "env-$name" pyproject.toml "requirements/env-$name.in"
done
