#!/bin/sh
# Build what the manifests are checked with into the cache, unless it is there: kustomize, and the strict decoder.
#
#   collector/kubernetes/build.sh CACHE_FOLDER
set -eu

here=$(cd "$(dirname "$0")" && pwd)
kustomize=v5.7.1
command -v go >/dev/null 2>&1 || { echo "The manifests are checked by Go programs: install Go 1.25 or newer (https://go.dev/dl/)." >&2; exit 1; }
mkdir -p "$1"
cache=$(cd "$1" && pwd)
if [ ! -x "$cache/kustomize-$kustomize" ]; then
    echo "Installing kustomize $kustomize …"
    GOBIN=$cache/bin go install "sigs.k8s.io/kustomize/kustomize/v5@$kustomize"
    mv "$cache/bin/kustomize" "$cache/kustomize-$kustomize"
    rmdir "$cache/bin"
fi
want=$(cat "$here"/schema/main.go "$here"/schema/go.sum | cksum | tr ' ' '-')
if [ "$(cat "$cache/.schema" 2>/dev/null)" != "$want" ]; then
    echo "Building the strict decoder of manifests …"
    (cd "$here/schema" && CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o "$cache/kubernetes-schema" .)
    echo "$want" > "$cache/.schema"
fi
ln -sfn "kustomize-$kustomize" "$cache/kustomize"
echo "$cache"
