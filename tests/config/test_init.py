import os
import re
import stat
from pathlib import Path

import pytest

from config.env_template import write_env
from config.environment import SettingsError
from config.settings import read_settings

documented = [
    "BREEZEDOC_CLIENT_ID",
    "BREEZEDOC_CLIENT_SECRET",
    "BREEZEDOC_REDIRECT_URI",
    "GATEWAY_KEYS",
    "DATABASE_URL",
    "REDIS_URL",
    "ENCRYPTION_KEYS",
    "SEALING_KEY",
    "WITHOUT_KEYS",
    "VAULT_ADDR",
    "VAULT_TOKEN",
    "VAULT_TRANSIT_KEY",
    "VAULT_TRANSIT_MOUNT",
    "VAULT_NAMESPACE",
    "VAULT_CACERT",
    "CONNECT_SECRET",
    "RETURN_ORIGINS",
    "CONNECT_CONFIRMATION",
    "APP_NAME",
    "OPERATOR_ADDRESS",
    "METRICS_ADDRESS",
    "TRUSTED_PROXIES",
    "PROVIDERS",
    "PROVIDERS_DIRECTORY",
    "EVENTS_STREAM",
    "RECORDS_STREAM",
    "COMMANDS_STREAM",
    "EVENTS_MAXLEN",
    "RECORDS_MAXLEN",
    "SYNC_INTERVAL",
    "SWEEP_INTERVAL",
    "OPERATOR_TOKEN",
]


def test_a_new_env_lacks_nothing_but_the_client(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_env(path)
    settings = read_settings({}, path, needs={"keys", "links"})
    assert len(settings.encryption_keys) == len(settings.connect_secrets) == 1
    assert settings.operator_token is not None
    with pytest.raises(SettingsError) as refused:
        read_settings({}, path)
    assert all(problem.startswith("BREEZEDOC_") for problem in refused.value.problems)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o377])
def test_only_the_owner_reads_it_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_env(tmp_path / ".env")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["file", "directory", "link to nowhere"])
def test_nothing_is_written_over(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".env"
    if kind == "file":
        path.write_text("MINE=1\n")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        write_env(path)
    assert not (tmp_path / "nowhere").exists()
    assert kind != "file" or path.read_text() == "MINE=1\n"


def test_no_two_are_alike(tmp_path: Path) -> None:
    write_env(tmp_path / "a")
    write_env(tmp_path / "b")
    mine, other = (read_settings({}, tmp_path / name, needs=()) for name in "ab")
    assert mine.encryption_keys != other.encryption_keys
    assert mine.encryption_keys[0].id != other.encryption_keys[0].id
    assert mine.connect_secrets != other.connect_secrets
    assert mine.operator_token != other.operator_token


def test_every_documented_setting_stands_in_it_with_its_default(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_env(path)
    text = path.read_text()
    named = {match[1]: match[2] for match in re.finditer(r"^(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE)}
    assert set(documented) == named.keys()
    uncommented = re.sub(r"^# ([A-Z_]+=.*)$", r"\1", text, flags=re.MULTILINE)
    path.write_text(re.sub(r"^DATABASE_URL=postgresql.*$", "", uncommented, flags=re.MULTILINE))
    with_defaults = read_settings({"BREEZEDOC_CLIENT_ID": "c", "BREEZEDOC_CLIENT_SECRET": "s"}, path)
    assert with_defaults.database_url == read_settings({}, None, needs=()).database_url
    assert with_defaults.sync_interval == read_settings({}, None, needs=()).sync_interval
