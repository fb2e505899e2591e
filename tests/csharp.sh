#!/usr/bin/env bash
# Compiles a C# program for the .NET runtime of tests/dotnet.sh, with or without the lines of its methods:
#   tests/csharp.sh none|beside|embedded SOURCE.cs OUT.dll
# Debian's compiler is Mono's, which writes lines in a format of its own; tests/csharp/Lines.cs makes a
# portable PDB of them: OUT.pdb, or a part of OUT.dll.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
lines=$1 source=$2 out=$3
cache=${FLEETPROF_CACHE_DIR:-${HOME:-/root}/.cache/fleetprof}

fail() { echo "$*" >&2 && exit 1; }
library() { find /usr/lib/mono/gac -path "$1" 2>/dev/null | sort | tail -1; }
# ensure PATTERN PACKAGE: prints the path of a library of Mono.
ensure() {
    if [ -z "$(library "$1")" ]; then
        [ "$(id -u)" = 0 ] || fail "$2 is missing: apt-get install $2"
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2
    fi
    library "$1"
}
# Prints the path of the program that writes lines. It is kept by its source.
writer() {
    local program cecil symbols
    program=$cache/csharp-$(sha256sum <"$root/tests/csharp/Lines.cs" | cut -c1-12).exe
    # Several tests may ask at the same time.
    exec 9>"$cache/csharp.lock"
    flock 9
    cecil=$(ensure '*/Mono.Cecil/0.1[0-9]*/Mono.Cecil.dll' libmono-cecil-private-cil)
    symbols=$(ensure '*/Mono.CompilerServices.SymbolWriter.dll' libmono-compilerservices-symbolwriter4.0-cil)
    [ -e "$program" ] || mcs "-r:$cecil" "-r:$symbols" "-out:$program" "$root/tests/csharp/Lines.cs" >&2
    exec 9>&-
    echo "$program"
}

"$root/tests/dotnet.sh" >/dev/null
if [ "$lines" = none ]; then
    exec mcs -optimize+ -nowarn:414 "-out:$out" "$source"
fi
writer=$(writer)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=$(basename "$out")
mcs -optimize+ -debug -nowarn:414 "-out:$work/$name" "$source"
mono "$writer" "$work/$name" "$out" "$lines"
