"""Judge Redis: its version, role, persistence and eviction, and the types of our keys."""

import re
from collections.abc import Iterator, Mapping

from models.health.finding import Finding

oldest_redis = (6, 2)


def judge_redis(url: str, info: Mapping[str, object], snapshots: str | None) -> Iterator[Finding]:
    """Judge version, role, persistence and eviction by INFO, and by the setting `save` if it is readable."""
    version = str(info.get("redis_version", ""))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < oldest_redis:
        yield Finding("redis", "failed", f"{url} is {name}", "Use Redis 6.2 or newer, or any Valkey.")
    elif info.get("role", "master") != "master":
        remedy = "Set REDIS_URL to the primary."
        yield Finding("redis", "failed", f"{url} is a read-only replica", remedy)
    else:
        yield Finding("redis", "ok", f"{url} is {name}")
    if info.get("aof_enabled") in (1, "1"):
        yield Finding("redis persistence", "ok", "appendonly yes")
    else:
        kept = "snapshots only" if snapshots else "nothing survives a restart"
        remedy = "Set appendonly yes. Without it, lost messages are sent again from the database, with a delay."
        yield Finding("redis persistence", "warn", kept, remedy)
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield Finding("redis memory", "ok", "maxmemory-policy noeviction")
    else:
        remedy = "Set maxmemory-policy noeviction, so that Redis never drops messages or events."
        yield Finding("redis memory", "warn", f"maxmemory-policy {policy}", remedy)


def judge_keys(url: str, expected: Mapping[str, str], found: Mapping[str, str | None]) -> Iterator[Finding]:
    """Judge whether each of our keys has its type; `found` is "none" if there is no such key, None if unknown."""
    wrong = {key: kind for key, kind in found.items() if kind not in (None, "none", expected[key])}
    for key, kind in wrong.items():
        remedy = f"Something else uses this key. Rename it (RENAME {key} …), or set another stream name or database."
        yield Finding("redis", "failed", f"{key} in {url} is a {kind}, not a {expected[key]}", remedy)
