"""Find the variables: in the environment, in a `.env`, and in the files that `NAME_FILE` names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.env_file import EnvFileError, read_env_file

largest_file = 65_536


class SettingsError(Exception):
    """Settings that can't be used; `problems` has every one, by variable, and no secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(["the settings have problems:", *(f"  {problem}" for problem in problems)]))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Found:
    """The variables that were found, and the problems met while they were read."""

    texts: Mapping[str, str]
    problems: list[str] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """Return the value of `NAME`, or of the file that `NAME_FILE` names; None if neither is set and usable."""
        value, path = self.texts.get(name, ""), self.texts.get(f"{name}_FILE", "").strip()
        if value.strip() and path:
            self.problems.append(f"{name}: set twice, here and by {name}_FILE: expected one of them")
        if value.strip() or not path:
            return self._check_text(name, value) if value.strip() else None
        try:
            return read_secret_file(Path(path))
        except (OSError, ValueError) as trouble:
            reason = trouble.strerror if isinstance(trouble, OSError) else trouble
            self.problems.append(f"{name}_FILE: cannot read {path}: {reason}")
            return None

    def _check_text(self, name: str, value: str) -> str | None:
        if is_text(value):
            return value
        self.problems.append(f"{name}: expected UTF-8")
        return None

    def is_empty(self, name: str) -> bool:
        """Return whether the variable is there and says nothing: for some that is a value."""
        given = self.texts.get(name)
        return given is not None and not given.strip() and not self.texts.get(f"{name}_FILE", "").strip()

    def require(self, name: str, expected: str) -> None:
        """Note that the variable is missing, unless it is there or already among the problems."""
        given = self.texts.get(name, "").strip() or self.texts.get(f"{name}_FILE", "").strip()
        if not given:
            self.problems.append(f"{name}: missing, expected {expected}")


def is_text(value: str) -> bool:
    """Return whether a variable or an argument is UTF-8: other bytes of it are halves of characters (PEP 383)."""
    return not any("\ud800" <= each <= "\udfff" for each in value)


def gather_variables(environ: Mapping[str, str], env_file: Path | None) -> dict[str, str]:
    """All variables, those of the environment before those of the file, those with a value before empty ones."""
    try:
        written = read_env_file(env_file)
    except (OSError, EnvFileError) as trouble:
        raise SettingsError([f"{env_file}: cannot read it: {trouble}"]) from None
    return {**environ, **written, **{name: value for name, value in environ.items() if value.strip()}}


def read_secret_file(path: Path) -> str:
    """What a secret's file holds, without the blanks around it. Raises OSError, or ValueError if it is unfit."""
    with path.open("rb") as file:
        content = file.read(largest_file + 1)
    if len(content) > largest_file:
        raise ValueError("it is too large")
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not text:
        raise ValueError("it is empty")
    return text
