#!/usr/bin/env bash
# Tests triggers on a real cluster: a Prometheus alert on the shop's latency fires, Alertmanager notifies fleetprof, and the
# resulting session finds the slow function. Also tests forged and repeated notifications, a crash of the operator, CPU, memory,
# PromQL, cron, and rollouts, and the chart's own alerts and dashboards.
#   tests/triggers.sh [alert] [refusals] [monitoring] [certificate] [killed] [cpu] [memory] [promql] [cron] [rollout]      default: all
# Needs the cluster and the shop of tests/demo.sh, and the Debian packages prometheus and prometheus-alertmanager.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$root"
if [ "$own_cluster" = no ]; then
    echo "KUBECONFIG is set: Prometheus runs on this machine, and pods of your cluster may not reach it. Nothing was tested." >&2
    # The usual exit code of skipped tests; 0 would mean success.
    exit 77
fi
all="alert refusals monitoring certificate killed cpu memory promql cron rollout"
parts=("$@")
[ $# -gt 0 ] || read -ra parts <<<"$all"
for part in "${parts[@]}"; do
    [[ " $all " == *" $part "* ]] || {
        echo "Unknown part $part; choose from: $all." >&2
        exit 2
    }
done
up
dir=$root/target/triggers
mkdir -p "$dir"
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
}
trap cleanup EXIT

tests/prometheus.sh

# The node's address on the bridge, at which pods reach this machine.
host=10.244.0.1
field() { kubectl -n "$1" get "$2" -o jsonpath="$3"; }
# sessions TRIGGER: the names of its sessions, oldest first.
sessions() { kubectl -n shop get psess --sort-by=.metadata.creationTimestamp -o jsonpath="{range .items[?(@.spec.trigger==\"$1\")]}{.metadata.name}{'\n'}{end}"; }
has_session() { [ -n "$(sessions "$1")" ]; }
count() { kubectl -n shop get psess -o name | wc -l; }
# once TRIGGER: checks that there is one session per workload; scheduled rounds have one session for all workloads.
once() {
    local twice
    twice=$(kubectl -n shop get psess -o jsonpath="{range .items[?(@.spec.trigger==\"$1\")]}={.metadata.annotations.fleetprof\.dev/workload}{'\n'}{end}" | sort | uniq -d)
    [ -z "$twice" ] && has_session "$1" && return
    echo "The trigger $1 did not start exactly one session per workload:" >&2
    kubectl -n shop get psess -o custom-columns='SESSION:.metadata.name,TRIGGER:.spec.trigger,WORKLOAD:.metadata.annotations.fleetprof\.dev/workload,CREATED:.metadata.creationTimestamp,CAUSE:.spec.cause' >&2
    exit 1
}
# finish TRIGGER [FUNCTION]: waits until the sessions of the trigger have succeeded, and prints their cause and result. With FUNCTION,
# checks that there is one session and that this is its hottest function.
finish() {
    local name names
    once "$1"
    names=$(sessions "$1")
    for name in $names; do
        # Complete only means that the session has ended.
        kubectl -n shop wait "psess/$name" --for=condition=Complete --timeout=150s >/dev/null || true
        [ "$(field shop "psess/$name" '{.status.phase}')" = Succeeded ] || {
            echo "The session $name did not succeed:" >&2
            kubectl -n shop get "psess/$name" -o yaml | sed -n '/^status:/,$p' >&2
            exit 1
        }
        field shop "psess/$name" '{.metadata.name}: {.status.phase}{"\n"}  cause: {.spec.cause}{"\n"}  {.status.message}{"\n"}'
    done
    # A schedule may have started the next session meanwhile.
    [ "$1" = Schedule ] || once "$1"
    [ -n "${2:-}" ] || return 0
    [ "$(wc -w <<<"$names")" = 1 ] || {
        echo "Expected one session of the trigger $1, found: ${names//$'\n'/ }" >&2
        exit 1
    }
    [[ $(field shop "psess/$names" '{.status.topFunctions[0].name}') == *"$2"* ]] || {
        echo "The hottest function of $names is not $2: $(field shop "psess/$names" '{.status.topFunctions}')" >&2
        exit 1
    }
}
# quiet: removes triggers and sessions, and thereby cooldowns.
quiet() {
    kubectl -n shop patch ppol shop --type=merge -p '{"spec":{"triggers":null,"schedule":{"every":"168h","duration":"10s","cron":null,"preset":null},"suspend":false}}' >/dev/null
    kubectl -n shop delete psess --all --wait >/dev/null
    # The leader remembers sessions it has just created for half a minute.
    sleep "${1:-0}"
}
triggers() { kubectl -n shop patch ppol shop --type=merge -p "{\"spec\":{\"triggers\":$1}}"; }

step "1/11  Enable the alert receiver and Prometheus, and deploy the shop with its load generator"
helm upgrade fleetprof charts/fleetprof -n fleetprof --reset-then-reuse-values --wait --timeout 3m \
    --set alerts.enabled=true --set prometheus.url=http://$host:19090 >/dev/null
kubectl -n fleetprof rollout status deployment/fleetprof-operator --timeout 2m
kubectl apply -k examples/orders >/dev/null
kubectl apply -f examples/policy.yaml >/dev/null
kubectl -n shop rollout status deployment/orders --timeout 2m
kubectl -n shop rollout status deployment/worker --timeout 2m
quiet
listens() { [ -n "$(field fleetprof endpointslice/fleetprof-alerts '{.endpoints[0].addresses[0]}')" ] && [ -n "$(field fleetprof secret/fleetprof-alerts '{.data.token}')" ]; }
within 60 listens
field fleetprof secret/fleetprof-alerts '{.data.token}' | base64 -d >"$dir/token"
field fleetprof secret/fleetprof-tls '{.data.ca\.crt}' | base64 -d >"$dir/ca.crt"
alerts=$(field fleetprof service/fleetprof-alerts '{.spec.clusterIP}')
orders=$(field shop service/orders '{.spec.clusterIP}')

pods_of_fleetprof() {
    local address pod
    kubectl -n fleetprof get pods -l 'app.kubernetes.io/name=fleetprof,app.kubernetes.io/component in (operator, webhook)' \
        --no-headers -o custom-columns=ADDRESS:.status.podIP,POD:.metadata.name |
        while read -r address pod; do
            echo "      - {targets: [\"$address:8080\"], labels: {namespace: fleetprof, pod: $pod, container: operator, endpoint: http}}"
        done
}

cat >"$dir/rules.yml" <<YAML
groups:
  - name: shop
    interval: 2s
    rules:
      - alert: SlowOrders
        expr: rate(shop_request_seconds_sum{path="/api/orders"}[20s]) / rate(shop_request_seconds_count{path="/api/orders"}[20s]) > 0.01
        for: 4s
        labels: {severity: page}
YAML
cat >"$dir/prometheus.yml" <<YAML
global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: [$dir/rules.yml, $root/charts/fleetprof/files/rules.yaml]
alerting:
  alertmanagers: [{static_configs: [{targets: ["127.0.0.1:19093"]}]}]
scrape_configs:
  - job_name: shop
    static_configs:
      - targets: ["$orders:8080"]
        labels: {namespace: shop, deployment: orders}
  # With the labels that the chart's PodMonitor gives.
  - job_name: fleetprof
    honor_labels: true
    static_configs:
$(pods_of_fleetprof)
YAML
cat >"$dir/alertmanager.yml" <<YAML
route: {receiver: fleetprof, group_by: [alertname, namespace], group_wait: 0s, group_interval: 1s, repeat_interval: 5s}
receivers:
  - name: fleetprof
    webhook_configs:
      - url: https://$alerts:8445/v1/alerts
        max_alerts: 500
        http_config:
          authorization: {type: Bearer, credentials_file: $dir/token}
          # In the cluster the URL is https://fleetprof-alerts.fleetprof.svc:8445/v1/alerts, and needs no server_name.
          tls_config: {ca_file: $dir/ca.crt, server_name: fleetprof-alerts.fleetprof.svc}
YAML
promtool check config "$dir/prometheus.yml" >/dev/null
rm -rf "$dir/data" "$dir/amdata"

# The alert fires once both are running.
prometheus-alertmanager --config.file="$dir/alertmanager.yml" --storage.path="$dir/amdata" --web.listen-address=127.0.0.1:19093 --cluster.listen-address= >"$dir/alertmanager.log" 2>&1 &
pids+=($!)
prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" --web.listen-address=0.0.0.0:19090 --rules.alert.resend-delay=1s >"$dir/prometheus.log" 2>&1 &
pids+=($!)

alerts_asked() { triggers '{"alerts":[{"matchers":["alertname=\"SlowOrders\"","severity=~\"page|critical\""],"duration":"15s","cooldown":"10m"}]}'; }

# body VERSION FINGERPRINT: an Alertmanager notification for the worker.
alert_since=$(date -u -d "1 hour ago" +%Y-%m-%dT%H:%M:%SZ)
body() { printf '{"version":"%s","alerts":[{"status":"firing","labels":{"alertname":"SlowOrders","severity":"page","namespace":"shop","deployment":"worker"},"annotations":{},"startsAt":"%s","fingerprint":"%016d"}]}' "$1" "$alert_since" "$2"; }

part_alert() {
    step "2/11  A latency alert fires: Prometheus, Alertmanager, fleetprof, and the slow function (1 min)"
    quiet
    alerts_asked
    began=$(date +%s)
    within 90 has_session Alert
    echo "The session was created $(($(date +%s) - began)) s after the trigger was added."
    finish Alert find_issuer
    sleep 12
    [ "$(sessions Alert | wc -l)" = 1 ] || { echo "The repeated alert started a second session." >&2; exit 1; }
    echo "Alertmanager repeats it every 5 s; there is still one session."
}

part_refusals() {
    step "3/11  Forged, oversized, malformed and unsupported notifications are rejected and have no effect"
    alerts_asked
    before=$(count)
    post() { # post TOKEN-FILE BODY-FILE: prints the status code
        curl -s -o "$dir/answer" -w '%{http_code}' --cacert "$dir/ca.crt" --connect-to "::$alerts:8445" -H "Authorization: Bearer $(cat "$1")" \
            --data-binary "@$2" https://fleetprof-alerts.fleetprof.svc:8445/v1/alerts
    }
    expect() { # expect CODE WHAT TOKEN-FILE BODY-FILE
        local code
        code=$(post "$3" "$4")
        echo "$2: $code $(tr -d '\n' <"$dir/answer")"
        [ "$code" = "$1" ]
    }
    body 4 1 >"$dir/good.json"
    body 3 1 >"$dir/version.json"
    head -c 2000000 /dev/zero | tr '\0' ' ' >"$dir/large.json"
    echo '{"version":"4","alerts":[7]}' >"$dir/malformed.json"
    echo 0123456789abcdef0123456789abcdef >"$dir/forged"
    expect 401 "forged" "$dir/forged" "$dir/good.json"
    expect 413 "oversized" "$dir/token" "$dir/large.json"
    expect 400 "malformed" "$dir/token" "$dir/malformed.json"
    expect 400 "unsupported version" "$dir/token" "$dir/version.json"
    [ "$(count)" = "$before" ] || { echo "A rejected notification started a session." >&2; exit 1; }
    expect 200 "valid notification for the worker" "$dir/token" "$dir/good.json"
    expect 200 "repeated notification" "$dir/token" "$dir/good.json"
    [ "$(count)" = $((before + 1)) ] || { echo "Expected $((before + 1)) sessions, found $(count)." >&2; exit 1; }
    kubectl -n shop get psess
}

part_monitoring() {
    step "4/11  The chart's alert for rejected notifications fires, no other does, and its dashboard shows data (1 min)"
    local prometheus=http://127.0.0.1:19090 alertmanager=http://127.0.0.1:19093 others
    echo 0123456789abcdef0123456789abcdef >"$dir/forged"
    body 4 1 >"$dir/good.json"
    # firing ALERTS: the names of those of fleetprof's alerts that Prometheus says fire.
    firing() {
        curl -sf "$prometheus/api/v1/query" --data-urlencode 'query=ALERTS{alertname=~"Fleetprof.*",alertstate="firing"}' |
            python3 -c 'import json, sys; [print(alert["metric"]["alertname"]) for alert in json.load(sys.stdin)["data"]["result"]]'
    }
    rejected() {
        curl -s -o /dev/null --cacert "$dir/ca.crt" --connect-to "::$alerts:8445" -H "Authorization: Bearer $(cat "$dir/forged")" \
            --data-binary "@$dir/good.json" https://fleetprof-alerts.fleetprof.svc:8445/v1/alerts
        # Prometheus has to see the counter twice.
        sleep 3
        firing | grep -qx FleetprofNotificationsRejected
    }
    within 60 rejected
    arrived() { curl -sf "$alertmanager/api/v2/alerts" | grep -q '"alertname":"FleetprofNotificationsRejected"'; }
    within 30 arrived
    curl -sf "$alertmanager/api/v2/alerts?filter=alertname=FleetprofNotificationsRejected" |
        python3 -c 'import json, sys; [print(*alert["annotations"].values(), sep="\n") for alert in json.load(sys.stdin)]'
    others=$(firing | grep -vx FleetprofNotificationsRejected || true)
    [ -z "$others" ] || { echo "These alerts fire, too: ${others//$'\n'/ }" >&2; exit 1; }
    tests/dashboards.py query "$prometheus"
}

part_certificate() {
    step "5/11  A client certificate instead of the token"
    triggers '{"alerts":[{"matchers":["deployment=\"worker\""],"duration":"15s","cooldown":"10m"}]}'
    body 4 3 >"$dir/certified.json"
    local ca curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    for ca in known unknown; do
        openssl req -x509 "${curve[@]}" -days 2 -subj "/CN=$ca" -keyout "$dir/$ca-ca.key" -out "$dir/$ca-ca.crt" 2>/dev/null
        openssl req -new "${curve[@]}" -subj /CN=alertmanager -keyout "$dir/$ca.key" -out "$dir/$ca.csr" 2>/dev/null
        openssl x509 -req -days 2 -in "$dir/$ca.csr" -CA "$dir/$ca-ca.crt" -CAkey "$dir/$ca-ca.key" -CAcreateserial -out "$dir/$ca.crt" \
            -extfile <(echo extendedKeyUsage=clientAuth) 2>/dev/null
    done
    secret() { kubectl -n fleetprof patch secret fleetprof-alerts --type=merge -p "{\"data\":{\"ca.crt\":$1}}" >/dev/null; }
    certified() { curl -s -o /dev/null -w '%{http_code}' --cacert "$dir/ca.crt" --connect-to "::$alerts:8445" --cert "$dir/$1.crt" --key "$dir/$1.key" \
        --data-binary "@$dir/certified.json" https://fleetprof-alerts.fleetprof.svc:8445/v1/alerts || true; }
    stranger() { [ "$(certified known)" = 401 ]; }
    within 30 stranger
    secret "\"$(base64 -w0 <"$dir/known-ca.crt")\""
    taken() { [ "$(certified known)" = 200 ]; }
    within 30 taken
    echo "certificate of the CA in the Secret: $(certified known); of another CA: $(certified unknown), handshake failed"
    [ "$(certified unknown)" = 000 ]
    secret null
}

part_killed() {
    step "6/11  The operator crashes during a notification, which is then repeated: one session (1 min)"
    quiet 30
    triggers '{"alerts":[{"matchers":["deployment=\"worker\""],"duration":"15s","cooldown":"10m"}]}'
    body 4 2 >"$dir/other.json"
    tell() { curl -s -m 3 -o /dev/null -w '%{http_code}' --cacert "$dir/ca.crt" --connect-to "::$alerts:8445" -H "Authorization: Bearer $(cat "$dir/token")" \
        --data-binary "@$dir/other.json" https://fleetprof-alerts.fleetprof.svc:8445/v1/alerts || true; }
    taken() { [ "$(tell)" = 200 ]; }
    uid=$(kubectl -n fleetprof get pod -l app.kubernetes.io/component=operator -o jsonpath='{.items[0].metadata.uid}')
    leader=$(grep -ls "${uid:?}" /proc/[0-9]*/cgroup | while IFS=/ read -r _ _ pid _; do grep -qsz fleetprof-operator "/proc/$pid/cmdline" && echo "$pid"; done | head -1)
    tell >"$dir/answer" &
    # The response takes about 20 ms, so the crash may happen before or after it.
    sleep "0.0$((RANDOM % 4))"
    kill -9 "$leader"
    wait $! || true
    echo "Killed; the response was $(cat "$dir/answer"), and there were $(sessions Alert | wc -l) sessions."
    within 90 taken
    taken
    [ "$(sessions Alert | wc -l)" = 1 ] || { echo "Expected one session, found $(sessions Alert | wc -l)." >&2; exit 1; }
    finish Alert soften
}

part_cpu() {
    step "7/11  CPU usage above the threshold (1 min)"
    quiet 30
    triggers '{"cpu":{"threshold":40,"window":"15s","duration":"10s","cooldown":"2m"}}'
    within 120 has_session CPU
    finish CPU
}

part_memory() {
    step "8/11  Memory usage above the threshold (2 min)"
    # Usage is only measured by sidecars: recreate the shop's pods so that they get one.
    kubectl -n shop rollout restart deployment/orders >/dev/null
    kubectl -n shop rollout status deployment/orders --timeout 2m
    quiet 30
    triggers '{"memory":{"threshold":5,"window":"15s","duration":"10s","cooldown":"2m"}}'
    within 120 has_session Memory
    finish Memory
}

part_promql() {
    step "9/11  A Prometheus query; the condition reports an invalid query"
    quiet 30
    query='rate(shop_request_seconds_sum{path=\"/api/orders\"}[20s]) / rate(shop_request_seconds_count{path=\"/api/orders\"}[20s]) > 0.01'
    triggers "{\"promQL\":[{\"name\":\"slow\",\"query\":\"$query\",\"for\":\"5s\",\"duration\":\"15s\",\"cooldown\":\"2m\"},{\"name\":\"wrong\",\"query\":\"rate(\"}]}"
    within 90 has_session PromQL
    finish PromQL find_issuer
    condition() { field shop ppol/shop '{.status.conditions[?(@.type=="TriggersReady")].reason}: {.status.conditions[?(@.type=="TriggersReady")].message}'; }
    invalid() { condition | grep -F 'InvalidSpec: spec.triggers.promQL[1].query:'; }
    within 30 invalid
    condition
    echo
}

part_cron() {
    step "10/11  A cron schedule in a time zone (2 min)"
    quiet 30
    kubectl -n shop patch ppol shop --type=merge -p '{"spec":{"schedule":{"every":null,"cron":"* * * * *","timeZone":"Asia/Kolkata","duration":"10s"}}}'
    within 10 field shop ppol/shop '{.status.nextSessionTime}'
    echo "next: $(field shop ppol/shop '{.status.schedule}, {.status.nextSessionTime}, {.status.effectiveOverhead}')"
    within 90 has_session Schedule
    finish Schedule
}

part_rollout() {
    step "11/11  A new revision is profiled once, the existing one is not (1 min)"
    # Revisions older than the policy do not count, so recreate the policy.
    kubectl -n shop delete ppol shop >/dev/null
    kubectl apply -f examples/policy.yaml >/dev/null
    quiet 30
    triggers '{"rollout":{"delay":"5s","duration":"10s"}}'
    sleep 20
    has_session Rollout && { echo "The existing revision was profiled." >&2; exit 1; }
    kubectl -n shop rollout restart deployment/worker
    kubectl -n shop rollout status deployment/worker --timeout 2m
    within 60 has_session Rollout
    finish Rollout soften
    kubectl -n shop get psess -L fleetprof.dev/revision
    kubectl -n shop get events --field-selector reason=TriggerFired -o custom-columns=ABOUT:.involvedObject.kind,NOTE:.message --sort-by=.metadata.creationTimestamp | tail -6
}

for part in "${parts[@]}"; do
    "part_$part"
done
quiet
if [ "${parts[*]}" = "$all" ]; then
    echo "All triggers fired once."
else
    echo "These parts succeeded: ${parts[*]}. The others were not run."
fi
