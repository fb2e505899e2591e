#!/usr/bin/env bash
# Installs the plugin as its users do, with Krew, into a folder that is then removed:
#   tests/krew.sh             packs the build of the tests
#   tests/krew.sh FOLDER      takes the archive and the manifest of a release
# Krew is built from Go modules the first time (a minute) and cached by tests/krew/go.sum; kubectl is that of PATH, else
# that of the local Kubernetes. Needs Go and man; the network only for that build.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"

# Krew and the check of its index.
programs() {
    local folder
    folder=${FLEETPROF_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/fleetprof}/krew-$(cat tests/krew/go.mod tests/krew/go.sum | sha256sum | cut -c1-12)
    mkdir -p "$folder"
    (
        flock 9
        [ -e "$folder/complete" ] && exit
        (cd tests/krew && busy "building Krew" go build -mod=readonly -o "$folder/" tool) >&2
        touch "$folder/complete"
    ) 9>"$folder.lock"
    echo "$folder"
}

fail() {
    echo "error: $*" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
krew=$(programs)
command -v kubectl >/dev/null || PATH=$("$cluster" tools | sed -n 's/^BIN_DIR=//p'):$PATH
release=${1:-}
if [ -z "$release" ]; then
    build
    release=$work/release
    .ci/krew.py "$(built)/kubectl-fleetprof" "$release"
fi
version=$(version)
manifest=$release/fleetprof.yaml
archive=$release/kubectl-fleetprof_v${version}_linux_amd64.tar.gz
case $(uname -m) in aarch64) archive=${archive/amd64/arm64} ;; esac

"$krew/validate-krew-manifest" -manifest "$manifest" -skip-install 2>"$work/said" || fail "$(cat "$work/said")"
grep -qF "$(sha256sum "$archive" | cut -d' ' -f1)" "$manifest" || fail "$manifest does not have the checksum of $archive."
echo "The manifest is valid."

# Nothing of the user's own Krew, kubeconfig or shell counts.
export KREW_ROOT=$work/krew KREW_NO_UPGRADE_CHECK=1 HOME=$work KUBECONFIG=$work/none PATH=$work/krew/bin:$PATH
"$krew/krew" install --manifest="$manifest" --archive="$archive" 2>"$work/said" || fail "$(cat "$work/said")"
grep -q "kubectl fleetprof completion install" "$work/said" || fail "Krew does not say how to complete: $(cat "$work/said")"
[ "$(kubectl fleetprof --version)" = "kubectl-fleetprof $version" ] || fail "kubectl does not find the plugin."
echo "kubectl finds the plugin."

link=$(kubectl fleetprof completion install 2>/dev/null)
[ "$link" = "$KREW_ROOT/bin/kubectl_complete-fleetprof" ] || fail "the link for completion is $link, which is not in PATH."
# Output is read whole: who closes a pipe early makes the command before it fail.
completes() {
    local said
    said=$("$@" ses 2>/dev/null)
    grep -q "^sessions	" <<<"$said" || fail "$* does not complete ses: $said"
}
completes kubectl __complete fleetprof
# An update removes the program that was installed before, and leaves Krew's link to the new one.
mv "$KREW_ROOT/store/fleetprof/v$version" "$KREW_ROOT/store/fleetprof/v99.0.0"
ln -sfn "../store/fleetprof/v99.0.0/kubectl-fleetprof" "$KREW_ROOT/bin/kubectl-fleetprof"
completes kubectl __complete fleetprof
completes "$link"
echo "kubectl completes, after an update too."

pages=$KREW_ROOT/store/fleetprof/v99.0.0/man
[ -e "$KREW_ROOT/store/fleetprof/v99.0.0/LICENSE" ] || fail "the archive has no LICENSE."
page=$(MANWIDTH=80 man -M "$pages" kubectl-fleetprof-now)
grep -q "kubectl fleetprof now" <<<"$page" || fail "man does not show $pages: $page"
echo "man shows the pages."
