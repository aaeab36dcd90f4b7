"""Judge what surrounds breezesync: disks, a Redis that refuses, the way of a browser, and its other processes."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from models.api_response import is_html
from models.health.clocks import judge_process_clock
from models.health.finding import Finding
from models.http import HttpAnswer, NoAnswer
from models.process import Process

network_disks = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"),
        *("fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    }
)
least_free = 1 << 30
"""Bytes of a disk below which an operator should act."""
too_little_free = 50 << 20
shortest_stream = 10_000
needed_roles = ("worker", "scheduler")
start_of = {"worker": "dramatiq worker.main:boot", "scheduler": "python -m scheduler"}


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk under a file or directory: the type of its file system, and its free bytes."""

    path: str
    kind: str
    free: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A Redis that can't be used: the class of redis-py's error, and the server's or the system's words."""

    kind: str
    words: str


def judge_interval(variable: str, text: str | None) -> Iterator[Finding]:
    """Warn of a length of time that was written without a unit."""
    text = (text or "").strip()
    if re.fullmatch(r"[0-9.]+", text):
        said = f"{variable}={text} has no unit, and means {text} seconds"
        yield Finding("settings", "warn", said, f"Write {variable}={text}m for minutes, or {text}s if that is meant.")


def judge_trusted_proxies(networks: Collection[str]) -> Iterator[Finding]:
    """Warn if every address is a proxy whose word is taken."""
    everyone = sorted(network for network in networks if network.endswith("/0"))
    if everyone:
        said = f"TRUSTED_PROXIES has {', '.join(everyone)}: whoever asks can say which address it comes from"
        yield Finding("settings", "warn", said, "Name the networks of your proxies only.")


def judge_stream_length(variable: str, length: int) -> Iterator[Finding]:
    """Warn of a stream that is so short that a consumer which restarts may miss entries."""
    if length < shortest_stream:
        said = f"{variable}={length}: an event leaves the stream after so many newer ones, whether it was read or not"
        yield Finding("settings", "warn", said, f"Leave {variable} out for a million, or set it to a day's events.")


def judge_disk(check: str, disk: Disk) -> Iterator[Finding]:
    """Judge how much is free on a disk that we write to."""
    free = f"{disk.free / (1 << 20):.0f} MB are free on the disk of {disk.path}"
    if disk.free < too_little_free:
        yield Finding(check, "failed", f"only {free}", "Free some, or move it: what can't be written is not saved.")
    elif disk.free < least_free:
        yield Finding(check, "warn", f"only {free}", "Free some before it is full.")


def judge_sqlite_disk(disk: Disk) -> Iterator[Finding]:
    """SQLite's locks and its WAL need a disk of this machine (sqlite.org/wal.html)."""
    if disk.kind in network_disks:
        said = f"{disk.path} is on a network disk ({disk.kind}), where SQLite's locks do not hold"
        yield Finding("database", "failed", said, "Move it to a disk of this machine, or use PostgreSQL.")
    yield from judge_disk("database", disk)


def judge_spool(path: str, why: str | None, disk: Disk) -> Iterator[Finding]:
    """Judge where new tokens wait while the database is away; `why` it can't be written, None if it can."""
    if why is None:
        yield Finding("spool", "ok", f"{path} can be written")
    else:
        said = f"{path} can't be written ({why}): tokens of a refresh during an outage of the database would be lost"
        yield Finding("spool", "failed", said, "Give this user the directory, or set SPOOL_DIRECTORY to another.")
    yield from judge_disk("spool", disk)


def judge_redis_refusal(url: str, refusal: Refusal) -> Finding:
    """Judge why Redis can't be used, by the code that a server's error begins with, or by what the socket did."""
    if url.startswith("rediss") and refusal.kind == "TimeoutError":
        remedy = "Write redis:// in place of rediss:// if it speaks none, or check the network."
        return Finding("redis", "failed", f"{url} does not answer in TLS: perhaps it speaks none", remedy)
    for kinds, pattern, said, remedy in _refusals:
        if re.search(kinds, refusal.kind) and re.search(pattern, refusal.words, re.IGNORECASE):
            return Finding("redis", "failed", f"{url} {said}", remedy)
    return Finding("redis", "failed", f"{url} does not answer ({refusal.kind})", "Start it, or set REDIS_URL.")


_refusals = (
    ("", r"WRONGPASS|invalid (?:username-)?password", "refuses the password", "Correct the password in REDIS_URL."),
    (
        "",
        r"NOAUTH|Authentication required|HELLO must be called",
        "asks for a password",
        "Put it into REDIS_URL: redis://:PASSWORD@HOST.",
    ),
    (
        "",
        r"NOPERM|no permissions",
        "refuses what this user may not do",
        "Give the user the rules of config/redis_users.acl.",
    ),
    (
        "",
        r"DB index|invalid DB",
        "has no database of that number",
        "Correct the number at the end of REDIS_URL, or raise `databases` in the server's configuration.",
    ),
    ("", r"MISCONF|No space left", "can't write to its disk", "Free space on its disk; its log says what failed."),
    ("", r"^OOM|used memory", "is full: maxmemory is reached", "Raise maxmemory, or trim the streams."),
    ("", r"MASTERDOWN", "is a replica without its primary", "Set REDIS_URL to the primary."),
    ("BusyLoading", "", "is loading its data", "Try again in a moment."),
    ("", r"max number of clients", "has no free connection", "Raise maxclients."),
    (
        "",
        r"WRONG_VERSION_NUMBER|record layer failure|packet length|UNEXPECTED_EOF",
        "does not speak TLS",
        "Write redis:// in place of rediss://, or use the server's TLS port.",
    ),
    (
        "",
        r"CERTIFICATE_VERIFY_FAILED|certificate",
        "has a certificate that is not trusted",
        "Name its authority: rediss://…?ssl_ca_certs=FILE.",
    ),
    (
        "ConnectionError",
        r"closed by server|reset by peer|Connection lost|Broken pipe",
        "closes each connection: perhaps it expects TLS",
        "Write rediss:// in place of redis:// if it does.",
    ),
    (
        "InvalidResponse",
        r"x15",  # the first byte of a TLS alert
        "expects TLS",
        "Write rediss:// in place of redis://.",
    ),
    ("InvalidResponse", "", "answers, but is no Redis", "Correct host and port in REDIS_URL."),
    (
        "ConnectionError",
        r"Name or service|getaddrinfo|resolution|Errno -[0-9]",
        "has a host name that is not known",
        "Correct the host in REDIS_URL.",
    ),
    ("Timeout", "", "does not answer in time", "Check the network and its firewalls, and the host in REDIS_URL."),
)


def judge_authorize(variable: str, url: str, answer: HttpAnswer | NoAnswer) -> Finding:
    """Judge the page that users are sent to, by its answer to a browser that is not logged in."""
    if isinstance(answer, NoAnswer):
        return _authorize(
            "warn", f"{url} does not answer ({answer.why})", f"Check {variable}; users need it, this machine does not."
        )
    match answer.status:
        case 404 | 405 | 410:
            return _authorize("failed", f"{url} answers {answer.status}: no user can connect", f"Correct {variable}.")
        case 400 | 401 | 403 if not is_html(answer) or answer.status == 401:
            client = variable.removesuffix("_AUTHORIZE_URL")
            said = f"{url} refuses this client and redirect URI (HTTP {answer.status})"
            remedy = f"Compare {client}_CLIENT_ID and {client}_REDIRECT_URI with the provider's, letter by letter."
            return _authorize("failed", said, remedy)
        case status if status >= 500:
            return _authorize("warn", f"{url} answers HTTP {status}", "Try again later.")
        case _:
            return _authorize("ok", f"{url} answers")


def _authorize(state: str, said: str, remedy: str = "") -> Finding:
    return Finding("authorize page", state, said, remedy)  # type: ignore[arg-type]


def judge_redirect(variable: str, url: str, answer: HttpAnswer | NoAnswer) -> Iterator[Finding]:
    """Judge what answers at the redirect URI. Our callback answers 400 without a code; no answer from here proves
    nothing, because the outside may reach it."""
    if isinstance(answer, NoAnswer) or answer.status in (400, 403, 429):
        return
    path = urlsplit(url).path
    said = f"{url} is answered with HTTP {answer.status}, not by our web process"
    remedy = f"Have the proxy pass {path} on to the web process, or correct {variable} here and at the provider."
    yield Finding("redirect URI", "failed", said, remedy)


def judge_processes(alive: Sequence[Process], strangers: Collection[str], version: str) -> Iterator[Finding]:
    """Judge which processes reported lately. `strangers` report to our Redis, and not to our database."""
    if strangers:
        said = f"{', '.join(sorted(strangers))} uses this Redis with another database: two fleets share it"
        remedy = "Give each fleet a Redis, or a database number, of its own: set REDIS_URL."
        yield Finding("redis", "failed", said, remedy)
    if not alive:
        remedy = "Start them: breezesync run, or the processes of docs/fleet.md."
        yield Finding("processes", "warn", "no process of this fleet runs", remedy)
        return
    counts = {role: sum(each.role == role for each in alive) for role in sorted({each.role for each in alive})}
    missing = [role for role in needed_roles if role not in counts]
    shown = ", ".join(f"{count} {role}" for role, count in counts.items())
    for role in missing:
        yield Finding("processes", "failed", f"no {role} runs (only {shown})", f"Start one: {start_of[role]}")
    if not missing:
        yield Finding("processes", "ok", f"{shown} reported within two minutes")
    others = sorted({each.version for each in alive} - {version})
    if others:
        names = ", ".join(each.name for each in alive if each.version in others)
        said = f"{names} runs version {', '.join(others)}, and this is {version}"
        yield Finding("processes", "warn", said, "Finish the rollout: restart what runs the older version.")
    for each in alive:
        if each.ahead_seconds:
            yield judge_process_clock(each.name, each.ahead_seconds)


def find_kind(path: str, mounts: str) -> str:
    """Return the type of the file system that a path is on, by the lines of /proc/self/mounts; "" if unknown."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        place = fields[1].replace("\\040", " ")
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, fields[2]
    return kind
