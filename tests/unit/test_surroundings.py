"""What doctor concludes of disks, refusals of Redis, a browser's way, and the processes that report."""

from datetime import UTC, datetime

import pytest

from models.health.surroundings import (
    Disk,
    Refusal,
    find_kind,
    judge_authorize,
    judge_interval,
    judge_processes,
    judge_redirect,
    judge_redis_refusal,
    judge_spool,
    judge_sqlite_disk,
)
from models.http import HttpAnswer, NoAnswer
from models.process import Process

url = "redis://:***@r:6379/0"
page = "https://provider.example/authorize"
MB = 1 << 20


@pytest.mark.parametrize(
    ("refusal", "said"),
    {
        "an append-only file on a full disk": (
            Refusal("ResponseError", "MISCONF Errors writing to the AOF file"),
            "can't write to its disk",
        ),
        "a replica that lost its primary": (
            Refusal("MasterDownError", "MASTERDOWN Link with MASTER is down"),
            "is a replica without its primary",
        ),
        "a start with much data": (
            Refusal("BusyLoadingError", "Redis is loading the dataset in memory"),
            "is loading its data",
        ),
        "no room for another client": (
            Refusal("ConnectionError", "max number of clients reached"),
            "has no free connection",
        ),
        "a certificate of one's own": (
            Refusal("ConnectionError", "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"),
            "has a certificate that is not trusted",
        ),
        "plain text to OpenSSL": (Refusal("InvalidResponse", "Protocol Error: b'\\x15\\x03\\x01'"), "expects TLS"),
        "an ACL user without rights": (
            Refusal("NoPermissionError", "NOPERM this user has no permissions to run"),
            "refuses what this user may not do",
        ),
        "a firewall that drops": (Refusal("TimeoutError", "Timeout connecting to server"), "does not answer in time"),
        "nothing that is known": (
            Refusal("ConnectionError", "Connection refused"),
            "does not answer (ConnectionError)",
        ),
    }.values(),
    ids=str,
)
def test_each_refusal_has_its_words(refusal: Refusal, said: str) -> None:
    finding = judge_redis_refusal(url, refusal)
    assert (finding.check, finding.state, finding.said) == ("redis", "failed", f"{url} {said}")
    assert finding.remedy


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/data/app/breezesync.db", "nfs4"), ("/database", "ext4"), ("/with space/db", "cifs"), ("/", "ext4")],
)
def test_a_path_is_on_the_innermost_mount(path: str, kind: str) -> None:
    mounts = "/dev/vda / ext4 rw 0 0\nnas:/x /data nfs4 rw 0 0\n//nas/y /with\\040space cifs rw 0 0\nbroken\n"
    assert find_kind(path, mounts) == kind
    assert find_kind(path, "") == ""


@pytest.mark.parametrize(
    ("disk", "states"),
    {
        "a healthy disk": (Disk("db", "ext4", 5000 * MB), []),
        "little space": (Disk("db", "ext4", 500 * MB), ["warn"]),
        "no space": (Disk("db", "ext4", 3 * MB), ["failed"]),
        "a network disk without space": (Disk("db", "nfs", 3 * MB), ["failed", "failed"]),
    }.values(),
    ids=str,
)
def test_a_disk_is_judged_by_kind_and_space(disk: Disk, states: list[str]) -> None:
    assert [finding.state for finding in judge_sqlite_disk(disk)] == states


def test_a_spool_that_can_be_written_is_well() -> None:
    disk = Disk("spool", "ext4", 5000 * MB)
    assert [finding.state for finding in judge_spool("spool", None, disk)] == ["ok"]
    assert [finding.state for finding in judge_spool("spool", "Read-only file system", disk)] == ["failed"]


@pytest.mark.parametrize(
    ("answer", "state"),
    {
        "a login page": (HttpAnswer(200, {}, b"<html>"), "ok"),
        "a redirect to the login": (HttpAnswer(302, {}, b""), "ok"),
        "nothing there": (HttpAnswer(404, {}, b""), "failed"),
        "a client that is not known": (HttpAnswer(401, {}, b'{"error": "invalid_client"}'), "failed"),
        "a parameter that is wrong": (HttpAnswer(400, {}, b'{"error": "invalid_request"}'), "failed"),
        "a firewall's page": (HttpAnswer(403, {"content-type": "text/html"}, b"<html>"), "ok"),
        "an outage": (HttpAnswer(502, {}, b""), "warn"),
        "silence, which proves little: it is for browsers": (NoAnswer(sent=False, why="ConnectTimeout"), "warn"),
    }.values(),
    ids=str,
)
def test_the_authorize_page_is_judged_by_its_status(answer: HttpAnswer | NoAnswer, state: str) -> None:
    assert judge_authorize("ACME_AUTHORIZE_URL", page, answer).state == state


@pytest.mark.parametrize(("status", "count"), [(400, 0), (403, 0), (429, 0), (404, 1), (200, 1), (502, 1), (301, 1)])
def test_what_answers_at_the_redirect_uri_has_to_be_our_callback(status: int, count: int) -> None:
    found = list(
        judge_redirect("ACME_REDIRECT_URI", "https://app.example/auth/acme/callback", HttpAnswer(status, {}, b""))
    )
    assert len(found) == count


def test_a_web_process_that_is_not_reached_from_here_proves_nothing() -> None:
    assert not list(judge_redirect("X", "https://app.example/auth/x/callback", NoAnswer(sent=False, why="refused")))


@pytest.mark.parametrize(("text", "count"), [("15", 1), ("0.5", 1), ("15m", 0), ("", 0), (None, 0), (" 15 ", 1)])
def test_a_length_without_a_unit_is_remarked_upon(text: str | None, count: int) -> None:
    assert len(list(judge_interval("SYNC_INTERVAL", text))) == count


def process(role: str, version: str = "1.0", ahead: float = 0.0) -> Process:
    return Process(f"{role} host:1", role, version, datetime(2026, 11, 28, tzinfo=UTC), ahead)


@pytest.mark.parametrize(
    ("alive", "strangers", "states"),
    {
        "nothing was started": ([], (), ["warn"]),
        "all that is needed": ([process("worker"), process("scheduler")], (), ["ok"]),
        "web alone": ([process("web")], (), ["failed", "failed"]),
        "a rollout under way": ([process("worker", "0.9"), process("scheduler")], (), ["ok", "warn"]),
        "a clock a minute behind": ([process("worker", ahead=-60), process("scheduler")], (), ["ok", "failed"]),
        "a second fleet": ([process("worker"), process("scheduler")], {"worker other:7"}, ["failed", "ok"]),
    }.values(),
    ids=str,
)
def test_processes_are_judged_by_who_reports(alive: list[Process], strangers: set[str], states: list[str]) -> None:
    assert [finding.state for finding in judge_processes(alive, strangers, "1.0")] == states
