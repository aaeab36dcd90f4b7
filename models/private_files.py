"""Files and directories that only their owner can read, whoever made them and with whatever umask."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def make_directory(path: Path) -> None:
    """Make the directory and those above it that are missing, each for its owner alone. Raises OSError.

    One that exists stays as it is: it may be someone else's, or the system's.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def make_file(path: Path) -> None:
    """Make the file if it is missing, empty and for its owner alone, and close one that is open to others.

    Raises OSError if it can't be made.
    """
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    close_to_others(path)


def close_to_others(path: Path) -> None:
    """Take group's and others' rights away; a file that is missing, or not ours, stays as it is."""
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            path.chmod(mode & 0o700)
