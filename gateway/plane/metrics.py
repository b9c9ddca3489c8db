"""A few figures about this process, in Prometheus' text format."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

from gateway.contract.events import CallEvent

_BUCKETS_US = (250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000)


class Metrics:
    def __init__(self) -> None:
        self._calls: Counter[tuple[str, str, str]] = Counter()
        self._strangers: Counter[str] = Counter()
        self._overhead = [0] * (len(_BUCKETS_US) + 1)
        self._overhead_sum_us = 0

    def count(self, event: CallEvent) -> None:
        self._calls[event.kind, event.status, event.error_code or ""] += 1
        overhead = event.overhead_us or 0
        self._overhead_sum_us += overhead
        self._overhead[bisect_left(_BUCKETS_US, overhead)] += 1

    def count_stranger(self, code: str) -> None:
        """A call that was refused before its tenant was known; it is in no event."""
        self._strangers[code] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        """The exposition; `gauges` are figures that others hold."""
        return "\n".join(self._lines(gauges)) + "\n"

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        yield "# TYPE gatehouse_calls_total counter"
        for (kind, status, code), count in sorted(self._calls.items()):
            yield f'gatehouse_calls_total{{kind="{kind}",status="{status}",code="{code}"}} {count}'
        yield "# TYPE gatehouse_unidentified_calls_total counter"
        for code, count in sorted(self._strangers.items()):
            yield f'gatehouse_unidentified_calls_total{{code="{code}"}} {count}'
        yield "# TYPE gatehouse_overhead_seconds histogram"
        total = 0
        for bound, count in zip((*_BUCKETS_US, None), self._overhead, strict=True):
            total += count
            yield f'gatehouse_overhead_seconds_bucket{{le="{"+Inf" if bound is None else bound / 1e6}"}} {total}'
        yield f"gatehouse_overhead_seconds_sum {self._overhead_sum_us / 1e6}"
        yield f"gatehouse_overhead_seconds_count {total}"
        for name, value in gauges.items():
            yield f"# TYPE gatehouse_{name} gauge"
            yield f"gatehouse_{name} {value}"
