"""A sign of life for whoever watches a process from outside: a file that is touched again and again."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Without a path there is no file to touch."""

    path: Path | None

    def beat(self, next_in: timedelta = timedelta()) -> None:
        """Gives the file the time of the next beat: it grows old only when that one does not come.

        A file that can't be written says what it has to say by growing old.
        """
        if self.path is None:
            return
        at = time.time() + next_in.total_seconds()
        with suppress(OSError):
            self.path.touch()
            os.utime(self.path, (at, at))
