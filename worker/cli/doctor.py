"""`breezesync doctor`: check every part that breezesync needs."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.markup import escape

from config.environment import SettingsError, gather_variables
from config.process_reports import names_key
from config.redis_url import show_redis_url
from config.settings import Settings
from config.wiring import Services, now, open_services
from models.health.finding import Finding, State
from models.health.keys import KeyUse
from models.health.settings import judge_confirmation, judge_loopback_names
from models.health.surroundings import (
    judge_interval,
    judge_spool,
    judge_sqlite_disk,
    judge_stream_length,
    judge_trusted_proxies,
)
from models.queue import expected_types
from worker.cli.context import load_settings, name_operator, show_url
from worker.cli.health_checks import Checkup
from worker.cli.output import AsJson, CommandFailed, print_json, report_errors, screen
from worker.cli.probes import look_at_disk, open_quick_redis, sqlite_file, try_to_write
from worker.startup import count_uses, find_wrong_keys, known_prefixes, open_vault, opened_parking
from worker.tokens.spool import parked_key

_colours: dict[State, str] = {"ok": "green", "warn": "yellow", "failed": "bold red"}


@report_errors
def doctor(as_json: AsJson = False) -> None:
    """Check settings, keys, database, Redis, clocks and providers, and name each remedy. Uses up no token."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            show_finding(finding)
    if as_json:
        print_json({"checks": findings})
    failures = sum(finding.state == "failed" for finding in findings)
    if failures:
        raise CommandFailed(f"{failures} of {len(findings)} checks failed.")


def examine(env_file: Path = Path(".env")) -> Iterator[Finding]:
    """Yield the findings, settings first; without readable settings nothing else can be checked."""
    was_open = env_file.exists() and bool(env_file.stat().st_mode & 0o077)  # whoever reads it closes it
    try:
        settings = load_settings("keys", "clients", "links")
        yield Finding("settings", "ok", _describe_settings(settings))
    except SettingsError as error:
        for problem in error.problems:
            yield Finding("settings", "failed", problem, _choose_remedy(problem, env_file))
        try:
            settings = load_settings()
        except SettingsError:
            return
    yield from _judge_settings(settings, env_file)
    yield from _judge_disks(settings)
    if was_open:
        remedy = f"chmod 600 {env_file}"
        yield Finding(
            "settings", "warn", f"{env_file} has secrets in it, and other users of this machine could read it", remedy
        )
    services = open_services(settings, name_operator())
    vault = open_vault(settings) if settings.encryption_keys else None
    quick = open_quick_redis(settings.redis_url)
    try:
        yield from Checkup(
            store=services.store,
            database=show_url(settings.database_url),
            client=quick,
            queue=show_redis_url(settings.redis_url),
            vault=vault,
            count_uses=partial(_count_uses, settings, services),
            find_wrong_keys=partial(_find_wrong_keys, settings, services),
            without_keys=settings.without_keys,
            providers=settings.providers,
            clients=settings.clients,
            now=now,
            redis_keys=_name_keys(settings),
            proxies=settings.proxies,
        )()
    finally:
        if vault is not None:
            vault.close()
        quick.close()
        services.close()


def _choose_remedy(problem: str, env_file: Path) -> str:
    """Return where to set or correct it; a client that is missing is what the sandbox is for."""
    place = problem.partition(": ")[0]
    if place.endswith(".toml"):
        return f"Correct the profile: breezesync profile check {place}"
    remedy = f"Set it in the environment or in {env_file}."
    if "_CLIENT_ID: missing" in problem:
        return f"{remedy} Without a client, make run starts the sandbox."
    return remedy


def _count_uses(settings: Settings, services: Services) -> dict[str, KeyUse]:
    with opened_parking(settings) as parking:
        return count_uses(services.store, parking, known_prefixes(settings))


def _find_wrong_keys(settings: Settings, services: Services) -> dict[str, KeyUse]:
    with opened_parking(settings) as parking:
        return find_wrong_keys(services.store, settings, parking)


def _judge_disks(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the disks of this machine that are written to."""
    spool = settings.spool
    yield from judge_spool(str(spool), try_to_write(spool), look_at_disk(spool))
    if file := sqlite_file(settings):
        yield from judge_sqlite_disk(look_at_disk(file))


def _judge_settings(settings: Settings, env_file: Path) -> Iterator[Finding]:
    """Yield what is right by itself, and may not be what was meant."""
    texts = gather_variables(os.environ, env_file)
    for variable in ("SYNC_INTERVAL", "SWEEP_INTERVAL"):
        yield from judge_interval(variable, texts.get(variable))
    yield from judge_trusted_proxies([str(network) for network in settings.trusted_proxies])
    yield from judge_stream_length("EVENTS_MAXLEN", settings.events_maxlen)
    yield from judge_stream_length("RECORDS_MAXLEN", settings.records_maxlen)
    for client in settings.clients:
        variable = f"{client.provider.upper()}_REDIRECT_URI"
        if hint := judge_loopback_names(variable, client.redirect_uri, settings.return_origins):
            yield hint
    yield judge_confirmation(settings.confirmation)


def _name_keys(settings: Settings) -> dict[str, str]:
    """Return our keys in Redis with the type of each."""
    streams = (settings.events_stream, settings.records_stream, settings.commands_stream)
    rejected = f"{settings.commands_stream}:rejected"
    return {
        **dict.fromkeys((*streams, rejected), "stream"),
        parked_key: "hash",
        names_key: "hash",
        **expected_types(),
    }


def _describe_settings(settings: Settings) -> str:
    return f"complete; providers {', '.join(provider.name for provider in settings.providers)}"


def show_finding(finding: Finding) -> None:
    """Print a finding on a line, with its remedy."""
    mark = f"[{_colours[finding.state]}]{finding.state:<6}[/]"
    remedy = f" → [bold]{escape(finding.remedy)}[/]" if finding.remedy else ""
    screen().print(f"{mark}  {finding.check:<17}  {escape(finding.said)}{remedy}", soft_wrap=True)
