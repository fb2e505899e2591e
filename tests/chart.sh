#!/usr/bin/env bash
# Tests that the chart renders with various values and rejects conflicting ones with a message, and that
# its alerts and dashboards are as Prometheus wants them. Needs no cluster; 10 s.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"
PATH=$("$cluster" tools | sed -n 's/^BIN_DIR=//p'):$PATH

# The chart links to the CRD files, which Helm mentions at each call; a package holds them.
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT
helm package charts/fleetprof --destination "$packed" >/dev/null 2> >(grep -v 'found symbolic link' >&2)
chart=$(echo "$packed"/fleetprof-*.tgz)

# template ARGUMENT…: fails if a template fails or renders invalid YAML.
template() { helm template fleetprof "$chart" -n fleetprof "$@"; }

# renders WHAT [TEXT…] -- ARGUMENT…: checks that the chart renders and contains each TEXT, but no "!TEXT".
renders() {
    local what=$1 texts=() text rendered
    shift
    while [ "$1" != -- ]; do
        texts+=("$1")
        shift
    done
    shift
    rendered=$(template "$@") || { echo "The chart does not render with $what." >&2; exit 1; }
    for text in "${texts[@]}"; do
        if grep -qF -- "${text#!}" <<<"$rendered"; then
            [[ $text != !* ]] || { echo "With $what the chart unexpectedly renders: ${text#!}" >&2; exit 1; }
        else
            [[ $text == !* ]] || { echo "With $what the chart does not render: $text" >&2; exit 1; }
        fi
    done
}

# refuses WHAT TEXT -- ARGUMENT…: checks that rendering fails with an error that contains TEXT.
refuses() {
    local what=$1 text=$2 answer
    shift 3
    if answer=$(template "$@" 2>&1 >/dev/null); then
        echo "The chart renders with $what, but should fail." >&2
        exit 1
    fi
    grep -qF -- "$text" <<<"$answer" || { echo "With $what the error does not contain \"$text\": $answer" >&2; exit 1; }
}

helm lint --quiet "$chart"
renders "no agents attached" 'FLEETPROF_ATTACH_DISABLED' '!Attach an agent to a running pod' -- --set attach.enabled=false
renders "an allowed image" "r'^mirror\.example/agent:.*\$'" -- --set 'image.agent.allowed={mirror.example/agent:*}'
renders "agents of nodes" 'kind: DaemonSet' 'hostPID: true' '- SYS_PTRACE' 'FLEETPROF_NODE_AGENTS' 'value: "shop,team-*"' \
    'resourceNames: [fleetprof-ca-bundle]' 'name: fleetprof-node-agent' 'value: "268435456"' '!privileged: true' '!hostPath' -- \
    --set nodeAgent.enabled=true --set 'nodeAgent.namespaces={shop,team-*}'
# What a node's agent has captured is lost with its pod: it uploads as long as the kubelet waits, less what it takes to end.
seconds() { template --set nodeAgent.enabled=true --show-only templates/node-agent/daemonset.yaml | sed -n "$1"; }
waits=$(seconds 's/^ *terminationGracePeriodSeconds: //p')
uploads=$(seconds '/FLEETPROF_SHUTDOWN_GRACE/{n;s/[^0-9]//gp;}')
[ "${uploads:-5}" -lt "$waits" ] && [ "${uploads:-5}" -ge $((waits - 10)) ] || {
    echo "The agent of a node uploads for ${uploads:-5} of the $waits s that the kubelet waits." >&2
    exit 1
}
renders "no agents of nodes" '!kind: DaemonSet' '!hostPID' '!FLEETPROF_NODE_AGENTS' '!fleetprof-ca-bundle' '!configmaps' --
renders "no values" 'emptyDir:' 'sizeLimit: 5Gi' 'ephemeral-storage: 5Gi' 'value: "25"' 'value: "720h"' \
    'type: RollingUpdate' 'image: "fleetprof-operator:' \
    '!kind: PersistentVolumeClaim' '!name: fleetprof-alerts' '!FLEETPROF_PROMETHEUS_URL' '!FLEETPROF_AGENT_ALLOW_ROOT' --
renders "a claim with a storage class" 'kind: PersistentVolumeClaim' 'storageClassName: fast' 'storage: 20Gi' 'type: Recreate' 'claimName: fleetprof-results' \
    '!emptyDir:' '!FLEETPROF_RESULTS_CAPACITY' '!ephemeral-storage' -- \
    --set results.persistence.enabled=true --set results.storageClass=fast --set results.size=20Gi
renders "three operators and an existing claim" 'claimName: theirs' 'replicas: 3' 'type: RollingUpdate' \
    '!kind: PersistentVolumeClaim' -- \
    --set operator.replicas=3 --set results.persistence.enabled=true --set results.existingClaim=theirs
renders "three operators and a shared claim" 'accessModes: [ReadWriteMany]' 'type: RollingUpdate' -- \
    --set operator.replicas=3 --set results.persistence.enabled=true --set results.accessMode=ReadWriteMany
renders "shares and history" 'value: "10"' 'value: "48h"' 'value: "7"' 'ephemeral-storage: 1Gi' -- \
    --set results.namespaceShare=10 --set results.maxTtl=48h --set results.sessionHistory=7 \
    --set operator.resources.requests.ephemeral-storage=1Gi
renders "the default limits of captures" 'FLEETPROF_ON_DEMAND_BUDGET' 'value: "50"' 'resources: [nodes]' '!FLEETPROF_NODE_BUDGET' --
renders "a limit of captures per node" 'FLEETPROF_NODE_BUDGET' 'value: "7"' -- --set budgets.node=7
renders "results in memory" 'medium: Memory' 'sizeLimit: 5Gi' '!FLEETPROF_RESULTS_CAPACITY' '!ephemeral-storage' -- \
    --set results.medium=Memory
renders "an existing certificate" 'FLEETPROF_TLS_SECRET' 'value: "theirs"' '!fleetprof-tls' -- --set tls.existingSecret=theirs
renders "alerts and a Prometheus" 'FLEETPROF_ALERTS_SECRET' 'containerPort: 8445' '{name: alerts, port: 8445' 'fleetprof-alerts]' \
    'value: "https://prometheus.monitoring:9091"' 'value: "prometheus-token"' 'port: 9091}' -- \
    --set alerts.enabled=true --set prometheus.url=https://prometheus.monitoring:9091 --set prometheus.existingSecret=prometheus-token \
    --set 'networkPolicy.prometheusPorts={9091}'
renders "DNS as clusters have it, OpenShift's pods on 5353" '{protocol: UDP, port: 53}' '{protocol: TCP, port: 5353}' \
    '{protocol: UDP, port: 5353}' '!port: 1053' -- --set nodeAgent.enabled=true
renders "another port of DNS" '{protocol: UDP, port: 1053}' '!port: 53}' '!port: 5353}' -- \
    --set nodeAgent.enabled=true --set 'networkPolicy.dnsPorts={1053}'
renders "addresses of the API server" 'ipBlock: {cidr: "10.0.0.10/32"}' 'ipBlock: {cidr: "fd00::1/128"}' -- \
    --set 'networkPolicy.apiServerCIDRs={10.0.0.10/32,fd00::1/128}'
renders "limits of what users may ask for" 'FLEETPROF_ON_DEMAND_DURATION' 'value: "1m30s"' 'FLEETPROF_ON_DEMAND_FREQUENCY' 'value: "250"' -- \
    --set budgets.onDemandDuration=1m30s --set budgets.onDemandFrequencyHz=250
renders "destinations" 'name: fleetprof-config-' 'archive: {"bucket":"profiles","credentials":"/etc/fleetprof/credentials/archive","kind":"s3"}' \
    'pyroscope: {"kind":"pyroscope","url":"http://pyroscope.monitoring:4040"}' 'collector: {"kind":"otlp","path":"/otlp","url":"http://collector:4318"}' 'secretName: archive-keys, optional: true' \
    'mountPath: /etc/fleetprof/credentials/archive' 'value: /etc/fleetprof/config/config.yaml' 'port: 4040}' \
    'eks.amazonaws.com/role-arn: arn' 'azure.workload.identity/use: "true"' '!mountPath: /etc/fleetprof/credentials/pyroscope' -- \
    --set destinations.archive.kind=s3 --set destinations.archive.bucket=profiles --set destinations.archive.existingSecret=archive-keys \
    --set destinations.pyroscope.kind=pyroscope --set destinations.pyroscope.url=http://pyroscope.monitoring:4040 \
    --set destinations.collector.kind=otlp --set destinations.collector.url=http://collector:4318 --set destinations.collector.path=/otlp \
    --set 'networkPolicy.destinationPorts={443,4040}' --set-string 'operator.serviceAccountAnnotations.eks\.amazonaws\.com/role-arn=arn' \
    --set-string 'operator.podLabels.azure\.workload\.identity/use=true'
renders "notifications" 'chat: {"credentials":"/etc/fleetprof/receivers/chat","phases":["Failed"],"url":"https://hooks.example.com/x"}' \
    'mountPath: /etc/fleetprof/receivers/chat' 'secretName: chat-key, optional: true' 'port: 9443}' -- \
    --set notifications.chat.url=https://hooks.example.com/x --set notifications.chat.existingSecret=chat-key \
    --set 'notifications.chat.phases={Failed}' --set 'networkPolicy.notificationPorts={9443}'
# shellcheck disable=SC2016
renders "the symbols volume" 'symbols:' 'volume: /var/lib/fleetprof-symbols' '{name: symbols, mountPath: /var/lib/fleetprof-symbols, readOnly: true}' \
    'persistentVolumeClaim: {claimName: debug-files, readOnly: true}' 'name: FLEETPROF_CONFIG' -- --set symbols.existingClaim=debug-files
renders "a debuginfod server" 'debuginfod: {"cacheSize":"2Gi","credentials":"/etc/fleetprof/debuginfod","url":"https://debuginfod.example.com"}' \
    'secret: {secretName: debug, optional: true}' 'port: 8002' -- --set symbols.debuginfod.url=https://debuginfod.example.com \
    --set symbols.debuginfod.existingSecret=debug --set symbols.debuginfod.cacheSize=2Gi
renders "no symbols but uploads by default" 'uploads: {"size":"1Gi"}' 'name: fleetprof-symbols' 'resources: [symbols/content]' \
    '!/var/lib/fleetprof-symbols' '!port: 8002' --
renders "links" 'links: [{"name":"Grafana","url":"https://grafana.example.com/${namespace}"}]' 'name: FLEETPROF_CONFIG' -- \
    --set 'links[0].name=Grafana' --set 'links[0].url=https://grafana.example.com/${namespace}'
renders "quotas" 'default: "1Gi"' 'namespaces: {"shop":"5Gi"}' -- --set results.quotas.default=1Gi --set results.quotas.namespaces.shop=5Gi
renders "nothing to configure" '!fleetprof-config' '!FLEETPROF_CONFIG' '!/etc/fleetprof/receivers' -- \
    --set-string symbols.uploads.size=0
renders "images from a registry" 'image: "registry.example.com/team/fleetprof-operator:1.0"' 'value: "registry.example.com/team/fleetprof-agent:' \
    'value: "mirror.example.com/*"' '- name: pull' -- \
    --set image.operator.registry=registry.example.com/team --set-string image.operator.tag=1.0 --set image.agent.registry=registry.example.com/team \
    --set 'image.agent.allowed={mirror.example.com/*}' --set 'imagePullSecrets[0].name=pull'
for component in operator webhook; do
    renders "the rules for root agents in the $component" 'name: FLEETPROF_DEFAULT_POD_SECURITY' 'value: baseline' \
        'name: FLEETPROF_AGENT_ALLOW_ROOT' -- --show-only "templates/$component/deployment.yaml" \
        --set podSecurity.default=baseline --set agent.allowRoot=true
    renders "scheduling of the $component" 'disk: fast' 'key: dedicated' 'topologyKey: zone' 'priorityClassName: high' 'team: platform' -- --values - <<YAML
$component:
  nodeSelector: {disk: fast}
  tolerations: [{key: dedicated, operator: Exists}]
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {}}]}}
  priorityClassName: high
  podAnnotations: {team: platform}
YAML
done
renders "restarts on the oldest Kubernetes, and nothing else" 'FLEETPROF_RESTART' 'resources: [endpoints]' '!kind: NetworkPolicy' '!prometheus.io/scrape' -- \
    --kube-version 1.30.0 --set restart.enabled=true --set networkPolicy.enabled=false --set metrics.annotations=false

renders "nothing for Prometheus and Grafana" '!monitoring.coreos.com' '!grafana_dashboard' --
renders "a PodMonitor" 'kind: PodMonitor' 'release: kps' 'interval: 30s' 'values: [operator, webhook]' '!kind: PrometheusRule' -- \
    --set metrics.podMonitor.enabled=true --set metrics.podMonitor.labels.release=kps --set metrics.podMonitor.interval=30s
renders "alerts without one" 'kind: PrometheusRule' 'alert: FleetprofNoLeader' 'release: kps' '{{ $labels.kind }}' \
    'runbook_url: https://example.com/docs/runbooks.md#fleetprofnoleader' '!FleetprofAgentsOutdated' '!kind: PodMonitor' -- \
    --set metrics.rules.enabled=true --set metrics.rules.labels.release=kps --set 'metrics.rules.disabled={FleetprofAgentsOutdated}' \
    --set metrics.rules.runbookPrefix=https://example.com/
renders "all alerts of a group disabled" '!name: fleetprof.webhook' 'name: fleetprof.results' -- --set metrics.rules.enabled=true \
    --set 'metrics.rules.disabled={FleetprofWebhookDown,FleetprofCertificateExpiringSoon,FleetprofPodsMissed,FleetprofWebhookSlow}'
renders "dashboards" 'name: fleetprof-dashboards' 'namespace: grafana' 'grafana_dashboard: "1"' 'grafana_folder: Platform' \
    'fleetprof.json: |' '"legendFormat": "{{mode}}"' '"uid": "${datasource}"' -- \
    --set metrics.dashboards.enabled=true --set metrics.dashboards.namespace=grafana --set metrics.dashboards.annotations.grafana_folder=Platform

refuses "an alert that there is not" 'metrics.rules.disabled names FleetprofNoLeeder, but the chart has no such alert' -- \
    --set metrics.rules.enabled=true --set 'metrics.rules.disabled={FleetprofNoLeeder}'
refuses "an interval that is none" 'interval' -- --set metrics.podMonitor.interval=often
refuses "two operators and a ReadWriteOnce claim" 'operator.replicas is more than 1, but results.accessMode is ReadWriteOnce' -- \
    --set operator.replicas=2 --set results.persistence.enabled=true
refuses "no port of DNS" 'networkPolicy/dnsPorts' -- --set-json 'networkPolicy.dnsPorts=[]'
refuses "an address without a prefix" 'networkPolicy/apiServerCIDRs/0' -- --set 'networkPolicy.apiServerCIDRs={10.0.0.10}'
refuses "a duration that is none" 'onDemandDuration' -- --set budgets.onDemandDuration=long
refuses "an unused claim" 'results.existingClaim is set, but results.persistence.enabled is false' -- --set results.existingClaim=theirs
refuses "a claim in memory" 'results.medium is set, but results.persistence.enabled is true' -- \
    --set results.medium=Memory --set results.persistence.enabled=true
refuses "the namespace kube-system" 'fleetprof cannot be installed in kube-system' -- -n kube-system
refuses "a destination without a bucket" 'destinations' -- --set destinations.archive.kind=s3
refuses "a destination with a password in its address" 'destinations' -- \
    --set destinations.pyroscope.kind=pyroscope --set 'destinations.pyroscope.url=http://user:password@pyroscope'
refuses "a path with a query" 'destinations' -- \
    --set destinations.collector.kind=otlp --set destinations.collector.url=http://collector:4318 --set 'destinations.collector.path=/v1?key=1'
refuses "a receiver without a key" 'existingSecret' -- --set notifications.chat.url=https://hooks.example.com/x
refuses "a receiver with a token in its address" 'notifications' -- --set notifications.chat.existingSecret=x \
    --set 'notifications.chat.url=https://hooks.example.com/?token=x'
refuses "a phase that no session ends in" 'phases' -- --set notifications.chat.existingSecret=x \
    --set notifications.chat.url=https://x/ --set 'notifications.chat.phases={Running}'
# shellcheck disable=SC2016
refuses "a debuginfod server with a password in its URL" 'debuginfod' -- --set symbols.debuginfod.url=https://me:secret@example.com
refuses "a link whose server is up to a namespace" 'links' -- --set 'links[0].name=x' --set 'links[0].url=https://${namespace}.example.com/'
refuses "an unknown Pod Security level" "value must be one of 'privileged', 'baseline', 'restricted'" -- --set podSecurity.default=strict
refuses "an unknown value" "additional properties 'replica' not allowed" -- --set operator.replica=2
refuses "a Kubernetes version without ValidatingAdmissionPolicy" 'chart requires kubeVersion: >=1.30.0-0' -- --kube-version 1.29.0

# The rules as the chart renders them, without what makes them an object of the Prometheus Operator, do what tests/alerts.yaml
# says; expressions of dashboards are PromQL.
tests/prometheus.sh
template --set metrics.rules.enabled=true --show-only templates/monitoring/rules.yaml |
    sed '1,/^spec:/d; s/^  //' >"$packed/rules.yaml"
sed "s|^rule_files:.*|rule_files: [$packed/rules.yaml]|" tests/alerts.yaml >"$packed/alerts.yaml"
tests/dashboards.py rules >"$packed/dashboards.yaml"
for check in "check rules $root/charts/fleetprof/files/rules.yaml" "check rules $packed/dashboards.yaml" "test rules $packed/alerts.yaml"; do
    # shellcheck disable=SC2086
    said=$(promtool $check 2>&1) || { echo "promtool $check fails: $said" >&2; exit 1; }
done
# The queries that gate rollouts.
said=$(tests/queries.sh 2>&1) || { echo "tests/queries.sh fails: $said" >&2; exit 1; }
