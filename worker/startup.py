"""What a process makes sure of before it works: how it seals and opens, and that no key is missing."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from config.settings import Settings
from config.wiring import open_redis
from models.crypto.sealed_text import Place, prefixes_of
from models.crypto.secrets import Sealed
from models.crypto.vault import Vault, VaultError
from models.health.keys import KeyUse, describe_wrong_key, restore_keys
from models.store import Store
from worker.tokens.data_keys import DataKeys
from worker.tokens.spool import Parking
from worker.tokens.transit import Transit

most_samples = 5
"""How many texts of a field are opened to see whether a key is the one that sealed them: some may be damaged."""


def open_vault(settings: Settings) -> Vault:
    """Return the vault of the ring's keys, and of the transit engine if there is one; nothing is asked yet."""
    transit = settings.transit
    if transit is None:
        return Vault(settings.encryption_keys)
    return Vault(settings.encryption_keys, DataKeys(Transit(transit), wraps=transit.key is not None))


@contextmanager
def opened_parking(settings: Settings) -> Iterator[Parking]:
    """Open the places in which new tokens wait for the database: Redis, which need not answer, and the local spool."""
    client, vault = open_redis(settings.redis_url, decode=False), open_vault(settings)
    try:
        yield Parking(vault, client, settings.spool)
    finally:
        vault.close()
        client.close()


def find_missing_keys(store: Store, settings: Settings, parking: Parking) -> dict[str, KeyUse]:
    """Return what needs each key that is neither configured nor given up by `WITHOUT_KEYS`."""
    needed = count_uses(store, parking, known_prefixes(settings))
    return {key: use for key, use in needed.items() if key not in settings.without_keys}


def find_wrong_keys(store: Store, settings: Settings, parking: Parking) -> dict[str, KeyUse]:
    """Return what needs each key whose id is configured, and that opens none of its stored texts: it is another key.

    One text that does not open proves nothing: it may be damaged, and all else sealed by a newer key.
    """
    vault = Vault(settings.encryption_keys)
    with store.reading() as tx:
        samples = {
            key.id: [each for prefix in prefixes_of(key.id) for each in tx.seals.samples(prefix, most_samples)]
            for key in settings.encryption_keys
        }
    wrong = {
        key for key, texts in samples.items() if len(texts) > 1 and not any(_opens(vault, *each) for each in texts)
    }
    if not wrong:
        return {}
    needed = count_uses(store, parking, known_prefixes(settings, wrong))
    return {key: use for key, use in needed.items() if key in wrong}


def _opens(vault: Vault, sealed: Sealed, place: Place) -> bool:
    try:
        vault.open(sealed, place)
    except VaultError:
        return False
    return True


def count_uses(store: Store, parking: Parking, known: Sequence[str]) -> dict[str, KeyUse]:
    """Count the rows and parked pairs that need each key whose texts have none of these prefixes."""
    with store.reading() as tx:
        rows = tx.seals.count_rows_of_others(known)
    pairs = parking.count_locked(known)
    return {key: KeyUse(rows.get(key, 0), pairs.get(key, 0)) for key in dict.fromkeys((*rows, *pairs))}


def known_prefixes(settings: Settings, wrong: Collection[str] = ()) -> list[str]:
    """Return the beginnings of all texts that these settings can open; keys with a `wrong` id open none."""
    prefixes = [prefix for key in settings.encryption_keys if key.id not in wrong for prefix in prefixes_of(key.id)]
    return [*prefixes, "v1.vault:"] if settings.transit is not None else prefixes


def find_key_trouble(store: Store, settings: Settings, parking: Parking) -> str | None:
    """Return what an operator reads whose process does not start, for want of a key; None if it can start."""
    missing = find_missing_keys(store, settings, parking)
    wrong = find_wrong_keys(store, settings, parking)
    own = {key: use for key, use in wrong.items() if key not in settings.without_keys}
    parts = [describe_missing_keys(missing)] if missing else []
    return "\n".join([*parts, describe_wrong_keys(own)] if own else parts) or None


def describe_wrong_keys(wrong: Mapping[str, KeyUse]) -> str:
    """Return what an operator reads who configured another key under the id of one that is needed."""
    lines = [f"{describe_wrong_key(key)}, and {use}." for key, use in wrong.items()]
    return "\n".join([*lines, restore_keys])


def describe_missing_keys(missing: Mapping[str, KeyUse]) -> str:
    """Return what an operator reads whose process does not start."""
    lines = [f"key '{key}' is not configured, and {use}" for key, use in missing.items()]
    return "\n".join(
        [
            *lines,
            "Add it to ENCRYPTION_KEYS after the first key (a key named vault:… needs VAULT_ADDR and VAULT_TOKEN), "
            "and run breezesync keys rotate before you remove it again.",
            "If it is lost for good, start without it: the setting "
            f"WITHOUT_KEYS={','.join(missing)}, or breezesync run --without-key ID. The users whose "
            "tokens it sealed have to authorize again.",
        ]
    )
