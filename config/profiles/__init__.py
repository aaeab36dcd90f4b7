"""The profiles of providers: how they are read and checked, and what may be in them."""

from config.profiles.faults import clear_text
from config.profiles.fields import name_pattern
from config.profiles.reading import (
    ProfileError,
    build_provider,
    means_off,
    override_variables,
    profile_directories,
    read_file,
    read_profile,
)

__all__ = [
    "ProfileError",
    "build_provider",
    "clear_text",
    "means_off",
    "name_pattern",
    "override_variables",
    "profile_directories",
    "read_file",
    "read_profile",
]
