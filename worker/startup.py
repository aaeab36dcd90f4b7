"""What a process makes sure of before it works: how it seals and opens, and that no key is missing."""

from collections.abc import Mapping

from config.settings import Settings
from models.crypto.vault import Vault
from models.store import Store
from worker.tokens.data_keys import DataKeys
from worker.tokens.transit import Transit


def open_vault(settings: Settings) -> Vault:
    """Return the vault of the ring's keys, and of the transit engine if there is one; nothing is asked yet."""
    transit = settings.transit
    if transit is None:
        return Vault(settings.encryption_keys)
    return Vault(settings.encryption_keys, DataKeys(Transit(transit), wraps=transit.key is not None))


def find_missing_keys(store: Store, settings: Settings) -> dict[str, int]:
    """Count the rows that need each key which is neither configured nor given up by `WITHOUT_KEYS`."""
    with store.reading() as tx:
        needed = tx.seals.count_rows_of_others(known_prefixes(settings))
    return {key: rows for key, rows in needed.items() if key not in settings.without_keys}


def known_prefixes(settings: Settings) -> list[str]:
    """Return the beginnings of all texts that these settings can open."""
    prefixes = [f"{version}.{key.id}." for key in settings.encryption_keys for version in ("v1", "h1")]
    return [*prefixes, "v1.vault:"] if settings.transit is not None else prefixes


def describe_missing_keys(missing: Mapping[str, int]) -> str:
    """Return what an operator reads whose process does not start."""
    lines = [
        f"key '{key}' is not configured, and {rows} {'row needs' if rows == 1 else 'rows need'} it"
        for key, rows in missing.items()
    ]
    return "\n".join(
        [
            *lines,
            "Add it to ENCRYPTION_KEYS after the first key (a key named vault:… needs VAULT_ADDR and VAULT_TOKEN), "
            "and run breezesync keys rotate before you remove it again.",
            "If it is lost for good, start without it: the setting "
            f"WITHOUT_KEYS={','.join(missing)}, or breezesync run --without-key ID. The users of these rows have to "
            "authorize again.",
        ]
    )
