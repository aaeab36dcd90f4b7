"""What stands in for what no one has set on one machine."""

from config.settings import Settings
from worker.local.state import find_lack, point_at_sandbox


def origins(environment: dict[str, str], written: dict[str, str]) -> str | None:
    """Where the users of a sandbox may return to, in place of what was set."""
    lack = find_lack(environment, written, Settings(), has_file=True)
    chosen = point_at_sandbox(lack, "breezedoc", "http://127.0.0.1:8799", "http://127.0.0.1:8700")
    return chosen.get("RETURN_ORIGINS")


def test_users_of_the_sandbox_may_return_to_the_example_application() -> None:
    assert origins({}, {}) == "http://127.0.0.1:8710,http://localhost:8710"


def test_origins_that_somebody_has_set_stay() -> None:
    assert origins({"RETURN_ORIGINS": "https://app.example"}, {}) is None
    assert origins({}, {"RETURN_ORIGINS": "https://app.example"}) is None
    assert origins({"RETURN_ORIGINS_FILE": "/run/secrets/origins"}, {}) is None
