"""The settings of a process, without which it does not start."""

from config.environment import SettingsError
from config.settings import Need, Settings, read_settings


def read_or_exit(*needs: Need) -> Settings:
    """Return the settings, or end the process with 1 and every problem with them."""
    try:
        return read_settings(needs=needs)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
