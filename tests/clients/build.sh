#!/bin/sh
# Fetches and builds the clients of other languages into a folder that survives: build.sh FOLDER [LANGUAGE…]
# Versions are pinned in package-lock.json, go.sum, jars.sha256 and posthog-js.sha512; a client whose pins are unchanged is
# left alone.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cache=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- javascript browser go java

missing() {
    echo "$1: $2 is missing: its tests are skipped (required in CI)" >&2
    [ -z "${OTEL_POSTHOG_REQUIRE_ALL:-}" ] || exit 1
}

for language in "$@"; do
    want=$(cat "$here/$language"/* | cksum | tr ' ' '-')
    made="$cache/$language"
    [ "$(cat "$made/.made" 2>/dev/null)" != "$want" ] || continue
    case $language in
        javascript | browser) tool=npm ;;
        go) tool=go ;;
        java) tool=mvn ;;
    esac
    command -v $tool >/dev/null 2>&1 || { missing "$language" "$tool"; continue; }
    echo "Building the $language client …"
    rm -rf "$made"
    mkdir -p "$made"
    case $language in
        javascript)
            cp "$here/javascript/package.json" "$here/javascript/package-lock.json" "$here/javascript/client.js" "$made"
            (cd "$made" && npm ci --silent --no-audit --no-fund --loglevel=error)
            ;;
        browser)
            # The package holds finished files: nothing that it depends on is needed.
            version=$(sed 's/.*posthog-js-\(.*\)\.tgz/\1/' "$here/browser/posthog-js.sha512")
            (cd "$made" && npm pack --silent --loglevel=error "posthog-js@$version" >/dev/null)
            (cd "$made" && sha512sum --check --quiet "$here/browser/posthog-js.sha512" && tar -xzf ./*.tgz && rm ./*.tgz)
            ;;
        go)
            (cd "$here/go" && CGO_ENABLED=0 go build -o "$made/client" .)
            ;;
        java)
            mvn --quiet --batch-mode -f "$here/java/pom.xml" dependency:copy-dependencies -DoutputDirectory="$made"
            (cd "$made" && sha256sum --check --quiet "$here/java/jars.sha256")
            javac -d "$made" -cp "$made/*" "$here/java/Client.java"
            ;;
    esac
    echo "$want" > "$made/.made"
done
