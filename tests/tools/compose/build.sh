#!/bin/sh
# Build compose-check (see main.go) at the versions of go.mod into a cache, unless it was built before.
#
#   tests/tools/compose/build.sh CACHE_FOLDER
#
# Leaves CACHE_FOLDER/compose-check. Needs Go and its module proxy (or a filled module cache).
set -eu

mkdir -p "$1"
cache=$(cd "$1" && pwd)
cd "$(dirname "$0")"
if ! command -v go >/dev/null 2>&1; then
    echo "compose-check is built from source: install Go (https://go.dev/dl/) and run this again." >&2
    exit 1
fi
digest=$( { cat main.go go.sum; go env GOOS GOARCH; } | cksum | tr ' ' '-')
if [ ! -x "$cache/compose-check-$digest" ]; then
    go build -mod=readonly -o "$cache/building-$digest" .
    mv "$cache/building-$digest" "$cache/compose-check-$digest"
fi
# Relative, so that the cache may be moved.
ln -sfn "compose-check-$digest" "$cache/compose-check"
echo "$cache/compose-check"
