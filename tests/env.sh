# shellcheck shell=bash
# Which cluster, which kubectl, which helm? Sourced by the scripts beside it.
# A KUBECONFIG that is set is used as it is; otherwise the project's own cluster is, and `up` starts it.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cluster=$root/tests/cluster/cluster
if [ -n "${KUBECONFIG:-}" ] && [ "${KUBECONFIG}" != "$("$cluster" kubeconfig)" ]; then
    own_cluster=no
else
    own_cluster=yes
    KUBECONFIG=$("$cluster" kubeconfig)
    export KUBECONFIG
fi

# Puts kubectl and helm in the path; starts the own cluster where that is the one to use.
up() {
    if [ "$own_cluster" = yes ]; then
        "$cluster" up
        PATH=$("$cluster" tools | sed -n 's/^BIN_DIR=//p'):$PATH
        export PATH
    fi
    kubectl version >/dev/null || { echo "The API server of $KUBECONFIG does not answer: look at kubectl version." >&2; exit 1; }
}

# The version of the images, which is that of the crates and of the chart.
version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml"; }

# Says what comes, and how long it takes.
step() { printf '\n\033[1m── %s\033[0m\n' "$*"; }

# Runs a command until it succeeds: within SECONDS COMMAND…
within() {
    local limit=$1 end
    shift
    end=$(($(date +%s) + limit))
    until "$@" >/dev/null 2>&1; do
        if [ "$(date +%s)" -ge "$end" ]; then
            echo "Not so within $limit s: $*" >&2
            "$@" >&2
            return 1
        fi
        sleep 0.5
    done
}
