"""Start the command line of a breezesync that was installed as a package.

Its rooms are called `config`, `models`, `worker` and so on, as many a project's own. A wheel has them below
`breezesync/app`, where no other program of the same environment finds them.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run one command, with the rooms in the way of imports for it and for the processes that it starts."""
    rooms = str(Path(__file__).parent / "app")
    sys.path.insert(0, rooms)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [rooms, os.environ.get("PYTHONPATH")]))
    os.environ["PYTHONSAFEPATH"] = "1"  # the working directory may be a project's with a `models` of its own
    from worker.__main__ import main as run  # noqa: PLC0415 - now it can be found

    run()


if __name__ == "__main__":
    main()
