#!/usr/bin/env bash
# Installs Prometheus, its promtool and Alertmanager where they are missing. Debian and Ubuntu, as root; elsewhere
# it says what is missing.
set -euo pipefail

missing=()
for program in prometheus promtool prometheus-alertmanager; do
    command -v $program >/dev/null || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "${missing[*]} is missing: install the packages prometheus and prometheus-alertmanager, and try again." >&2
    exit 1
fi
echo "Installing Prometheus" >&2
# Their services are not wanted.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends prometheus prometheus-alertmanager >/dev/null
