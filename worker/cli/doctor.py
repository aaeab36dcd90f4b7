"""Whether everything that breezesync needs is there and right, part by part."""

from collections.abc import Iterator
from pathlib import Path

from rich.markup import escape

from config.redis_url import show_redis_url
from config.settings import Settings, SettingsError
from config.wiring import now, open_redis, open_store
from models.health import Finding, State
from worker.cli.context import settings_for, show_url
from worker.cli.health_checks import Checkup
from worker.cli.output import AsJson, CommandFailed, plainly, say_json, screen

_colours: dict[State, str] = {"ok": "green", "warn": "yellow", "failed": "bold red"}


@plainly
def doctor(as_json: AsJson = False) -> None:
    """Check settings, keys, database, Redis, clocks and providers; spends no token, and names every remedy."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        say_json({"checks": findings})
    failures = sum(finding.state == "failed" for finding in findings)
    if failures:
        raise CommandFailed(f"{failures} of {len(findings)} checks failed.")


def examine(env_file: Path = Path(".env")) -> Iterator[Finding]:
    """Settings first; where they can't be read at all, nothing else can be looked at."""
    try:
        settings = settings_for("keys", "clients", "links")
        yield Finding("settings", "ok", _tell_settings(settings))
    except SettingsError as wrong:
        remedy = f"Set it in the environment or in {env_file}."
        yield from (Finding("settings", "failed", problem, remedy) for problem in wrong.problems)
        try:
            settings = settings_for()
        except SettingsError:
            return
    if env_file.exists() and env_file.stat().st_mode & 0o077:
        remedy = f"chmod 600 {env_file}"
        yield Finding("settings", "warn", f"{env_file} holds secrets and others on this machine may read it", remedy)
    store, client = open_store(settings), open_redis(settings.redis_url)
    try:
        yield from Checkup(
            store=store,
            database=show_url(settings.database_url),
            client=client,
            queue=show_redis_url(settings.redis_url),
            keys=settings.encryption_keys,
            providers=settings.providers,
            clients=settings.clients,
            now=now,
            proxies=settings.proxies,
        )()
    finally:
        store.close()
        client.close()


def _tell_settings(settings: Settings) -> str:
    return f"complete; providers {', '.join(provider.name for provider in settings.providers)}"


def _show(finding: Finding) -> None:
    mark = f"[{_colours[finding.state]}]{finding.state:<6}[/]"
    remedy = f" → [bold]{escape(finding.remedy)}[/]" if finding.remedy else ""
    screen().print(f"{mark}  {finding.check:<17}  {escape(finding.said)}{remedy}", soft_wrap=True)
