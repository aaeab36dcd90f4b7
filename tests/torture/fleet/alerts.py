"""Which alerts of Prometheus fired, since when and until when."""

from dataclasses import dataclass
from itertools import pairwise

import httpx

STEP = 15


@dataclass(frozen=True, slots=True)
class Alert:
    """A time in which an alert fired: seconds since 1970; `cleared_at` is None if it still fires."""

    name: str
    fired_at: float
    cleared_at: float | None


def is_ready(prometheus: str) -> bool:
    try:
        return httpx.get(f"{prometheus}/-/ready", timeout=3, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def read_alerts(prometheus: str, begin: float, end: float) -> list[Alert]:
    """Return what fired in that time, in order."""
    query: dict[str, str | float] = {"query": 'ALERTS{alertstate="firing"}', "start": begin, "end": end, "step": STEP}
    answer = httpx.get(f"{prometheus}/api/v1/query_range", params=query, timeout=30, trust_env=False).json()
    found = set[Alert]()
    for series in answer["data"]["result"]:
        name = series["metric"]["alertname"].removeprefix("Breezesync")
        times = [float(at) for at, _ in series["values"]]
        starts = [times[0], *(after for before, after in pairwise(times) if after - before > 2 * STEP)]
        ends = [*(before for before, after in pairwise(times) if after - before > 2 * STEP), times[-1]]
        for start, last in zip(starts, ends, strict=True):
            found.add(Alert(name, start, last if last + 2 * STEP < end else None))
    return sorted(found, key=lambda alert: (alert.fired_at, alert.name))
