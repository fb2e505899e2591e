#!/usr/bin/env bash
# Installs the compilers and runtimes that the agent's captures are tested with, where they are missing. Debian
# and Ubuntu, as root; elsewhere it says what is missing.
set -euo pipefail

missing=()
# needs PROGRAM PACKAGE
needs() { command -v "$1" >/dev/null || missing+=("$2"); }
PATH=$PATH:/usr/sbin:/sbin
needs gcc gcc
needs python3 python3
needs node nodejs
needs javac default-jdk-headless
needs ruby ruby
needs php php-cli
needs erlc erlang-base
compgen -c php-fpm >/dev/null || missing+=(php-fpm)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "These packages are missing: ${missing[*]}. Install them and try again." >&2
    exit 1
fi
echo "Installing ${missing[*]}" >&2
# Their services are not wanted.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
