"""Metrics of the HTTP server, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """What /metrics shows, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "edt_requests", "Requests by path and status.", ("path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "edt_request_seconds",
            "Seconds from a request to its response.",
            ("path",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.batch = Histogram(
            "edt_batch_requests",
            "Requests answered together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self.waiting = Gauge("edt_waiting_requests", "Requests that no batch has taken.", registry=self.registry)
        self.loaded = Gauge(
            "edt_run_loaded_timestamp_seconds", "When the served run was loaded.", ("run",), registry=self.registry
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def serves(self, run: str, loaded: float) -> None:
        """Say which run is served, and since when (unix seconds)."""
        self.loaded.clear()
        self.loaded.labels(run).set(loaded)

    def text(self, waiting: int) -> bytes:
        """Return all metrics as Prometheus reads them."""
        self.waiting.set(waiting)
        return generate_latest(self.registry)
