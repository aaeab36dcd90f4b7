"""Importing any module does nothing: no file, no socket, no process, no broker, no logger, no variable read."""

import json
import subprocess
import sys
from pathlib import Path

from tests.servers import plain_environment

CHECKOUT = Path(__file__).parents[2]
SHIPPED = ("models", "config", "worker", "scheduler")

# Libraries may look at the system as they are imported: so one process finds out which there are, and another imports
# them first and only then watches.
LIST = """
import importlib, json, sys
before = set(sys.modules)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
ours = tuple(json.loads(sys.argv[2]))
print(json.dumps(sorted(name for name in set(sys.modules) - before if name.split(".")[0] not in ours)))
"""
WATCH = """
import importlib, json, logging, os, sys
from contextlib import suppress
names, libraries = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for name in libraries:
    with suppress(ImportError):
        importlib.import_module(name)
seen = []
class Environ(dict):
    def note(self, key):
        if not key.startswith("PYDANTIC_"):  # pydantic asks for these as each table is declared
            seen.append(f"environ {key}")
    def __getitem__(self, key):
        self.note(key)
        return super().__getitem__(key)
    def get(self, key, *rest):
        self.note(key)
        return super().get(key, *rest)
def watch(event, args):
    if event == "open" and isinstance(args[0], str) and not args[0].endswith((".py", ".pyc")):
        seen.append(f"open {args[0]}")
    if event.startswith(("socket.", "subprocess.", "os.mkdir", "os.remove", "os.rename", "sqlite3.")):
        seen.append(event)
handlers = list(logging.getLogger().handlers)
os.environ = Environ(os.environ)
from dramatiq import broker
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
assert broker.global_broker is None, "a broker was made"
assert logging.getLogger().handlers == handlers, "logging was configured"
print(json.dumps(seen))
"""


def modules() -> list[str]:
    found = [path.relative_to(CHECKOUT) for name in SHIPPED for path in sorted((CHECKOUT / name).rglob("*.py"))]
    dotted = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in found]
    return [name for name in dotted if not name.startswith("models.migrations.")]


def run(script: str, directory: Path, *arguments: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(json.dumps, arguments)],
        cwd=directory,
        env={**plain_environment(), "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said: list[str] = json.loads(done.stdout)
    return said


def test_importing_has_no_effect(tmp_path: Path) -> None:
    libraries = run(LIST, tmp_path, modules(), SHIPPED)
    assert run(WATCH, tmp_path, modules(), libraries) == []
