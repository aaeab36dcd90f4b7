"""`breezesync profile`: whether a provider's profile is right, and what it reads."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from config.environment import Found, gather_variables
from config.profiles import ProfileError, name_pattern, read_file
from config.settings import Settings, find_overrides
from config.wiring import open_hasty_redis
from models.crypto.secrets import Secret
from models.crypto.vault import Vault, VaultError
from models.oauth.connection import Connection, Status
from models.oauth.credential import place_of_token
from models.provider import Provider
from models.store import Store
from models.sync.trial import ResourceSeen
from worker.cli.context import load_settings, opened_store
from worker.cli.output import (
    AsJson,
    CommandFailed,
    NotFound,
    WrongUsage,
    print_error,
    print_json,
    print_line,
    report_errors,
)
from worker.cli.subjects import find_subject
from worker.cli.tokens import read_token
from worker.local.state import running_environment
from worker.operations.profile_check import Trial, describe_all
from worker.provider.client import ProviderClient
from worker.provider.rate_limit import Budgets
from worker.startup import open_vault
from worker.tokens.data_keys import fetching_keys


@report_errors
def check(
    file: Annotated[Path, typer.Argument(help="The profile: a file like acme.toml.")],
    connection: Annotated[
        str | None, typer.Option(help="Read one page of each resource with this connection's access token.")
    ] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="The same with an access token from standard input.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a provider's profile, and show what it reads; nothing is stored.

    Variables that override values of this profile count here as well.
    """
    if connection is not None and token_stdin:
        raise WrongUsage("Give --connection or --token-stdin, not both.")
    profile = _read(file, as_json)
    if connection is None and not token_stdin:
        seen = describe_all(profile)
    elif connection is None:
        seen = _try_token(profile, read_token("breezesync profile check FILE --token-stdin < TOKEN_FILE"))
    else:
        seen = _try_connection(profile, connection)
    _report(profile, seen, as_json)


def _read(file: Path, as_json: bool) -> Provider:
    """Return the profile. Raises `CommandFailed` if it has problems, after they were printed as JSON if asked for."""
    if not file.exists():
        raise NotFound(f"There is no file {file}.")
    if not file.is_file():
        raise WrongUsage(f"{file} is no file. Name the profile itself, like acme.toml.")
    name = file.stem
    if file.suffix != ".toml" or not re.fullmatch(name_pattern, name):
        raise WrongUsage(f"{file.name}: expected NAME.toml, NAME of up to 30 small letters, digits and underscores.")
    given = {variable: value for variable, value in os.environ.items() if value.strip()}
    found = Found(gather_variables({**os.environ, **running_environment(), **given}, Path(".env")))
    try:
        return read_file(name, file, find_overrides(name, found))
    except ProfileError as unfit:
        problems = unfit.problems
    if as_json:
        print_json({"profile": name, "problems": problems, "resources": []})
    else:
        for problem in problems:
            print_error(problem)
    raise CommandFailed(f"{file} has {len(problems)} {'problem' if len(problems) == 1 else 'problems'}.")


def _try_token(profile: Provider, token: Secret) -> list[ResourceSeen]:
    with _opened_client(profile, load_settings()) as client:
        return list(Trial(client, token)(""))


def _try_connection(profile: Provider, wanted: str) -> list[ResourceSeen]:
    settings = load_settings("keys")
    vault = open_vault(settings)
    try:
        with opened_store(settings) as store, _opened_client(profile, settings) as client:
            own, token = Opening(store, vault).open(wanted, profile)
            trial = Trial(client, token, own.team_ids)
            try:
                return list(trial(own.id, own.account_id))
            finally:
                with store.writing() as tx:
                    tx.journal.log(trial.log)
    finally:
        vault.close()


@dataclass(frozen=True, slots=True)
class Opening:
    """Opens a connection's access token."""

    store: Store
    vault: Vault

    @fetching_keys
    def open(self, wanted: str, profile: Provider) -> tuple[Connection, Secret]:
        """Return the connection and its token. Raises `CommandFailed` if that can't be used for this profile."""
        with self.store.reading() as tx:
            own = find_subject(tx, wanted)
            if not isinstance(own, Connection):
                raise NotFound(f"There is no connection {wanted}. List them with breezesync connections.")
            if own.provider != profile.name:
                # Its token must not reach the hosts of another provider.
                raise WrongUsage(
                    f"Connection {own.id} is of {own.provider}: its token goes to no host of {profile.name}."
                )
            credential = tx.credentials.get(own.id)
        if own.status is not Status.active or credential is None or credential.access_token is None:
            raise CommandFailed(f"Connection {own.id} is {own.status}: it has no access token.")
        try:
            return own, self.vault.open(credential.access_token, place_of_token(own, "access_token"))
        except VaultError as error:
            raise CommandFailed(
                f"The access token of {own.id} can't be opened: {error}. See breezesync doctor."
            ) from error


@contextmanager
def _opened_client(profile: Provider, settings: Settings) -> Iterator[ProviderClient]:
    """Open a client. Raises redis-py's errors."""
    redis = open_hasty_redis(settings.redis_url, repeats_what_timed_out=False)
    try:
        redis.ping()  # it counts the requests: without it none leaves
        client = ProviderClient(profile, lambda: datetime.now(UTC), Budgets(redis), proxies=settings.proxies)
        try:
            yield client
        finally:
            client.close()
    finally:
        redis.close()


def _report(profile: Provider, seen: Iterable[ResourceSeen], as_json: bool) -> None:
    """Print what was seen. Raises `CommandFailed` if anything of it is a problem."""
    resources = list(seen)
    if as_json:
        print_json({"profile": profile.name, "problems": [], "resources": resources})
    else:
        for each in resources:
            _show(each)
        if not resources:
            print_line(f"{profile.name} has no [[resources]]: nothing of an account is read.")
    wrong = sum(each.fault is not None for each in resources)
    if wrong:
        raise CommandFailed(f"{wrong} of {len(resources)} resources can't be read as the profile says.")


def _show(seen: ResourceSeen) -> None:
    print_line(f"{seen.resource}: {seen.url}")
    print_line(f"  paging {seen.paging}, records in {seen.items}, ids at {seen.id}")
    if seen.parents:
        print_line(f"  once for each {seen.parents}")
    if seen.since:
        print_line(f"  between full readings {seen.since}")
    if seen.requests_per_minute:
        print_line(f"  at most {seen.requests_per_minute} requests a minute for each account")
    if seen.records is not None:
        total = "" if seen.total is None else f" of {seen.total}"
        more = ", and more follow" if seen.goes_on else ""
        print_line(f"  {seen.records}{total} records on the first page{more}; ids {', '.join(seen.ids) or 'none'}")
        print_line(f"  fields {', '.join(seen.fields) or 'none'}")
    if seen.fault is not None:
        print_line(f"  fault: {seen.fault}")
