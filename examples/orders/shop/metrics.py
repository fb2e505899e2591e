"""How long do requests take? Counters that Prometheus reads at GET /metrics."""

import threading


class Latency:
    """Counts answers and adds up their time, by path and status."""

    def __init__(self):
        self._lock = threading.Lock()
        self._sums = {}

    def add(self, path, status, seconds):
        """Notes one answer."""
        with self._lock:
            count, total = self._sums.get((path, status), (0, 0.0))
            self._sums[path, status] = count + 1, total + seconds

    def text(self):
        """The exposition format of Prometheus."""
        with self._lock:
            rows = sorted(self._sums.items())
        lines = ["# HELP shop_request_seconds Time from the head of a request to its answer.", "# TYPE shop_request_seconds summary"]
        for (path, status), (count, total) in rows:
            labels = f'{{path="{path}",code="{status}"}}'
            lines.append(f"shop_request_seconds_count{labels} {count}")
            lines.append(f"shop_request_seconds_sum{labels} {total:.6f}")
        return "\n".join(lines) + "\n"
