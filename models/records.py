"""What of a page is new, changed or unchanged, and what of a resource is gone."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, cast

from models.provider import unsign

Json = dict[str, object]
Change = Literal["created", "updated"]


@dataclass(frozen=True, slots=True)
class Known:
    """What the database holds of one record."""

    content_hash: str
    data: Json
    deleted: bool


@dataclass(frozen=True, slots=True)
class Item:
    """One record as the provider gave it, without its volatile fields, and the hash of just that."""

    external_id: str
    data: Json
    content_hash: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A record to write: `fields` names the top-level fields that differ (all of them for a new record)."""

    item: Item
    kind: Change
    fields: tuple[str, ...]


def read_item(raw: object, id_field: str, volatile: Sequence[str]) -> Item | None:
    """A list's element as an item, or None where it is no object or names no id (a number or a text)."""
    if not isinstance(raw, dict):
        return None
    identity = raw.get(id_field)
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        return None
    external_id = _clean_text(str(identity))[:255]
    if not external_id:
        return None
    data = cast(Json, without(_clean(raw), [path.split(".") for path in volatile]))
    return Item(external_id, data, hash_content(data))


def hash_content(data: object) -> str:
    """SHA-256 of the canonical form: keys sorted, 1.0 and 1 the same number."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def without(value: object, paths: Sequence[Sequence[str]]) -> object:
    """The value without what the paths name; a part `name[]` goes into every element of a list.

    A path that ends in `*?` keeps the URLs below it and takes their queries (see `unsign`).
    """
    if ["*?"] in paths:
        value = unsign(value)
    if not paths or not isinstance(value, dict):
        return value
    kept: Json = {}
    for key, inner in value.items():
        if [key] in paths:
            continue
        below = [path[1:] for path in paths if path[0] == key and len(path) > 1]
        below_each = [path[1:] for path in paths if path[0] == f"{key}[]"]
        if below_each and isinstance(inner, list):
            kept[key] = [without(element, below_each) for element in inner if [] not in below_each]
        else:
            kept[key] = without(inner, below)
    return kept


def compare(known: Mapping[str, Known], items: Iterable[Item]) -> list[Changed]:
    """The items that have to be written; of an id given twice in one page the later one counts."""
    latest = {item.external_id: item for item in items}
    return [changed for item in latest.values() if (changed := _compare_one(known.get(item.external_id), item))]


def _compare_one(before: Known | None, item: Item) -> Changed | None:
    if before is None or before.deleted:
        return Changed(item, "created", tuple(sorted(item.data)))
    if before.content_hash == item.content_hash:
        return None
    absent = object()
    names = before.data.keys() | item.data.keys()
    differing = (
        n
        for n in names
        if hash_of_field(before.data.get(n, absent), absent) != hash_of_field(item.data.get(n, absent), absent)
    )
    return Changed(item, "updated", tuple(sorted(differing)))


def hash_of_field(value: object, absent: object) -> str | None:
    """None for an absent field, so that it differs from a null."""
    return None if value is absent else hash_content(_clean(value))


def _clean(value: object) -> object:
    """JSON as both databases can hold it: no NUL, no lone surrogates, no NaN; whole floats as integers."""
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, float):
        if not isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {_clean_text(str(key)): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return value


def _clean_text(text: str) -> str:
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
