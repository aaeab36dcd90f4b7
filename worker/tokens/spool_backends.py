"""The two places for sealed texts, files on this machine and a hash in Redis; neither can open them."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Protocol, cast
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from models.errors import Transient
from models.private_files import close_to_others, make_directory


class ParkingUnavailable(Transient):
    """A place does not answer, or the key of a parked pair is missing: it is not known whether a pair is parked."""


slot_bytes = 16_384
"""What a slot has room for; a sealed pair takes 2 to 10 KB."""


class Shelf(Protocol):
    """Texts by name. `read`, `names` and `replace` raise `ParkingUnavailable` if it is away."""

    def names(self) -> set[str]:
        """Return the names of all texts."""

    def read(self, name: str) -> str | None:
        """Return the text, or None if there is none of that name."""

    def keep(self, name: str, text: str) -> bool:
        """Write the text; return whether that worked."""

    def replace(self, name: str, before: str, after: str) -> bool:
        """Replace `before` by `after`; return False if the text is gone, or no longer `before`."""

    def drop(self, name: str) -> None:
        """Delete the text; if that fails it stays."""

    def reserve(self, name: str) -> bool:
        """Make sure that a text can be kept under this name; return whether that is so."""

    def release(self, name: str) -> None:
        """Give back what was reserved."""


@dataclass(frozen=True, slots=True)
class Spool:
    """One file for each text, whole or not at all: written beside its place, synced to disk, then renamed.

    Files have no lock: one that is dropped at the moment of a replacement comes back. A slot is a file whose blocks are
    allocated before they are needed: a text is written over it even if the disk has become full meanwhile.
    """

    directory: Path

    def names(self) -> set[str]:
        try:
            return {path.stem for path in self.directory.iterdir() if path.suffix == ".pair"}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise ParkingUnavailable(f"{self.directory} can't be read ({type(error).__name__})") from error

    def read(self, name: str) -> str | None:
        path = self._path(name)
        try:
            return path.read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ParkingUnavailable(f"{path} can't be read ({type(error).__name__})") from error

    def keep(self, name: str, text: str) -> bool:
        try:
            make_directory(self.directory)
            close_to_others(self.directory)
            slot = self._take_slot(name)
            self._move(_write_beside(self._path(name), text) if slot is None else _write_over(slot, text), name)
        except OSError:
            return False
        return True

    def reserve(self, name: str) -> bool:
        slot = self._slot(name)
        try:
            try:
                return _allocate(slot)
            except FileNotFoundError:
                make_directory(self.directory)
                return _allocate(slot)
        except OSError:
            self.release(name)
            return False

    def release(self, name: str) -> None:
        with suppress(OSError):
            self._slot(name).unlink()

    def release_older_than(self, seconds: float) -> None:
        """Give back what processes reserved that have died since."""
        with suppress(OSError):
            for path in self.directory.glob("*.slot"):
                if path.stat().st_mtime < time.time() - seconds:
                    path.unlink()

    def replace(self, name: str, before: str, after: str) -> bool:
        path = self._path(name)
        try:
            beside = _write_beside(path, after)
            if self.read(name) != before:
                beside.unlink()
                return False
            self._move(beside, name)
        except OSError as error:
            raise ParkingUnavailable(f"{path} can't be written ({type(error).__name__})") from error
        return True

    def drop(self, name: str) -> None:
        with suppress(OSError):
            self._path(name).unlink()

    def _move(self, beside: Path, name: str) -> None:
        beside.rename(self._path(name))
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.pair"

    def _take_slot(self, name: str) -> Path | None:
        """Return the reserved slot under a name of its own, or None if there is none."""
        taken = self.directory / f"{name}-{uuid4().hex}.new"
        # Race: the save takes too long and fails at once, and both park the pair; only one may write into the slot.
        try:
            self._slot(name).rename(taken)
        except FileNotFoundError:
            return None
        return taken

    def _slot(self, name: str) -> Path:
        return self.directory / f"{name}.slot"


@dataclass(frozen=True, slots=True)
class RedisHash:
    """One hash field for each text. The client returns bytes: decoding would fail for all if one were not UTF-8."""

    client: Redis
    key: str

    def names(self) -> set[str]:
        try:
            return {text for name in self.client.hkeys(self.key) if (text := _text(name)) is not None}
        except RedisError as error:
            raise _away() from error

    def read(self, name: str) -> str | None:
        try:
            return _text(self.client.hget(self.key, name))
        except RedisError as error:
            raise _away() from error

    def keep(self, name: str, text: str) -> bool:
        try:
            self.client.hset(self.key, name, text)
        except RedisError:
            return False
        return True

    def replace(self, name: str, before: str, after: str) -> bool:
        def step(pipe: Any) -> bool:
            is_unchanged = _text(pipe.hget(self.key, name)) == before
            pipe.multi()
            if is_unchanged:
                pipe.hset(self.key, name, after)
            return is_unchanged

        try:
            return bool(self.client.transaction(cast(Any, step), self.key, value_from_callable=True))
        except RedisError as error:
            raise _away() from error

    def drop(self, name: str) -> None:
        with suppress(RedisError):
            self.client.hdel(self.key, name)

    def reserve(self, name: str) -> bool:
        try:
            return bool(self.client.set(f"{self.key}:probe", name, px=1_000))
        except RedisError:
            return False

    def release(self, name: str) -> None:
        """Nothing was reserved: memory is not set apart for one text."""


def _away() -> ParkingUnavailable:
    return ParkingUnavailable("Redis, where pairs may be parked, does not answer")


def _allocate(slot: Path) -> bool:
    """Make a file of zeros that only its owner can read; return whether there was room for it. Raises OSError."""
    descriptor = os.open(slot, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return os.write(descriptor, bytes(slot_bytes)) == slot_bytes
    finally:
        os.close(descriptor)


def _write_beside(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, synced to disk; delete it if that fails."""
    descriptor, name = mkstemp(dir=path.parent, prefix=f"{path.stem}-", suffix=".new")
    beside = Path(name)
    try:
        with open(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return beside


def _write_over(slot: Path, text: str) -> Path:
    """Write into the blocks that the slot has, synced to disk."""
    with open(slot, "r+") as file:
        file.write(text)
        file.truncate()
        os.fsync(file.fileno())
    return slot


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None
