#!/bin/sh
# Build a tool of the tests from Go modules, at the versions of its go.mod, into a cache, unless it was built before.
#
#   tests/tools/build.sh FOLDER PACKAGE BINARY CACHE_FOLDER
#
# FOLDER is the one beside this script that has the go.mod. Leaves CACHE_FOLDER/BINARY. Needs Go and its module proxy (or
# a filled module cache).
set -eu

package=$2
binary=$3
mkdir -p "$4"
cache=$(cd "$4" && pwd)
cd "$(dirname "$0")/$1"
if ! command -v go >/dev/null 2>&1; then
    echo "$binary is built from source: install Go (https://go.dev/dl/) and run this again." >&2
    exit 1
fi
digest=$( { cat ./*.go go.sum; go env GOOS GOARCH; } | cksum | tr ' ' '-')
if [ ! -x "$cache/$binary-$digest" ]; then
    echo "Building $binary …"
    go build -mod=readonly -trimpath -ldflags='-s -w' -o "$cache/building-$digest" "$package"
    # Last and atomic: a build that was interrupted never passes for a finished one.
    mv "$cache/building-$digest" "$cache/$binary-$digest"
fi
# Relative, so that the cache may be moved.
ln -sfn "$binary-$digest" "$cache/$binary"
echo "$cache/$binary"
