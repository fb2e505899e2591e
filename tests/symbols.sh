#!/usr/bin/env bash
# Installs what programs and their files with symbols are made with in the tests of the operator, where it is
# missing. Debian and Ubuntu, as root; elsewhere it says what is missing.
set -euo pipefail

missing=()
# needs PROGRAM PACKAGE
needs() { command -v "$1" >/dev/null || missing+=("$2"); }
needs gcc gcc
needs g++ g++
needs objcopy binutils
needs dwz dwz
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "These packages are missing: ${missing[*]}. Install them and try again." >&2
    exit 1
fi
echo "Installing ${missing[*]}" >&2
apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
