"""How the `.env` is read: every value arrives byte for byte, with no escapes and no interpolation."""

import re
from pathlib import Path

from models.private_files import close_to_others

_assignment = re.compile(r"(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(?P<value>.*)", re.DOTALL)


class EnvFileError(Exception):
    """A `.env` that can't be read; the message names the lines and shows nothing of them."""


def read_env_file(path: Path | None) -> dict[str, str]:
    """Return what the file sets, or nothing if there is no file. Raises OSError and `EnvFileError`."""
    if path is None or not (path.is_file() or path.is_fifo()):
        return {}
    close_to_others(path)
    try:
        return parse_env(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise EnvFileError("it is not UTF-8") from None


def parse_env(text: str) -> dict[str, str]:
    """Return the variables in the text, one `NAME=value` a line; a later line replaces an earlier one.

    Blanks around a value don't count. One pair of quotes around it, single or double, is removed; everything inside is
    literal, further quotes included. Comments are lines of their own. Raises `EnvFileError` with every unfit line.
    """
    found: dict[str, str] = {}
    faults: list[str] = []
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        written = line.strip(" \t")
        if not written or written.startswith("#"):
            continue
        match = _assignment.fullmatch(written)
        value = match["value"] if match else ""
        if match is None:
            faults.append(f"line {number}: expected NAME=value")
        elif value[:1] in ("'", '"') and (len(value) == 1 or value[-1] != value[0]):
            faults.append(f"line {number}: expected the closing quote at the end of the line")
        else:
            found[match["name"]] = value[1:-1] if value[:1] in ("'", '"') else value
    if faults:
        raise EnvFileError("; ".join(faults))
    return found
