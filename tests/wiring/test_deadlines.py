"""The deadlines of requests: one thread acts on each that was not ended in time, in every process for itself."""

import os
import threading
from datetime import timedelta
from time import monotonic

import pytest

import worker.deadlines
from worker.deadlines import Deadlines, few, shield


def watchers() -> int:
    return [thread.name for thread in threading.enumerate()].count("deadlines")


def test_what_takes_too_long_is_acted_on_in_the_order_of_the_deadlines() -> None:
    deadlines, acted, ended = Deadlines(), list[str](), threading.Event()
    before = watchers()
    deadlines.watch.add(0.3, ended.set)
    deadlines.watch.add(0.1, lambda: acted.append("first"))
    deadlines.watch.add(0.2, lambda: acted.append("second"))
    assert ended.wait(10)
    assert acted == ["first", "second"]
    assert watchers() == before + 1


def test_an_earlier_deadline_is_not_kept_waiting_by_a_later_one() -> None:
    deadlines, acted = Deadlines(), threading.Event()
    with deadlines.within(60, lambda: None):
        begun = monotonic()
        with deadlines.within(0.05, acted.set):
            assert acted.wait(10)
    assert monotonic() - begun < 5


def test_what_ended_in_time_is_not_acted_on() -> None:
    deadlines, acted, later = Deadlines(), threading.Event(), threading.Event()
    with deadlines.within(0.05, acted.set):
        pass
    deadlines.watch.add(0.15, later.set)
    assert later.wait(10)
    assert not acted.is_set()


def test_what_was_acted_on_can_still_be_ended() -> None:
    deadlines, acted = Deadlines(), threading.Event()
    with deadlines.within(0.01, acted.set):
        assert acted.wait(10)
    assert len(deadlines.watch) == 0


def test_what_can_not_begin_does_not_keep_others_from_being_acted_on() -> None:
    def fail() -> None:
        raise RuntimeError("can't start new thread")

    deadlines, acted, before = Deadlines(), threading.Event(), watchers()
    deadlines.watch.add(0.01, fail)
    deadlines.watch.add(0.05, acted.set)
    assert acted.wait(10)
    assert watchers() == before + 1


@pytest.fixture
def kept() -> list[str]:
    return []


def test_what_is_saved_in_time_is_not_kept(kept: list[str]) -> None:
    with shield(lambda: kept.append("it"), BaseException) as beside:
        pass
    assert (kept, beside.ident) == ([], None)


@pytest.mark.parametrize(("failures", "expected"), [(OSError, ["it"]), (Exception, ["it"]), (ValueError, [])])
def test_what_can_not_be_saved_is_kept_if_it_failed_so(
    kept: list[str], failures: type[Exception], expected: list[str]
) -> None:
    with pytest.raises(ConnectionError), shield(lambda: kept.append("it"), failures):
        raise ConnectionError
    assert kept == expected


def test_what_takes_long_to_save_is_kept_beside_it_on_a_thread_that_can_be_waited_for(
    kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.deadlines, "longest_save", timedelta(milliseconds=10))
    begun, saved = threading.Event(), threading.Event()

    def keep() -> None:
        begun.set()
        assert saved.wait(10)
        kept.append("it")

    with shield(keep, BaseException) as beside:
        assert begun.wait(10)
    saved.set()
    beside.join(10)
    assert kept == ["it"]


def test_thousands_of_deadlines_that_ended_are_thrown_away() -> None:
    deadlines = Deadlines()
    for _ in range(5000):
        with deadlines.within(30, lambda: None):
            pass
    assert len(deadlines.watch) <= 2 * few + 2


def test_threads_at_once_share_one_watcher() -> None:
    deadlines, before = Deadlines(), watchers()
    acted = [threading.Event() for _ in range(16)]
    threads = [threading.Thread(target=lambda event=event: deadlines.watch.add(0.1, event.set)) for event in acted]
    for thread in threads:
        thread.start()
    assert all(event.wait(10) for event in acted)
    assert watchers() == before + 1
    for thread in threads:
        thread.join()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_watcher_of_its_own() -> None:
    deadlines = Deadlines()
    busy = threading.Event()
    with deadlines.within(60, busy.set):
        child = os.fork()
        if child == 0:
            acted = threading.Event()
            with deadlines.within(0.05, acted.set):
                os._exit(0 if acted.wait(10) and not busy.is_set() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
