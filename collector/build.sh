#!/bin/sh
# Build one Collector from a builder manifest into the cache, unless this very manifest was built before.
#
#   collector/build.sh collector/builder-config.yaml CACHE_FOLDER
#
# Leaves CACHE_FOLDER/<dist.name>, a link to the binary of the manifest's digest. Needs Go and its module proxy (or a
# filled module cache). BUILDER_VERSION and GOMAXPROCS may be set from outside.
set -eu

manifest=$1
cache=$2
builder_version=${BUILDER_VERSION:-v0.159.0}
go_minimum=1.25

name=$(sed -n 's/^  name: *//p' "$manifest")
version=$(sed -n 's/^  version: *//p' "$manifest")
if command -v go >/dev/null 2>&1; then
    go_version=$(go env GOVERSION)
else
    echo "The Collector is built from source: install Go $go_minimum or newer (https://go.dev/dl/) and run this again." >&2
    exit 1
fi
if [ "$(printf '%s\n' "go$go_minimum" "$go_version" | sort -V | head -1)" != "go$go_minimum" ]; then
    echo "The Collector needs Go $go_minimum or newer; found $go_version. Newer ones are at https://go.dev/dl/." >&2
    exit 1
fi

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
manifest=$(cd "$(dirname "$manifest")" && pwd)/$(basename "$manifest")
# A binary is its manifest, its builder and its platform; a comment in the manifest changes nothing.
digest=$( { sed -e 's/ *#.*$//' -e '/^ *$/d' "$manifest"; echo "$builder_version $(go env GOOS)/$(go env GOARCH)"; } | cksum | tr ' ' '-')
built=$cache/$name-$version-$digest
if [ ! -x "$built/$name" ]; then
    builder=$cache/builder-$builder_version
    if [ ! -x "$builder" ]; then
        echo "Installing the OpenTelemetry Collector builder $builder_version …"
        GOBIN=$cache/bin go install "go.opentelemetry.io/collector/cmd/builder@$builder_version"
        mv "$cache/bin/builder" "$builder"
        rmdir "$cache/bin"
    fi
    echo "Building $name $version (some minutes the first time) …"
    work=$(mktemp -d "$cache/building.XXXXXX")
    trap 'rm -rf "$work"' EXIT INT TERM
    # The builder knows no flag for the output folder: it goes by the manifest, of which the copy here has one line more.
    sed "s|^dist:|dist:\n  output_path: $work/source|" "$manifest" > "$work/manifest.yaml"
    if ! "$builder" --config="$work/manifest.yaml" > "$work/log" 2>&1; then
        tail -40 "$work/log" >&2
        exit 1
    fi
    mkdir -p "$built"
    # Last and atomic: a build that was interrupted never passes for a finished one.
    mv "$work/source/go.mod" "$work/source/go.sum" "$built/"
    mv "$work/source/$name" "$built/$name"
fi
# Relative, so that the cache may be moved.
ln -sfn "$(basename "$built")/$name" "$cache/$name"
echo "$cache/$name"
