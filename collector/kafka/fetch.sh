#!/bin/sh
# Copy the jars of a Kafka broker into the cache, unless this very pom.xml was fetched before.
#
#   collector/kafka/fetch.sh CACHE_FOLDER
set -eu

pom=$(cd "$(dirname "$0")" && pwd)/pom.xml
mkdir -p "$1"
cache=$(cd "$1" && pwd)
want=$(cksum < "$pom" | tr ' ' '-')
if [ "$(cat "$cache/.fetched" 2>/dev/null)" != "$want" ]; then
    command -v mvn >/dev/null 2>&1 || { echo "The Kafka broker comes from Maven: install Maven and Java 17, and run this again." >&2; exit 1; }
    echo "Fetching the Kafka broker …"
    rm -rf "$cache/lib"
    mvn --quiet --batch-mode -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/lib"
    echo "$want" > "$cache/.fetched"
fi
echo "$cache/lib"
