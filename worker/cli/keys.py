"""Encryption keys: which one seals what, and sealing everything anew with the first."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Place, Vault, VaultError, key_id
from models.store import Store
from models.store.sealed_fields import Field, Found, fields
from worker.cli.context import opened_parking, opened_store, settings_for
from worker.cli.output import AsJson, CommandFailed, plainly, say, say_json, say_rich, screen, tabulate
from worker.tokens.spool import Parking, places
from worker.tokens.spool_backends import ParkingUnavailable

most_passes = 3
parked_name = "parking.pair"


@plainly
def status(as_json: AsJson = False) -> None:
    """Show which key seals how many secrets, and which keys are set."""
    settings = settings_for("keys")
    known = [key.id for key in settings.encryption_keys]
    with opened_store(settings) as store, opened_parking(settings) as parking:
        counts = count_seals(store)
        parked, uncounted = count_parked(parking)
    counts |= {parked_name: parked} if parked else {}
    used = {each for by_key in counts.values() for each in by_key}
    unknown = sorted(used - set(known))
    idle = [each for each in known[1:] if each not in used and not uncounted]
    if as_json:
        told = {"sealing": known[0], "opening": known, "unknown": unknown, "idle": idle, "sealed": counts}
        say_json(told | {"uncounted": uncounted})
    else:
        rows = [(name, each, count) for name, by_key in counts.items() for each, count in by_key.items()]
        say_rich(tabulate(("sealed", "key", "secrets"), rows))
        say(f"{known[0]} seals; {', '.join(known)} open.")
        if used & set(known[1:]):
            say("breezesync keys rotate seals everything with the first.")
        for why in uncounted:
            say(f"Not counted: {why}. No key is said to be free.")
        if idle:
            say(f"{', '.join(idle)} can go from ENCRYPTION_KEYS once no process runs that seals with it.")
            say("Pairs parked in the spool of another machine are counted there.")
    if unknown:
        missing = ", ".join(unknown)
        raise CommandFailed(f"Sealed with keys that are not set: {missing}. Put them back behind the first one.")


@plainly
def rotate(
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Secrets to a transaction.")] = 50, as_json: AsJson = False
) -> None:
    """Seal everything anew with the first key, while all goes on; may be stopped and started again at any time."""
    settings = settings_for("keys")
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
    if as_json:
        say_json({"key": own, "resealed": resealed, "unopened": failures})
    else:
        say(f"{resealed} secrets sealed anew; {own} seals {'everything' if not failures else 'the rest'}.")
    if failures:
        lines = [f"  {where}: {why}" for where, why in failures.items()]
        raise CommandFailed("\n".join([f"{len(failures)} can't be opened or reached and stay as they are:", *lines]))


def count_seals(store: Store) -> dict[str, dict[str, int]]:
    """How many secrets each key seals, by field; what is no sealed text counts under `?`."""
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
    """How many parked pairs each key seals, in Redis and on this machine; and why a place could not be asked."""
    by_key, uncounted = Counter[str](), list[str]()
    for where in places:
        try:
            by_key.update(name_key(found.sealed) for found in parking.seals(where))
        except ParkingUnavailable as away:
            uncounted.append(str(away))
    return dict(by_key), uncounted


def reseal_parked(parking: Parking, own: str) -> tuple[int, dict[str, str]]:
    """How many parked pairs were sealed anew, and which were not, with the reason."""
    resealed, failures = 0, dict[str, str]()
    for where in places:
        try:
            found = [each for each in parking.seals(where) if name_key(each.sealed) != own]
        except ParkingUnavailable as away:
            failures[f"{parked_name} in {where}"] = str(away)
            continue
        for each in found:
            try:
                resealed += parking.reseal(each)
            except (VaultError, ParkingUnavailable) as error:
                failures[f"{parked_name} of {each.ticket.name} in {where}"] = str(error)
    return resealed, failures


def reseal(store: Store, vault: Vault, field: Field, batch: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Goes through one field by primary key, a small transaction a step: how many were sealed anew, and what of the
    step could not be opened, with the reason.

    What somebody else wrote between reading and writing is left alone: it has its newest value, and the next pass sees
    under which key.
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
    """Each text under the first key; and those that do not open, by their place."""
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
    """All of a sealed text up to and with its last dot: what texts under one key share."""
    return sealed.text[: sealed.text.rfind(".") + 1]


def name_key(sealed: Sealed) -> str:
    try:
        return key_id(sealed)
    except VaultError:
        return "?"
