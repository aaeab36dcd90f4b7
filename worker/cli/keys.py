"""Commands that show which encryption key seals what, and reseal everything with the first key."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from models.audit.entry import Action, Entry
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Place, Vault, VaultError, key_id
from models.store import Store
from models.store.sealed_fields import Field, Found, fields
from worker.cli.context import load_settings, opened_parking, opened_store
from worker.cli.output import (
    AsJson,
    CommandFailed,
    make_table,
    print_json,
    print_line,
    print_rich,
    report_errors,
    screen,
)
from worker.tokens.spool import Parking, places
from worker.tokens.spool_backends import ParkingUnavailable

most_passes = 3
parked_name = "parking.pair"


@report_errors
def status(as_json: AsJson = False) -> None:
    """Show how many secrets each key seals, and which keys are configured."""
    settings = load_settings("keys")
    known = [key.id for key in settings.encryption_keys]
    with opened_store(settings) as store, opened_parking(settings) as parking:
        counts = count_seals(store)
        parked, uncounted = count_parked(parking)
    counts |= {parked_name: parked} if parked else {}
    used = {each for by_key in counts.values() for each in by_key}
    unknown = sorted(used - set(known))
    idle = [each for each in known[1:] if each not in used and not uncounted]
    if as_json:
        report = {"sealing": known[0], "opening": known, "unknown": unknown, "idle": idle, "sealed": counts}
        print_json(report | {"uncounted": uncounted})
    else:
        rows = [(name, each, count) for name, by_key in counts.items() for each, count in by_key.items()]
        print_rich(make_table(("sealed", "key", "secrets"), rows))
        print_line(f"{known[0]} seals new secrets. {', '.join(known)} can open them.")
        if used & set(known[1:]):
            print_line("Run breezesync keys rotate to reseal everything with the first key.")
        for why in uncounted:
            print_line(f"Not counted: {why}. So no key is reported as unused.")
        if idle:
            print_line(
                f"Unused: {', '.join(idle)}. Remove it from ENCRYPTION_KEYS once no running process seals with it."
            )
            print_line("Tokens in the spool of another machine are counted only on that machine.")
    if unknown:
        missing = ", ".join(unknown)
        raise CommandFailed(
            f"Some secrets are sealed with keys that are not configured: {missing}. "
            "Add them to ENCRYPTION_KEYS, after the first key."
        )


@report_errors
def rotate(
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Secrets per transaction.")] = 50, as_json: AsJson = False
) -> None:
    """Reseal everything with the first key, while all processes run. It can be interrupted and started again."""
    settings = load_settings("keys")
    vault = Vault(settings.encryption_keys)
    own = settings.encryption_keys[0].id
    resealed, failures = 0, dict[str, str]()
    look = TextColumn("{task.description:<24}"), BarColumn(30), MofNCompleteColumn()
    with opened_store(settings) as store, Progress(*look, console=screen(), disable=as_json) as bars:
        for _ in range(most_passes):
            left = {name: sum(n for key, n in by.items() if key != own) for name, by in count_seals(store).items()}
            if sum(left.values()) <= len(failures):
                break
            for field in fields:
                if not left.get(field.name):
                    continue
                task = bars.add_task(field.name, total=left[field.name])
                for count, unopened in reseal(store, vault, field, batch):
                    resealed += count
                    failures |= unopened
                    bars.advance(task, count)
        with opened_parking(settings) as parking:
            count, unopened = reseal_parked(parking, own)
            resealed, failures = resealed + count, failures | unopened
        with store.writing() as tx:
            detail = {"key": own, "resealed": resealed, "unopened": len(failures)}
            tx.audit.add(Entry(action=Action.key_rotated, detail=detail), tx.overview.time())
    if as_json:
        print_json({"key": own, "resealed": resealed, "unopened": failures})
    else:
        print_line(f"{resealed} secrets resealed. {own} seals {'everything' if not failures else 'everything else'}.")
    if failures:
        lines = [f"  {place}: {why}" for place, why in failures.items()]
        raise CommandFailed(
            "\n".join([f"{len(failures)} could not be opened or reached and were not changed:", *lines])
        )


def count_seals(store: Store) -> dict[str, dict[str, int]]:
    """Count the secrets that each key seals, by field; a text that is not sealed counts under `?`."""
    counts: dict[str, dict[str, int]] = {}
    with store.reading() as tx:
        for field in fields:
            prefixes: list[str] = []
            while others := tx.seals.others(field, prefixes):
                prefix = prefix_of(others[0].sealed)
                prefixes.append(prefix)
                by_key = counts.setdefault(field.name, {})
                name = name_key(others[0].sealed)
                by_key[name] = by_key.get(name, 0) + tx.seals.count(field, prefix)
    return counts


def count_parked(parking: Parking) -> tuple[dict[str, int], list[str]]:
    """Count the parked pairs that each key seals, in Redis and on this machine; and list why a place did not answer."""
    by_key, uncounted = Counter[str](), list[str]()
    for place in places:
        try:
            by_key.update(name_key(found.sealed) for found in parking.seals(place))
        except ParkingUnavailable as error:
            uncounted.append(str(error))
    return dict(by_key), uncounted


def reseal_parked(parking: Parking, own: str) -> tuple[int, dict[str, str]]:
    """Reseal parked pairs; return how many were, and which were not, with the reason."""
    resealed, failures = 0, dict[str, str]()
    for place in places:
        try:
            found = [each for each in parking.seals(place) if name_key(each.sealed) != own]
        except ParkingUnavailable as error:
            failures[f"{parked_name} in {place}"] = str(error)
            continue
        for each in found:
            try:
                resealed += parking.reseal(each)
            except (VaultError, ParkingUnavailable) as error:
                failures[f"{parked_name} of {each.ticket.name} in {place}"] = str(error)
    return resealed, failures


def reseal(store: Store, vault: Vault, field: Field, batch: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Reseal one field by primary key, in small transactions; yield each one's count, and what could not be opened.

    A value that another process wrote between our read and our write is left alone: it is newer, and the next pass
    sees which key sealed it.
    """
    own = prefix_of(vault.seal(Secret(""), Place("", "", "")))
    after: tuple[str, ...] | None = None
    while True:
        with store.reading() as tx:
            found = tx.seals.others(field, [own], after, batch)
        if not found:
            return
        changes, unopened = open_and_seal(vault, field, found)
        with store.writing() as tx:
            count = tx.seals.replace(field, changes)
        yield count, unopened
        after = found[-1].key


def open_and_seal(vault: Vault, field: Field, found: Sequence[Found]) -> tuple[dict[Found, Sealed], dict[str, str]]:
    """Return each text resealed with the first key; and those that cannot be opened, by place."""
    changes: dict[Found, Sealed] = {}
    unopened: dict[str, str] = {}
    for one in found:
        place = Place(field.table.name, "/".join(one.key), field.column.name)
        try:
            changes[one] = vault.seal(vault.open(one.sealed, place), place)
        except VaultError as error:
            unopened[f"{field.name} of {place.row}"] = str(error)
    return changes, unopened


def prefix_of(sealed: Sealed) -> str:
    """Return a sealed text up to and including its last dot: what all texts of one key have in common."""
    return sealed.text[: sealed.text.rfind(".") + 1]


def name_key(sealed: Sealed) -> str:
    """Return the id of the key that sealed it, `?` if there is none."""
    try:
        return key_id(sealed)
    except VaultError:
        return "?"
