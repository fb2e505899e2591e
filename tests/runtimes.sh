#!/usr/bin/env bash
# Builds the images of the programs that tests/tests/runtimes captures in pods, as OCI archives without Docker
# and without a registry, and prints their paths.
#   tests/runtimes.sh          fleetprof-runtimes:test, every runtime once, and fleetprof-static:test
#   tests/runtimes.sh all      also fleetprof-versions:test, more versions of Python and Node.js
# The programs are those of the agent's own tests. Runtimes are packages of Debian; .NET and the other versions
# come from where tests/dotnet.sh, tests/pythons.py and npm find them. Needs root, for debootstrap (3 min the
# first time). The archives are kept in the cache of the tests under a hash of what they are made of.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"
targets=operator/agent/tests/capture/targets
packages=(erlang-base libicu72 nodejs openjdk-17-jre-headless php-cli php-fpm python3 ruby)
pythons=(3.10 3.12 3.14)
nodes=(22)
cache=${FLEETPROF_CACHE_DIR:-$HOME/.cache/fleetprof}
images=$cache/images
key=$(cat tests/runtimes.sh tests/csharp.sh tests/csharp/* $targets/* | sha256sum | cut -c1-16)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# write NAME ARGUMENTS…: the archive of fleetprof-NAME:test, in place of an older one.
write() {
    rm -f "$images/$1"-*.tar
    "$cluster" image "fleetprof-$1:test" "${@:2}" -o "$images/$1-$key.tar" >&2
}

# Programs that need nothing but the kernel, as they are often in images.
static() {
    gcc -static -O2 -fomit-frame-pointer -g -o "$work/hot" $targets/hot.c -lpthread
    CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o "$work/served" $targets/served.go
    write static --layer "$work/hot=/hot:0755" --layer "$work/served=/served:0755"
}

runtimes() {
    local base dotnet
    base=$("$cluster" image-debian "${packages[@]}")
    dotnet=$(tests/dotnet.sh)
    mkdir "$work/targets"
    cp $targets/busy.{js,php,py,rb} $targets/{forks,fastcgi}.py $targets/fpm.conf "$work/targets"
    javac --release 11 -d "$work/targets" $targets/Busy.java
    erlc -o "$work/targets" $targets/busy.erl
    tests/csharp.sh beside $targets/Busy.cs "$work/targets/busy.dll"
    cat >"$work/targets/busy.runtimeconfig.json" <<'JSON'
{"runtimeOptions": {"tfm": "net8.0", "framework": {"name": "Microsoft.NETCore.App", "version": "8.0.0"},
 "configProperties": {"System.Globalization.Invariant": true}}}
JSON
    write runtimes --base "$base" --layer "$work/targets=/targets" --layer "$dotnet=/dotnet"
}

versions() {
    local version program part layers=()
    for version in "${pythons[@]}"; do
        program=$(tests/pythons.py "$version")
        for part in bin lib; do
            layers+=(--layer "${program%/bin/*}/$part=/python$version/$part")
        done
    done
    for version in "${nodes[@]}"; do
        program=$cache/nodes/$version/node_modules/node/bin/node
        [ -x "$program" ] || npm install --silent --prefix "$cache/nodes/$version" "node@$version" >&2
        layers+=(--layer "$program=/node$version/node")
    done
    write versions --base "$("$cluster" image-python)" "${layers[@]}" \
        --layer "$targets/busy.py=/targets/busy.py" --layer "$targets/busy.js=/targets/busy.js"
}

mkdir -p "$images"
# One at a time: two runs would write the same files.
exec 9>"$images/runtimes.lock"
flock 9
wanted=(static runtimes)
[ "${1:-}" != all ] || wanted+=(versions)
for name in "${wanted[@]}"; do
    archive=$images/$name-$key.tar
    if [ ! -e "$archive" ]; then
        tests/targets.sh >&2
        busy "making the image of $name" "$name" >&2
    fi
    echo "$archive"
done
