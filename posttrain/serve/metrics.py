"""Counters and histograms in Prometheus' text format. Left out on purpose: labels beyond what a dashboard needs."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
HELP = {
    "requests_total": "Requests by path and status.",
    "prompt_tokens_total": "Tokens of prompts.",
    "completion_tokens_total": "Tokens drawn for finished answers.",
    "cancelled_total": "Answers whose client went away.",
    "feedback_total": "Feedback by kind.",
    "first_token_seconds": "From request to first token.",
    "request_seconds": "From request to last token.",
}


class Metrics:
    """`count` and `observe` from any thread; `text` is what /metrics answers."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._seen: dict[str, list[float]] = defaultdict(lambda: [0.0] * (len(BUCKETS) + 1))  # per bucket, then beyond
        self._sums: dict[str, float] = defaultdict(float)

    def count(self, name: str, by: float = 1, **labels: object) -> None:
        key = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()))
        with self._mutex:
            self._counts[name][key] += by

    def observe(self, name: str, seconds: float) -> None:
        with self._mutex:
            self._seen[name][sum(seconds > b for b in BUCKETS)] += 1
            self._sums[name] += seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        with self._mutex:
            return "\n".join([*self._counters(), *self._histograms(), *_gauges(gauges)]) + "\n"

    def _counters(self) -> Iterator[str]:
        for name, values in sorted(self._counts.items()):
            yield f"# HELP posttrain_{name} {HELP[name]}"
            yield f"# TYPE posttrain_{name} counter"
            yield from (f"posttrain_{name}{{{key}}} {v:g}" if key else f"posttrain_{name} {v:g}"
                        for key, v in sorted(values.items()))  # fmt: skip

    def _histograms(self) -> Iterator[str]:
        for name, seen in sorted(self._seen.items()):
            yield f"# HELP posttrain_{name} {HELP[name]}"
            yield f"# TYPE posttrain_{name} histogram"
            for n, edge in enumerate([*(f"{b:g}" for b in BUCKETS), "+Inf"]):
                yield f'posttrain_{name}_bucket{{le="{edge}"}} {sum(seen[: n + 1]):g}'
            yield f"posttrain_{name}_sum {self._sums[name]:g}"
            yield f"posttrain_{name}_count {sum(seen):g}"


def _gauges(gauges: Mapping[str, float]) -> Iterator[str]:
    for name, value in gauges.items():
        yield f"# TYPE posttrain_{name} gauge"
        yield f"posttrain_{name} {value:g}"
