"""Figures for Prometheus, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """What happened, counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pointcut_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "pointcut_request_seconds", "From a request's head to its answer's end.", ["route"], buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.work = Histogram(
            "pointcut_lane_seconds", "One piece of work in a lane.", ["lane"], buckets=SECONDS, registry=self.registry
        )
        self.together = Counter("pointcut_lane_tasks", "Tasks that lanes did.", ["lane"], registry=self.registry)
        self.waiting = Gauge("pointcut_lane_waiting", "Tasks that wait for a lane.", ["lane"], registry=self.registry)
        self.lookups = Counter(
            "pointcut_cache_lookups", "Uploads, and whether they were encoded already.", ["found"], registry=self.registry
        )
        self.cached = Gauge("pointcut_cache_bytes", "Bytes of encoded pictures and their results.", registry=self.registry)
        self.entries = Gauge("pointcut_cache_entries", "Encoded pictures and results.", registry=self.registry)
        self.evicted = Gauge("pointcut_cache_evicted", "Entries thrown out to make room.", registry=self.registry)
        self.films = Gauge("pointcut_films_open", "Films that are open.", registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
