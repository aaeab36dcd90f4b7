"""Commands that show which encryption key seals what, and bring everything under the key that seals now."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from config.environment import SettingsError
from config.settings import Settings
from models.audit.entry import Action, Entry
from models.crypto.errors import KeyServiceUnavailable
from models.crypto.rotation import reseal as reseal_texts
from models.crypto.sealed_box import box_fields
from models.crypto.secrets import Sealed
from models.crypto.vault import Vault, VaultError, new_key, new_key_id
from models.errors import RedisUnavailable
from models.store import Store
from models.store.sealed_fields import Field, fields, name_key
from worker.calls.kept_answers import KeptAnswers
from worker.cli.context import load_settings, opened_store
from worker.cli.output import (
    AsJson,
    CommandFailed,
    WrongUsage,
    make_table,
    print_json,
    print_line,
    print_log,
    print_rich,
    report_errors,
    screen,
)
from worker.startup import describe_wrong_keys, find_wrong_keys, opened_parking
from worker.tokens.spool import Parking, places
from worker.tokens.spool_backends import ParkingUnavailable

most_passes = 3
look = TextColumn("{task.description:<24}"), BarColumn(30), MofNCompleteColumn()
parked_name, kept_name = "parking.pair", "call.kept_answer"
codes = frozenset(f"{table}.{field}" for table, field in box_fields)
"""What the web process seals, always to a key of the ring."""


@report_errors
def status(as_json: AsJson = False) -> None:
    """Show how many secrets each key seals, and which keys are configured."""
    settings = load_settings("keys")
    known = [key.id for key in settings.encryption_keys]
    sealing = name_sealing_key(settings)
    with opened_store(settings) as store, opened_parking(settings) as parking:
        with store.reading() as tx:
            counts = tx.seals.count_by_key()
        outside, uncounted = count_outside(parking, KeptAnswers(parking.vault, parking.redis))
        wrong = find_wrong_keys(store, settings, parking)
    counts |= outside
    used = {each for by_key in counts.values() for each in by_key}
    unknown = sorted(each for each in used - set(known) if not opens(settings, each))
    idle = [each for each in known[1:] if each not in used and not uncounted]
    if as_json:
        report = {"sealing": sealing, "opening": known, "unknown": unknown, "idle": idle, "sealed": counts}
        print_json(report | {"wrong": sorted(wrong), "uncounted": uncounted})
    else:
        rows = [(name, each, count) for name, by_key in counts.items() for each, count in by_key.items()]
        print_rich(make_table(("sealed", "key", "secrets"), rows))
        print_line(f"{sealing} seals new secrets, and {known[0]} codes. {_join_openers(known, wrong)} can open them.")
        if needs_rotation(counts, sealing, known[0]):
            print_line("Run breezesync keys rotate to bring everything under the key that seals now.")
        for why in uncounted:
            print_line(f"Not counted: {why}. So no key is reported as unused.")
        if idle:
            print_line(
                f"Unused: {', '.join(idle)}. Remove it from ENCRYPTION_KEYS once no running process seals with it."
            )
            print_line("Tokens in the spool of another machine are counted only on that machine.")
    failures = [describe_wrong_keys(wrong)] if wrong else []
    if unknown:
        missing = ", ".join(unknown)
        failures.append(
            f"Some secrets are sealed with keys that are not configured: {missing}. "
            "Add them to ENCRYPTION_KEYS, after the first key; one named vault:… needs VAULT_ADDR and VAULT_TOKEN."
        )
    if failures:
        raise CommandFailed("\n".join(failures))


def _join_openers(known: Sequence[str], wrong: Collection[str]) -> str:
    return ", ".join(each for each in known if each not in wrong) or "No key"


@report_errors
def new(
    id: Annotated[str | None, typer.Option(help="The key's id, which no key had before.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a new encryption key; nothing is stored or changed."""
    try:
        key = new_key(id or new_key_id())
    except ValueError as error:
        raise WrongUsage(f"--id: {error}.") from None
    if key.id in _configured():
        raise CommandFailed(f"ENCRYPTION_KEYS has a key {key.id} already. Each key needs an id of its own.")
    line = key.line().reveal()
    if as_json:
        print_json({"id": key.id, "key": line})
        return
    print_line(line)
    print_log(
        "Put it first in ENCRYPTION_KEYS, with a comma before the others, for every process that has the keys; "
        "then run breezesync keys rotate. Keep a copy apart from the database."
    )


def _configured() -> set[str]:
    """Return the ids of the keys in the settings; none if those can't be read."""
    try:
        return {key.id for key in load_settings().encryption_keys}
    except SettingsError:
        return set()


@report_errors
def sealing_key(as_json: AsJson = False) -> None:
    """Print what the web process needs as SEALING_KEY: the public half of the first key, which opens nothing."""
    line = load_settings("keys").encryption_keys[0].sealing_key.line()
    if as_json:
        print_json({"sealing_key": line})
    else:
        print_line(line)


@report_errors
def rotate(
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Secrets per transaction.")] = 50, as_json: AsJson = False
) -> None:
    """Bring everything under the key that seals now, while all processes run; it may be interrupted and repeated."""
    settings = load_settings("keys")
    resealed, failures = 0, dict[str, str]()
    try:
        with opened_store(settings) as store, opened_parking(settings) as parking:
            vault = parking.vault
            vault.fetch()
            with Progress(*look, console=screen(), disable=as_json) as bars:
                for count, unopened in reseal_all(store, vault, batch, bars):
                    resealed += count
                    failures |= unopened
            for count, unopened in (
                reseal_parked(parking, vault),
                reseal_kept(KeptAnswers(vault, parking.redis), vault),
            ):
                resealed, failures = resealed + count, failures | unopened
            own = vault.current_id
            with store.writing() as tx:
                detail = {"key": own, "resealed": resealed, "unopened": len(failures)}
                tx.audit.add(Entry(action=Action.key_rotated, detail=detail), tx.overview.time())
    except KeyServiceUnavailable as error:
        raise CommandFailed(f"{error}. {resealed} secrets were resealed; run this again to go on.") from None
    if as_json:
        print_json({"key": own, "resealed": resealed, "unopened": failures})
    else:
        print_line(f"{resealed} secrets resealed. {own} seals {'everything' if not failures else 'everything else'}.")
    if failures:
        lines = [f"  {place}: {why}" for place, why in failures.items()]
        raise CommandFailed(
            "\n".join([f"{len(failures)} could not be opened or reached and were not changed:", *lines])
        )


def reseal_all(store: Store, vault: Vault, batch: int, bars: Progress) -> Iterator[tuple[int, dict[str, str]]]:
    """Reseal every field, again for what other processes wrote meanwhile; yield what `reseal` does."""
    unopened = set[str]()
    for _ in range(most_passes):
        left = count_left(store, vault)
        if sum(left.values()) <= len(unopened):
            return
        for field in fields:
            if not left[field.name]:
                continue
            task = bars.add_task(field.name, total=left[field.name])
            for count, failures in reseal(store, vault, field, batch):
                unopened |= failures.keys()
                bars.advance(task, count)
                yield count, failures


def name_sealing_key(settings: Settings) -> str:
    """Name the master key of new secrets; an external one without its version, which only its server knows."""
    transit = settings.transit
    return settings.encryption_keys[0].id if transit is None or transit.key is None else f"vault:{transit.key}"


def needs_rotation(counts: Mapping[str, Mapping[str, int]], sealing: str, sealing_codes: str) -> bool:
    """Return whether another key still seals something than the one that seals it now, or several versions of it do."""
    tokens = {key for name, by_key in counts.items() if name not in codes for key in by_key}
    others = {key for key in tokens if key != sealing and not key.startswith(f"{sealing}:")}
    stale_codes = {key for name in codes for key in counts.get(name, ())} - {sealing_codes}
    return bool(others or stale_codes or len(tokens) > 1)


def opens(settings: Settings, key: str) -> bool:
    """Return whether this is a key of the transit engine that is configured."""
    return settings.transit is not None and key.startswith("vault:")


def count_left(store: Store, vault: Vault) -> dict[str, int]:
    """Count the texts of each field that another key seals than the one that seals now."""
    with store.reading() as tx:
        return {field.name: tx.seals.count_others(field, vault.current_prefixes) for field in fields}


def count_outside(parking: Parking, answers: KeptAnswers) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Count what each key seals that waits for the database, in Redis and on this machine: parked pairs, and answers
    of calls. List why a place did not answer, too."""
    pairs, kept, uncounted = Counter[str](), Counter[str](), list[str]()
    for place in places:
        try:
            pairs.update(name_key(found.sealed) for found in parking.seals(place))
        except ParkingUnavailable as error:
            uncounted.append(str(error))
    try:
        kept.update(name_key(found.sealed) for found in answers.seals())
    except RedisUnavailable as error:
        uncounted.append(str(error))
    counts = {parked_name: dict(pairs), kept_name: dict(kept)}
    return {name: by_key for name, by_key in counts.items() if by_key}, uncounted


def reseal_parked(parking: Parking, vault: Vault) -> tuple[int, dict[str, str]]:
    """Reseal parked pairs; return how many were, and which were not, with the reason."""
    resealed, failures = 0, dict[str, str]()
    for place in places:
        try:
            found = [each for each in parking.seals(place) if not is_current(vault, each.sealed)]
        except ParkingUnavailable as error:
            failures[f"{parked_name} in {place}"] = str(error)
            continue
        for each in found:
            try:
                resealed += parking.reseal(each)
            except (VaultError, ParkingUnavailable) as error:
                failures[f"{parked_name} of {each.ticket.name} in {place}"] = str(error)
    return resealed, failures


def reseal_kept(answers: KeptAnswers, vault: Vault) -> tuple[int, dict[str, str]]:
    """Reseal the answers of calls that Redis keeps; return how many were, and which were not, with the reason."""
    resealed, failures = 0, dict[str, str]()
    try:
        found = [each for each in answers.seals() if not is_current(vault, each.sealed)]
    except RedisUnavailable as error:
        return 0, {kept_name: str(error)}
    for each in found:
        try:
            resealed += answers.reseal(each)
        except (VaultError, RedisUnavailable) as error:
            failures[f"{kept_name} of {each.call_id}"] = str(error)
    return resealed, failures


def reseal(store: Store, vault: Vault, field: Field, batch: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Reseal one field by primary key, in small transactions; yield each one's count, and what could not be opened.

    A value that another process wrote between our read and our write is left alone: it is newer, and the next pass
    sees which key sealed it. Raises `KeyServiceUnavailable`, between two transactions.
    """
    after: tuple[str, ...] | None = None
    while True:
        with store.reading() as tx:
            found = tx.seals.others(field, vault.current_prefixes, after, batch)
        if not found:
            return
        results = reseal_texts(vault, [(one.sealed, field.place(one)) for one in found])
        changes = {one: each for one, each in zip(found, results, strict=True) if isinstance(each, Sealed)}
        unopened = {
            f"{field.name} of {field.place(one).row}": str(each)
            for one, each in zip(found, results, strict=True)
            if not isinstance(each, Sealed)
        }
        with store.writing() as tx:
            count = tx.seals.replace(field, changes)
        yield count, unopened
        after = found[-1].key


def is_current(vault: Vault, sealed: Sealed) -> bool:
    return sealed.text.startswith(vault.current_prefixes)
