"""Faults that are injected on purpose: at which moment, of which kind, for which requests and how often."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from sandbox.http import Answer, Request, answer_html, answer_json, answer_problem, redirect

Target = Literal["token", "api", "authorize"]
Moment = Literal["before", "middle", "after"]
Kind = Literal["status", "drop", "cut", "late", "silence", "html", "redirect", "garbage"]

SILENCE_MS = 600_000
REDIRECTS = (301, 302, 303, 307, 308)
MATCHABLE = ("grant_type", "user_id", "path", "client_id")


@dataclass(slots=True)
class Fault:
    """A fault that happens `count` times (None: until removed) to requests that agree with every field of `match`.

    `before`: nothing was done. `middle`: the old pair (or the code) is used up, no new pair exists; only the
    token endpoint has a middle. `after`: everything was done, only the answer fails. A `late` request
    continues after `delay_ms`; every other kind ends it. `silence` sends nothing for `delay_ms` (ten minutes
    if 0), then resets. `status` also sets the status of `html`, `garbage` and `redirect` (302 if not given).
    """

    id: int
    on: Target
    moment: Moment
    kind: Kind
    status: int | None = None
    retry_after: int | None = None
    delay_ms: int = 0
    body: str | None = None
    count: int | None = 1
    match: dict[str, str] = field(default_factory=dict)
    probability: float = 1.0
    seed: int | None = None
    hits: int = 0
    dice: random.Random = field(default_factory=random.Random, repr=False)

    @property
    def label(self) -> str:
        """Return the fault's name in a presentation: `before:drop`, `after:503`."""
        return f"{self.moment}:{self.status if self.kind == 'status' else self.kind}"

    @property
    def pause_ms(self) -> int:
        """Return how long to wait before the request continues or is spoilt."""
        match self.kind:
            case "late":
                return self.delay_ms
            case "silence":
                return self.delay_ms or SILENCE_MS
            case _:
                return 0

    def strikes(self, on: str, moment: str, facts: Mapping[str, str]) -> bool:
        """Return whether this request is hit, at random if the fault has a probability."""
        if self.on != on or self.moment != moment or (self.count is not None and self.hits >= self.count):
            return False
        if any(facts.get(name) != wanted for name, wanted in self.match.items()):
            return False
        return self.probability >= 1 or self.dice.random() < self.probability

    def spoil(self, request: Request, answer: Answer | None) -> Answer:
        """Return what the client gets instead of `answer`, which is None if the work was not finished."""
        match self.kind:
            case "status":
                headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
                return answer_problem(request, self.status or 500, None, headers)
            case "drop" | "silence":
                return Answer(500, ending="drop")
            case "cut":
                whole = answer or answer_json(200, {"token_type": "Bearer", "expires_in": 31536000})
                return replace(whole, ending="cut")
            case "html":
                page = "<!DOCTYPE html><html lang=en><title>BreezeDoc</title><h1>We'll be right back</h1></html>"
                return answer_html(self.status or 200, self.body or page)
            case "redirect":
                return redirect("/maintenance", self.status if self.status in REDIRECTS else 302)
            case "garbage":
                return Answer(self.status or 200, (self.body if self.body is not None else "{}").encode())
            case "late":
                raise ValueError("a late request is finished, not spoilt")

    def describe(self) -> dict[str, Any]:
        hidden = ("dice",)
        return {name: getattr(self, name) for name in self.__slots__ if name not in hidden}


class Faults:
    """All faults in the order they were set; the first that matches wins."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._ids = itertools.count(1)

    @property
    def active(self) -> bool:
        return bool(self._faults)

    def add(self, *, first: bool = False, **wanted: Any) -> Fault:
        """Add a fault, `first` or after all others. Raises ValueError with the name of the wrong field."""
        for name, choices in (("on", Target), ("moment", Moment), ("kind", Kind)):
            if wanted.get(name) not in get_args(choices):
                raise ValueError(f"{name} is one of {', '.join(get_args(choices))}")
        unknown = set(wanted.get("match") or {}) - set(MATCHABLE)
        if unknown:
            raise ValueError(f"match knows {', '.join(MATCHABLE)}, not {', '.join(sorted(unknown))}")
        if wanted["moment"] == "middle" and wanted["on"] != "token":
            raise ValueError("only the token endpoint has a middle")
        wanted["match"] = {name: str(value) for name, value in (wanted.get("match") or {}).items()}
        fault = Fault(next(self._ids), dice=random.Random(wanted.get("seed")), **wanted)
        self._faults = {fault.id: fault, **self._faults} if first else {**self._faults, fault.id: fault}
        return fault

    def find(self, fault_id: int) -> Fault | None:
        return self._faults.get(fault_id)

    def take(self, on: str, moment: str, facts: Mapping[str, str]) -> Fault | None:
        """Return the fault that hits this request at this moment, and count the hit."""
        for fault in self._faults.values():
            if fault.strikes(on, moment, facts):
                fault.hits += 1
                return fault
        return None

    def list_all(self) -> list[Fault]:
        return list(self._faults.values())

    def remove(self, fault_id: int | None) -> int:
        """Remove one fault, or all for None; return how many there were."""
        if fault_id is None:
            removed = len(self._faults)
            self._faults.clear()
            return removed
        return int(self._faults.pop(fault_id, None) is not None)
