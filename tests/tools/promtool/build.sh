#!/bin/sh
# Build Prometheus' promtool at the version of go.mod into a cache, unless it was built before.
#
#   tests/tools/promtool/build.sh CACHE_FOLDER
#
# Leaves CACHE_FOLDER/promtool. Needs Go and its module proxy (or a filled module cache).
set -eu

mkdir -p "$1"
cache=$(cd "$1" && pwd)
cd "$(dirname "$0")"
if ! command -v go >/dev/null 2>&1; then
    echo "promtool is built from source: install Go (https://go.dev/dl/) and run this again." >&2
    exit 1
fi
digest=$( { cat go.sum; go env GOOS GOARCH; } | cksum | tr ' ' '-')
if [ ! -x "$cache/promtool-$digest" ]; then
    echo "Building promtool (some minutes the first time) …"
    go build -mod=readonly -trimpath -ldflags='-s -w' -o "$cache/building-$digest" github.com/prometheus/prometheus/cmd/promtool
    mv "$cache/building-$digest" "$cache/promtool-$digest"
fi
# Relative, so that the cache may be moved.
ln -sfn "promtool-$digest" "$cache/promtool"
echo "$cache/promtool"
