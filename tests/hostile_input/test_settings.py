"""Every setting wrong at once: each kind of process says so in one report, and ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import CHECKOUT
from tests.servers import plain_environment

WRONG = {
    "DATABASE_URL": "mysql://root:hunter2@db/x",
    "REDIS_URL": "http://:hunter2@redis",
    "ENCRYPTION_KEYS": "k1:hunter2hunter2,k1:,:x,no",
    "CONNECT_SECRET": "hunter2",
    "RETURN_ORIGINS": "https://app.example/path",
    "EVENTS_STREAM": "a stream",
    "RECORDS_STREAM": "same",
    "COMMANDS_STREAM": "same",
    "EVENTS_MAXLEN": "many",
    "RECORDS_MAXLEN": "-1",
    "SYNC_INTERVAL": "soon",
    "SWEEP_INTERVAL": "0",
    "PROVIDERS_DIRECTORY": "no/directory",
    "OPERATOR_TOKEN": "hun ter2",
    "OPERATOR_ADDRESS": "8701",
    "TRUSTED_PROXIES": "10.0.0.0/33",
    "BREEZEDOC_CLIENT_ID": "id\x7f",
    "BREEZEDOC_CLIENT_SECRET": "hunter2ü",
    "BREEZEDOC_REDIRECT_URI": "http://sync.example/cb",
    "BREEZEDOC_AUTHORIZE_URL": "javascript:alert(1)",
    "BREEZEDOC_TOKEN_URL": "https://user:hunter2@o.example/token",
    "BREEZEDOC_API_URL": "ftp://o.example",
    "BREEZEDOC_TOKEN_BODY": "xml",
    "BREEZEDOC_CLIENT_AUTH": "none",
    "BREEZEDOC_PKCE": "perhaps",
    "BREEZEDOC_REFRESH_REUSE": "fine",
    "BREEZEDOC_TOKEN_REQUESTS_PER_MINUTE": "0",
}
PROCESSES = {
    "operator": ["uvicorn", "--factory", "worker.main:operator", "--port", "0"],
    "web": ["uvicorn", "--factory", "worker.main:web", "--port", "0"],
    "worker": ["dramatiq", "worker.main:boot", "--processes", "1", "--threads", "1"],
    "scheduler": ["scheduler"],
    "status": ["worker", "status"],
}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_reports_every_setting_and_ends(tmp_path: Path, name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *PROCESSES[name]],
        cwd=tmp_path,
        env={**plain_environment(), "PYTHONPATH": str(CHECKOUT), **WRONG},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode not in (0, None), told
    assert "Traceback" not in told
    assert "hunter2" not in told
    lines = [line.strip() for line in told.splitlines()]
    missing = [variable for variable in WRONG if not any(line.startswith(f"{variable}:") for line in lines)]
    assert missing in ([], ["RECORDS_STREAM", "COMMANDS_STREAM"]), told
    assert told.count("the settings have problems") == 1
