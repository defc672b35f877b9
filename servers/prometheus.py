"""The endpoints' metrics as Prometheus text: CloudWatch's names in Prometheus's form."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from servers.endpoint import Endpoint
from servers.pages import A_SECOND, BUCKETS_S, Pages

CONTENT_TYPE = CONTENT_TYPE_LATEST

LABELS = ("endpoint_name", "variant_name")


@runtime_checkable
class Measured(Protocol):
    """An endpoint that keeps metrics."""

    @property
    def books(self) -> Sequence[Pages]: ...


def exposition(endpoints: Mapping[str, Endpoint]) -> bytes:
    """What ``GET /metrics`` answers."""
    return generate_latest(_Collected(endpoints))


class _Collected(Collector):
    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints

    def collect(self) -> Iterator[Metric]:
        keepers: dict[str, list[Pages]] = {}
        for endpoint in self._endpoints.values():
            for pages in endpoint.books if isinstance(endpoint, Measured) else ():
                for name in pages.units:
                    keepers.setdefault(name, []).append(pages)
        for name, several in keepers.items():
            yield _family(name, several)
        yield self._instances()

    def _instances(self) -> Metric:
        family = GaugeMetricFamily(
            "sagemaker_instances", "Instances, in any state.", labels=LABELS[:1]
        )
        for name, endpoint in self._endpoints.items():
            family.add_metric([name], endpoint.status().get("instances", 0))
        return family


def _family(name: str, keepers: Sequence[Pages]) -> Metric:
    unit = keepers[0].units[name]
    if unit in A_SECOND:
        return _histogram(name, unit, keepers)
    if name in keepers[0].gauges:
        gauge = GaugeMetricFamily(_snake(name), f"CloudWatch's {name}, now.", labels=LABELS)
        for pages in keepers:
            gauge.add_metric(_labels(name, pages), pages.standing(name))
        return gauge
    family = CounterMetricFamily(_snake(name), f"CloudWatch's {name}, Sum.", labels=LABELS)
    for pages in keepers:
        family.add_metric(_labels(name, pages), pages.whole(name).total)
    return family


def _histogram(name: str, unit: str, keepers: Sequence[Pages]) -> Metric:
    scale, word = A_SECOND[unit], unit.lower()
    text = f"CloudWatch's {name}, here in {word} too."
    family = HistogramMetricFamily(f"{_snake(name)}_{word}", text, labels=LABELS)
    bounds = [*(f"{bound * scale:g}" for bound in BUCKETS_S), "+Inf"]
    for pages in keepers:
        histogram = pages.histograms[name]
        buckets, count = [], 0
        for bound, more in zip(bounds, histogram.counts, strict=True):
            count += more
            buckets.append((bound, count))
        family.add_metric(_labels(name, pages), buckets, histogram.total * scale)
    return family


def _labels(name: str, pages: Pages) -> list[str]:
    return [pages.endpoint, pages.variant_of(name)]


def _snake(name: str) -> str:
    """``Invocation4XXErrors`` is ``sagemaker_invocation_4xx_errors``."""
    words = re.findall(r"[A-Z][a-z]+|[A-Z]+(?=[A-Z])|\dXX", name)
    return "sagemaker_" + "_".join(word.lower() for word in words)
