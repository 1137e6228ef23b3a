"""What a server counts, for Prometheus; a registry of its own, so that two servers never share one."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """`queue` tells how many samples wait for the model, `inside` how many predictions are under way."""

    def __init__(self, *, queue: Callable[[], int], inside: Callable[[], int]) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "mmpipe_requests", "Requests answered", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "mmpipe_request_seconds", "From head to answer", ["route"], buckets=_SECONDS, registry=registry
        )
        self._batches = Histogram(
            "mmpipe_batch_size", "Samples that the model saw at once", buckets=_SIZES, registry=registry
        )
        self._refusals = Counter("mmpipe_refusals", "Refusals by code", ["code"], registry=registry)
        self._lost = Counter(
            "mmpipe_decoders_lost", "Decoding processes replaced", ["code"], registry=registry
        )
        self._reloads = Counter(
            "mmpipe_reloads", "Models that took over, or failed to", ["result"], registry=registry
        )
        self._model = Gauge(
            "mmpipe_model_info", "The model that answers", ["model", "bundle_sha256"], registry=registry
        )
        for name, words, read in (
            ("mmpipe_queue_length", "Samples that wait for the model", queue),
            ("mmpipe_requests_under_way", "Predictions under way", inside),
        ):
            Gauge(name, words, registry=registry).set_function(read)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request has its answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, size: int) -> None:
        """The model was shown so many samples at once."""
        self._batches.observe(size)

    def refused(self, code: str) -> None:
        """A request got an error code."""
        self._refusals.labels(code).inc()

    def decoder_lost(self, code: str) -> None:
        """A decoding process was replaced."""
        self._lost.labels(code).inc()

    def model(self, name: str, digest: str) -> None:
        """This model answers from now on."""
        self._model.clear()
        self._model.labels(name, digest).set(1)

    def reloaded(self, result: str) -> None:
        """`ok` or `failed`."""
        self._reloads.labels(result).inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
