"""Judge settings by themselves: names of this machine, and who says whose browser it is."""

from collections.abc import Collection
from urllib.parse import urlsplit

from models.health.finding import Finding
from models.oauth.authorization import Confirmation

loopback_names = frozenset({"localhost", "127.0.0.1", "::1"})


def judge_loopback_names(variable: str, redirect_uri: str, return_origins: Collection[str]) -> Finding | None:
    """Warn if the redirect URI, in `variable`, and each origin name this machine differently; else return None.

    A browser keeps the cookies of `localhost` and of `127.0.0.1` apart, and a provider compares redirect URIs as text.
    """
    own = urlsplit(redirect_uri).hostname
    others = sorted(origin for origin in return_origins if urlsplit(origin).hostname != own)
    differing = [origin for origin in others if urlsplit(origin).hostname in loopback_names]
    if own not in loopback_names or not differing or len(others) < len(return_origins):
        return None
    other = urlsplit(differing[0]).hostname
    said = f"{variable} says {own}, and RETURN_ORIGINS says {other}: to a browser these are two sites"
    remedy = f"Use one name in both: change {own} to {other} in {variable}, and where it is registered at the provider."
    return Finding("settings", "warn", said, remedy)


def judge_confirmation(mode: Confirmation) -> Finding:
    """Judge who says that a browser is the link's user's."""
    match mode:
        case Confirmation.application:
            said = (
                "the application confirms each authorization before its code leaves; without a return_to, our page asks"
            )
            return Finding("confirmation", "ok", said)
        case Confirmation.page:
            return Finding("confirmation", "ok", "our page asks before the provider does")
        case Confirmation.off:
            said = (
                "CONNECT_CONFIRMATION=off: whoever opens a link made for another user, and has allowed access before, "
                "hands that user their account without a click"
            )
            return Finding("confirmation", "warn", said, "Set CONNECT_CONFIRMATION to application or page.")
