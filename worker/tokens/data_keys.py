"""Data keys whose master key is behind a request: opened ones are remembered, new ones are kept in stock.

So a flow can seal what a provider answered even if the server is away by then, and no transaction waits for it.
"""

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from models.crypto.data_keys import DataKey, KeyWrapper
from models.crypto.errors import KeyMissing, KeyNotAtHand, KeyServiceUnavailable
from models.crypto.keys import key_bytes
from models.crypto.sealed_text import Wrapped
from models.crypto.vault import Vault

stock_size = 64
low_stock = 32
longest_kept = timedelta(minutes=10)
"""How long a data key stays in memory. It is never stale: a wrapped text stands for one data key for good."""
longest_in_stock = 2 * longest_kept
"""How long a new data key may still be used; a request for a token has ended long before that (see `require`)."""
refusal_kept = timedelta(minutes=1)
most_kept = 4_096
pause = timedelta(seconds=2)
"""How long no request follows one that failed, so that not every thread waits for a server that is away."""
most_per_request = 250
most_fetches = 8

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class DataKeys:
    """The data keys of one process. Threads may share it."""

    def __init__(self, wrapper: KeyWrapper, wraps: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.wrapper = wrapper
        self.wraps = wraps
        self.clock = clock
        self._lock = threading.Lock()
        self._stock = deque[DataKey]()
        self._stocked_at = 0.0
        self._last: DataKey | None = None
        self._opened = OrderedDict[Wrapped, tuple[float, bytes | None]]()
        self._failure: tuple[float, KeyServiceUnavailable] | None = None

    @property
    def current_id(self) -> str:
        last = self._last
        return self.wrapper.id if last is None else last.wrapped.key_id

    def owns(self, key_id: str) -> bool:
        return self.wrapper.owns(key_id)

    def take(self) -> DataKey:
        """Return a data key that nothing was sealed with, or the last one again if the stock is used up.

        It may seal again, with another nonce: what must be saved now is worth more than a key of its own. Raises
        `KeyNotAtHand` if there has been no stock yet, or if it is so old that its master key may be out of use.
        """
        with self._lock:
            if self._stock:
                self._last = self._stock.popleft()
            if self._last is None or self.clock() - self._stocked_at > longest_in_stock.total_seconds():
                raise KeyNotAtHand
            self._keep(self._last.wrapped, self._last.material)
            return self._last

    def require(self) -> None:
        with self._lock:
            if self._needs_stock():
                raise KeyNotAtHand

    def find(self, wrapped: Wrapped) -> bytes:
        with self._lock:
            until, material = self._opened.get(wrapped, (0.0, None))
            if until <= self.clock():
                raise KeyNotAtHand([wrapped])
        if material is None:
            raise KeyMissing(wrapped.key_id, "whose server does not open it: see breezesync doctor")
        return material

    def fetch(self, wanted: Sequence[Wrapped]) -> None:
        for batch in _batches(list(dict.fromkeys(wanted))):
            materials = self._ask(lambda batch=batch: self.wrapper.unwrap(batch))  # type: ignore[misc]
            with self._lock:
                for wrapped, material in zip(batch, materials, strict=True):
                    self._keep(wrapped, material)
        with self._lock:
            is_low = self.wraps and self._needs_stock()
        if is_low:
            self._fill_stock()

    def wrap(self, materials: Sequence[bytes]) -> list[Wrapped]:
        return [
            each
            for batch in _batches(materials)
            for each in self._ask(lambda batch=batch: self.wrapper.wrap(batch))  # type: ignore[misc]
        ]

    def rewrap(self, wrapped: Sequence[Wrapped]) -> list[Wrapped | None]:
        return [
            each
            for batch in _batches(wrapped)
            for each in self._ask(lambda batch=batch: self.wrapper.rewrap(batch))  # type: ignore[misc]
        ]

    def close(self) -> None:
        self.wrapper.close()

    def _fill_stock(self) -> None:
        materials = [secrets.token_bytes(key_bytes) for _ in range(stock_size)]
        wrapped = self.wrap(materials)
        with self._lock:
            # Old ones go: the master key may have been rotated since.
            self._stock = deque(DataKey(*each) for each in zip(materials, wrapped, strict=True))
            self._last = self._last or self._stock[0]
            self._stocked_at = self.clock()

    def _needs_stock(self) -> bool:
        is_old = self.clock() - self._stocked_at > longest_kept.total_seconds()
        return is_old or len(self._stock) < low_stock

    def _ask(self, request: Callable[[], T]) -> T:
        """Make a request, unless the last one failed a moment ago."""
        failure = self._failure
        if failure is not None and self.clock() < failure[0]:
            raise failure[1]
        try:
            answer = request()
        except KeyServiceUnavailable as error:
            self._failure = (self.clock() + pause.total_seconds(), error)
            raise
        self._failure = None
        return answer

    def _keep(self, wrapped: Wrapped, material: bytes | None) -> None:
        length = refusal_kept if material is None else longest_kept
        self._opened[wrapped] = (self.clock() + length.total_seconds(), material)
        self._opened.move_to_end(wrapped)
        now = self.clock()
        while self._opened and (len(self._opened) > most_kept or next(iter(self._opened.values()))[0] <= now):
            self._opened.popitem(last=False)


class HasVault(Protocol):
    """A flow, or a part of one, that seals and opens."""

    @property
    def vault(self) -> Vault: ...


Flow = TypeVar("Flow", bound=HasVault)


def fetching_keys(transaction: Callable[Concatenate[Flow, P], R]) -> Callable[Concatenate[Flow, P], R]:
    """Run a method again after a data key that it lacked was fetched, which happens outside of its transaction.

    Without an external master key it runs once. Raises `KeyServiceUnavailable`: then nothing was decided.
    """

    @wraps(transaction)
    def run(self: Flow, /, *args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(most_fetches):
            try:
                return transaction(self, *args, **kwargs)
            except KeyNotAtHand as missing:
                self.vault.fetch(missing.wanted)
        return transaction(self, *args, **kwargs)

    return run


def _batches(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + most_per_request] for start in range(0, len(items), most_per_request)]
