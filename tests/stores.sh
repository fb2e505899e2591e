#!/usr/bin/env bash
# Installs real servers that profiles are sent to, for the tests, and prints the folder of their programs:
#   versitygw (S3) · azurite-blob (Azure Blob Storage) · collector (OTLP)
# The first is a Go module, and the last is made of Go modules (tests/collector), built once (4 and 3 min on 2 cores); the
# second comes from npm.
set -euo pipefail
versitygw=v1.8.0
azurite=3.37.0
cache=${FLEETPROF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/fleetprof}
source=$(cd "$(dirname "$0")" && pwd)/collector
collector=$(cat "$source"/go.mod "$source"/go.sum "$source"/main.go | sha256sum | cut -c 1-12)
folder=$cache/stores-$versitygw-$azurite-$collector

# A module that the proxy does not serve fails at once, instead of being looked for elsewhere.
module() {
    [ -x "$folder/${1##*/}" ] || GOPROXY=${GOPROXY%%,direct} CGO_ENABLED=0 GOBIN=$folder GOFLAGS=-trimpath \
        go install -ldflags "-s -w" "$1@$2" >&2
}

command -v npm >/dev/null || [ -x "$folder/azurite-blob" ] || {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "npm is missing: install it and try again." >&2
        exit 1
    fi
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null
}
mkdir -p "$folder"
# Several tests may ask at the same time.
exec 9>"$folder.lock"
flock 9
export GOPROXY=${GOPROXY:-$(go env GOPROXY)}
module github.com/versity/versitygw/cmd/versitygw $versitygw
[ -x "$folder/collector" ] || (
    cd "$source"
    GOPROXY=${GOPROXY%%,direct} CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false" go build -ldflags "-s -w" -o "$folder/collector" . >&2
)
if [ ! -x "$folder/azurite-blob" ]; then
    npm install --silent --no-fund --no-audit --prefix "$folder/npm" "azurite@$azurite" >&2
    ln -sf npm/node_modules/.bin/azurite-blob "$folder/azurite-blob"
fi
echo "$folder"
