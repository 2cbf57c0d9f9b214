"""OpenTelemetry instruments that are read when somebody asks, so that counting costs the hot path one integer addition.

A part keeps its own plain counts; `total` and `gauge` register a function that yields them with their attributes.
"""

from collections.abc import Callable, Iterable, Mapping

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from prometheus_client import REGISTRY, generate_latest

Reading = tuple[float, Mapping[str, str]]

LATENCY_BUCKETS_MS = (1, 2, 3, 5, 7.5, 10, 15, 20, 25, 35, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000)


def configure_metrics(service: str) -> None:
    """Call once, first thing in `__main__`: one provider a process."""
    metrics.set_meter_provider(
        MeterProvider(
            metric_readers=[PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False)],
            resource=Resource.create({"service.name": f"tickvault-{service}"}),
            views=[
                View(
                    instrument_type=Histogram,
                    aggregation=ExplicitBucketHistogramAggregation([ms / 1000 for ms in LATENCY_BUCKETS_MS]),
                )
            ],
        )
    )


def exposition() -> bytes:
    """All instruments in the Prometheus text format."""
    return generate_latest(REGISTRY)


def total(name: str, description: str, read: Callable[[], Iterable[Reading]]) -> None:
    """A count that only rises."""
    metrics.get_meter("tickvault").create_observable_counter(name, [_callback(read)], description=description)


def gauge(name: str, description: str, read: Callable[[], Iterable[Reading]], unit: str = "") -> None:
    """A value that goes up and down."""
    metrics.get_meter("tickvault").create_observable_gauge(name, [_callback(read)], unit=unit, description=description)


def histogram(name: str, description: str) -> metrics.Histogram:
    """A distribution of seconds, recorded once a batch (recording costs microseconds)."""
    return metrics.get_meter("tickvault").create_histogram(name, unit="s", description=description)


def _callback(read: Callable[[], Iterable[Reading]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: [Observation(value, dict(attributes)) for value, attributes in read()]
