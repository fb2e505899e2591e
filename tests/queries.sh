#!/usr/bin/env bash
# Do the queries of docs/verdict.md give Argo Rollouts and Flagger what that says? Asks Prometheus' own tool; needs no
# cluster, but the Debian package prometheus.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/prometheus.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 - "$dir/test.yml" <<'PY'
import json, re, sys

text = open("docs/verdict.md").read()
queries = re.findall(r"^ *query: (.*)$", text, re.M)
assert len(queries) == 2, f"docs/verdict.md has {len(queries)} queries"
argo, flagger = queries
names = {"args.namespace": "shop", "args.rollout": "orders", "args.revision": "new", "namespace": "shop", "target": "orders"}
fill = lambda query: re.sub(r"\{\{ *([a-z.]+) *\}\}", lambda match: names[match[1]], query)

def series(kind, revision, values, workload="orders"):
    labels = f'namespace="shop",kind="{kind}",workload="{workload}",revision="{revision}"'
    return {"series": f"fleetprof_regression{{{labels}}}", "values": values}

# Minute 0: the revision is not seen yet; 1: no verdict; 2: slower; 3: not slower. What others have does not count.
def test(query, kind, wanted):
    others = [series(kind, "other", "1x9", "cart"), series("Other", "new", "1x9")]
    def at(minute, value):
        # What is not a number is not equal to itself, which promtool takes for a difference.
        expr, samples = fill(query), [] if value is None else [{"value": value}]
        if value == "NaN":
            expr, samples = f"({expr}) != bool ({expr})", [{"value": 1}]
        return {"expr": expr, "eval_time": f"{minute}m", "exp_samples": samples}

    expected = [at(minute, value) for minute, value in enumerate(wanted)]
    return {"interval": "1m", "input_series": [series(kind, "new", "_ NaN 1 0"), *others], "promql_expr_test": expected}

tests = [test(argo, "Rollout", [None, "NaN", 1, 0]), test(flagger, "Deployment", [0, 0, 1, 0])]
json.dump({"rule_files": [], "evaluation_interval": "1m", "tests": tests}, open(sys.argv[1], "w"))
PY
promtool test rules "$dir/test.yml"
echo "The queries of docs/verdict.md give Argo Rollouts NaN, 1 and 0, and Flagger 0 until there is a verdict."
