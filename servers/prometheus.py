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
        keepers: dict[tuple[str, str], list[Pages]] = {}
        for endpoint in self._endpoints.values():
            for pages in endpoint.books if isinstance(endpoint, Measured) else ():
                for name in pages.units:
                    keepers.setdefault((pages.namespace, name), []).append(pages)
        for (_, name), several in keepers.items():
            yield _family(name, several)
        yield self._instances()

    def _instances(self) -> Metric:
        family = GaugeMetricFamily(
            "sagemaker_instances", "Instances, in any state.", labels=["endpoint_name"]
        )
        for name, endpoint in self._endpoints.items():
            family.add_metric([name], endpoint.status().get("instances", 0))
        return family


def _family(name: str, keepers: Sequence[Pages]) -> Metric:
    first = keepers[0]
    if first.units[name] in A_SECOND:
        return _histogram(name, keepers)
    family_name, labels = _family_name(name, first), _label_names(first)
    if name in first.gauges:
        gauge = GaugeMetricFamily(family_name, f"CloudWatch's {name}, now.", labels=labels)
        for pages in keepers:
            gauge.add_metric(_labels(name, pages), pages.standing(name))
        return gauge
    family = CounterMetricFamily(family_name, f"CloudWatch's {name}, Sum.", labels=labels)
    for pages in keepers:
        family.add_metric(_labels(name, pages), pages.whole(name).total)
    return family


def _histogram(name: str, keepers: Sequence[Pages]) -> Metric:
    first = keepers[0]
    unit = first.units[name]
    scale, word = A_SECOND[unit], unit.lower()
    text = f"CloudWatch's {name}, here in {word} too."
    family_name = f"{_family_name(name, first)}_{word}"
    family = HistogramMetricFamily(family_name, text, labels=_label_names(first))
    bounds = [*(f"{bound * scale:g}" for bound in BUCKETS_S), "+Inf"]
    for pages in keepers:
        histogram = pages.histogram(name)
        buckets, count = [], 0
        for bound, more in zip(bounds, histogram.counts, strict=True):
            count += more
            buckets.append((bound, count))
        family.add_metric(_labels(name, pages), buckets, histogram.total * scale)
    return family


def _labels(name: str, pages: Pages) -> list[str]:
    return [pages.endpoint, pages.variant_of(name)][: len(pages.dimensions)]


def _label_names(pages: Pages) -> list[str]:
    return [_snake(dimension) for dimension in pages.dimensions]


def _family_name(name: str, pages: Pages) -> str:
    """``Invocation4XXErrors`` of ``AWS/SageMaker`` is ``sagemaker_invocation_4xx_errors``."""
    return f"{pages.namespace.removeprefix('AWS/').lower()}_{_snake(name)}"


def _snake(name: str) -> str:
    words = re.findall(r"[A-Z][a-z]+|[A-Z]+(?=[A-Z])|\dXX", name)
    return "_".join(word.lower() for word in words)
