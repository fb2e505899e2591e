#!/usr/bin/env python3
"""Are the expressions of the chart's dashboards PromQL, and does a Prometheus answer them?

    tests/dashboards.py rules          prints them as recording rules, for promtool check rules
    tests/dashboards.py query URL      asks the Prometheus at URL all of them, and tells which have no data

crds/tests/monitoring.rs checks that they name metrics and labels that docs/operate.md has; `query` also checks that
docs/operate.md has what the Prometheus scraped of fleetprof.
"""

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "charts/fleetprof/files/dashboards"
# What Grafana puts in for the variables, if everything is selected.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$cluster": ".*", "$namespace": ".*"}


def expressions():
    """Title of the panel and expression, for all targets of all dashboards."""
    for path in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"]
                for variable, value in VARIABLES.items():
                    expression = expression.replace(variable, value)
                if "$" in expression:
                    sys.exit(f"{path}, panel {panel['title']}: unknown variable in {expression}")
                yield panel["title"], expression


def rules():
    """A rule file: JSON is YAML too."""
    each = [{"record": f"panel:{n}", "expr": expression} for n, (_, expression) in enumerate(expressions())]
    print(json.dumps({"groups": [{"name": "dashboards", "rules": each}]}, indent=1))


def get(url, path, **parameters):
    """The data that the HTTP API of Prometheus answers with."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        sys.exit(f"Prometheus refuses {path} {parameters}: {error.read().decode()}")


def ask(url, expression):
    """Number of series in the answer."""
    return len(get(url, "query", query=expression)["result"])


def undocumented(url):
    """Metrics of fleetprof that Prometheus has and docs/operate.md has not."""
    scraped = {name for name in get(url, "label/__name__/values") if name.startswith("fleetprof_")}
    if not scraped:
        sys.exit("Prometheus has no metric of fleetprof: does it scrape the pods?")
    text = (ROOT / "docs/operate.md").read_text()
    told = set(re.findall(r"fleetprof_[a-z_]+", text))
    histograms = re.findall(r"`(fleetprof_[a-z_]+)` \|[^|]*\| histogram", text)
    told |= {name + ending for name in histograms for ending in ("_bucket", "_sum", "_count")}
    return scraped - told


def query(url):
    if unknown := undocumented(url):
        sys.exit(f"docs/operate.md does not have these metrics: {', '.join(sorted(unknown))}")
    answers = [(title, expression, ask(url, expression)) for title, expression in expressions()]
    empty = [(title, expression) for title, expression, series in answers if not series]
    for title, expression in empty:
        print(f"no data yet: {title}: {expression}")
    print(f"{len(answers) - len(empty)} of {len(answers)} expressions have data.")
    # Counters of what has not happened do not exist. Most others do on a cluster that has profiled something.
    if len(empty) * 2 > len(answers):
        sys.exit("More than half of the expressions have no data: does Prometheus scrape fleetprof?")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["rules"]:
            rules()
        case ["query", url]:
            query(url)
        case _:
            sys.exit(__doc__)
