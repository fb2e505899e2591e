# shellcheck shell=bash
# Selects the cluster, kubectl and helm for the scripts in this directory, which source it.
# Uses KUBECONFIG if set; otherwise the project's own cluster, which `up` starts.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cluster=$root/tests/cluster/cluster
if [ -n "${KUBECONFIG:-}" ] && [ "${KUBECONFIG}" != "$("$cluster" kubeconfig)" ]; then
    own_cluster=no
else
    own_cluster=yes
    KUBECONFIG=$("$cluster" kubeconfig)
    export KUBECONFIG
fi

# Starts the project's own cluster if needed, and adds its kubectl and helm to PATH.
up() {
    if [ "$own_cluster" = yes ]; then
        "$cluster" up
        PATH=$("$cluster" tools | sed -n 's/^BIN_DIR=//p'):$PATH
        export PATH
    fi
    kubectl version >/dev/null || { echo "The API server of $KUBECONFIG does not respond: check kubectl version." >&2; exit 1; }
}

# The version of the images, crates and chart.
version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml"; }

# Prints the heading of a step.
step() { printf '\n\033[1m── %s\033[0m\n' "$*"; }

# Retries a command until it succeeds: within SECONDS COMMAND…
within() {
    local limit=$1 end
    shift
    end=$(($(date +%s) + limit))
    until "$@" >/dev/null 2>&1; do
        if [ "$(date +%s)" -ge "$end" ]; then
            echo "Timed out after $limit s: $*" >&2
            "$@" >&2
            return 1
        fi
        sleep 0.5
    done
}

# Runs a command that may take minutes and say nothing, and says that it is still at work: busy WHAT COMMAND…
busy() {
    local what=$1 began pulse code=0
    shift
    began=$(date +%s)
    while sleep 60; do echo "   … $what: $((($(date +%s) - began) / 60)) min"; done &
    pulse=$!
    "$@" || code=$?
    kill $pulse 2>/dev/null || true
    wait $pulse 2>/dev/null || true
    return $code
}

# Compiles all that the tests and the images for them need, once: a second call with other flags or packages
# would compile most dependencies again.
build() { (cd "$root" && busy "compiling (about 9 min the first time)" cargo build --workspace --bins --tests --locked --quiet); }

# Where `build` leaves its programs.
built() { echo "$root/target/$(rustc -vV | sed -n 's/^host: //p')/debug"; }
