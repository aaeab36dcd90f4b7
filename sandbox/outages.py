"""Outages of an endpoint: the ways in which a token endpoint is seen to be down, each as one lasting fault.

    provider.control.start_outage("502")              # until end_outage(); on="api" for the API
    provider.control.end_outage()                     # returns how many requests it hit

An outage hits every request before anything was done, so no token is used up by it. To let the grant run and only
lose its answer, inject a fault at the moment `after`. A test of a breaker starts one kind after the other, counts
`hits` for each (a request that spends nothing is hit like any other), ends it, and then reads `max_presentations`.
"""

from typing import Any

from sandbox.faults import Faults, Target

BAD_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
FIREWALL = (
    "<!DOCTYPE html><html lang=en><title>Attention Required!</title><h1>Sorry, you have been blocked</h1>"
    "<p>This website is using a security service to protect itself from online attacks.</p></html>"
)

KINDS: dict[str, dict[str, Any]] = {
    "502": {"kind": "html", "status": 502, "body": BAD_GATEWAY},
    "503": {"kind": "status", "status": 503},
    "301": {"kind": "redirect", "status": 301},
    "302": {"kind": "redirect", "status": 302},
    "firewall": {"kind": "html", "status": 403, "body": FIREWALL},
    "html": {"kind": "html", "status": 200},
    "reset": {"kind": "drop"},
    "silence": {"kind": "silence"},
}


class Outages:
    """At most one outage per endpoint; it comes before every other fault."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._under_way: dict[Target, tuple[str, int]] = {}

    def start(self, kind: str, on: Target, retry_after: int | None, delay_ms: int) -> None:
        """Start an outage instead of the one under way. Raises ValueError for a kind or endpoint that is unknown."""
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        self.end(on)
        fault = self._faults.add(
            first=True, on=on, moment="before", count=None, retry_after=retry_after, delay_ms=delay_ms, **KINDS[kind]
        )
        self._under_way[on] = (kind, fault.id)

    def end(self, on: Target) -> int:
        """End the outage of an endpoint; return how many requests it hit, 0 if there was none."""
        if on not in self._under_way:
            return 0
        _, fault_id = self._under_way.pop(on)
        fault = self._faults.find(fault_id)
        self._faults.remove(fault_id)
        return fault.hits if fault is not None else 0

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return kind and hits by endpoint; an outage whose fault was removed is over."""
        found = {on: (kind, self._faults.find(fault_id)) for on, (kind, fault_id) in self._under_way.items()}
        return {on: {"kind": kind, "hits": fault.hits} for on, (kind, fault) in found.items() if fault is not None}
