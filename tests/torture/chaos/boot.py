"""What `dramatiq tests.torture.chaos.boot:boot` calls: the shipped worker, watched, with short times."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import dramatiq

import worker.deadlines
from config.logs import configure_logging
from config.settings import read_settings
from config.wiring import open_services
from models.oauth.refresh_policy import Patience
from tests.torture.chaos.points import Points
from tests.torture.chaos.verdict import lease_seconds
from worker.actors import declare_actors
from worker.oauth.recover_tokens import RecoveryThread
from worker.processes.parts import build_flows, build_parts
from worker.processes.worker import BindIds
from worker.queue.broker import Broker
from worker.tokens.spool import Parking

patience = Patience(deadline=timedelta(seconds=1), lease=timedelta(seconds=lease_seconds), settle=timedelta(seconds=4))
recovery_interval = timedelta(milliseconds=500)
longest_save = timedelta(seconds=0.5)
heartbeat_ms = 2_500
reclaim_seconds = 1.0


class Watch:
    """Where one flow stands on each thread, as the points are named."""

    def __init__(self, flow: str, points: Points) -> None:
        self.flow = flow
        self.points = points
        self.own = threading.local()

    def begin(self, subject: str) -> None:
        self.own.subject, self.own.call, self.own.stage = subject, uuid4().hex, "take"

    def at(self, moment: str, **facts: object) -> None:
        self.reach(f"{self.flow}.{self.own.stage}.{moment}", **facts)

    def reach(self, point: str, **facts: object) -> None:
        self.points.reach(point, subject=self.own.subject, call=self.own.call, **facts)

    def go_off_later(self, point: str, seconds: float) -> None:
        """Lets what is armed at this point go off on another thread, while this one waits for an answer."""
        order = self.points.take(point)
        if order is not None:
            timer = threading.Timer(seconds, self.points.carry_out, (order,))
            timer.daemon = True
            timer.start()


class Watched:
    """Anything with some of its methods watched; the rest is as it was."""

    def __init__(self, inner: Any, watch: Watch) -> None:
        self.inner = inner
        self.watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class WatchedStore(Watched):
    @contextmanager
    def writing(self) -> Iterator[Any]:
        self.watch.at("begin")
        with self.inner.writing() as tx:
            yield tx
            self.watch.at("uncommitted")
        self.watch.at("committed")


class WatchedProvider(Watched):
    def refresh(self, *arguments: Any) -> Any:
        return self._request(self.inner.refresh, "save", *arguments)

    def exchange_code(self, *arguments: Any) -> Any:
        return self._request(self.inner.exchange_code, "keep", *arguments)

    def read_account(self, *arguments: Any) -> Any:
        called = self.inner.read_account(*arguments)
        self.watch.own.stage = "resolve" if self.watch.flow == "refresh" else "connect"
        self.watch.at("answered", outcome=type(called.outcome).__name__)
        return called

    def _request(self, send: Callable[..., Any], stage: str, *arguments: Any) -> Any:
        self.watch.reach(f"{self.watch.flow}.request")
        self.watch.go_off_later(f"{self.watch.flow}.sent", 0.2)
        called = send(*arguments)
        self.watch.own.stage = stage
        self.watch.at("answered", outcome=type(called.outcome).__name__)
        return called


class WatchedParking(Watched):
    """A pair may be parked on a thread beside the one that saves it: that thread stands where the other one does."""

    stands: Mapping[str, Any] = MappingProxyType({})

    def shielding(self, *arguments: Any) -> Any:
        beside = WatchedParking(self.inner, self.watch)
        beside.stands = dict(vars(self.watch.own))
        return Parking.shielding(beside, *arguments)  # type: ignore[arg-type]

    def park(self, ticket: Any, pair: Any) -> bool:
        vars(self.watch.own).update(self.stands)
        self.watch.at("parking", ticket=ticket.name)
        kept: bool = self.inner.park(ticket, pair)
        self.watch.at("parked", ticket=ticket.name, kept=kept)
        return kept


def watch_flow(flow: Any, name: str, points: Points, **changes: object) -> Callable[[str], None]:
    """The flow with its dependencies watched, as a function of the one id that it takes."""
    watch = Watch(name, points)

    def send(message: Any) -> None:
        watch.at("telling")
        flow.send(message)

    fields: dict[str, Any] = {
        "store": WatchedStore(flow.store, watch),
        "providers": {key: WatchedProvider(provider, watch) for key, provider in flow.providers.items()},
        "send": send,
        **changes,
    }
    if hasattr(flow, "parking"):
        fields["parking"] = WatchedParking(flow.parking, watch)
    watched = replace(flow, **fields)

    @wraps(type(flow).__call__)
    def call(subject: str, *more: Any, **options: Any) -> None:
        watch.begin(subject)
        watched(subject, *more, **options)
        watch.points.note(f"{name}.returned", subject=subject, call=watch.own.call)

    return call


def boot() -> None:
    configure_logging()
    settings = read_settings()
    services = open_services(settings, "worker", [BindIds()], partial(Broker, reclaim_every=reclaim_seconds))
    broker = services.broker
    broker.heartbeat_timeout = heartbeat_ms
    dramatiq.set_broker(broker)
    parts = build_parts(settings, services)
    flows = build_flows(parts)
    points = Points(Path(os.environ["CHAOS_DIRECTORY"]))
    worker.deadlines.longest_save = longest_save
    for provider in flows.refresh.providers.values():
        provider.usual_patience = patience
    flows = replace(
        flows,
        exchange=watch_flow(flows.exchange, "exchange", points, lease=patience.lease),  # type: ignore[arg-type]
        refresh=watch_flow(flows.refresh, "refresh", points),  # type: ignore[arg-type]
        disconnect=watch_flow(flows.disconnect, "disconnect", points),  # type: ignore[arg-type]
    )
    broker.add_middleware(RecoveryThread(flows.recover_tokens, recovery_interval))
    broker.add_middleware(parts.publisher)
    declare_actors(broker, flows)
