"""How a browser's request is refused: status, words, and a way back."""

from urllib.parse import urlsplit

from models.oauth.authorization import Authorization
from models.origins import loopback_hosts


class Refused(Exception):
    """A request that is refused: the HTTP status, what the user can do about it, and a way back if there is one.

    For the audit, `reason` says more than the title, and `about` is the authorization that the request was for.
    """

    def __init__(
        self,
        status: int,
        title: str,
        advice: str,
        return_to: str | None = None,
        reason: str | None = None,
        about: Authorization | None = None,
    ) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.advice = advice
        self.return_to = return_to
        self.reason = reason
        self.about = about


def refuse_late(found: Authorization) -> Refused:
    """Return the refusal of a user who was away for longer than the flow may take."""
    advice = "The connection was not made in time. Go back to the application and start again from there."
    return Refused(403, "It took too long", advice, found.return_to, about=found)


def refuse_stranger(found: Authorization | None = None) -> Refused:
    """Return the refusal of another browser; of this machine's several names only one has the cookie."""
    advice = "Go back to the application and start again from there."
    host = None if found is None else urlsplit(found.redirect_uri).hostname
    if host in loopback_hosts:
        advice += f" Open the link on {host}, not on another name of this machine: cookies belong to one name."
    return Refused(403, "This page can't be used", advice, reason="another_browser", about=found)


def refuse_used(found: Authorization | None) -> Refused:
    advice = "Go back to the application and ask for a new one."
    return Refused(400, "This link was already used", advice, reason="used", about=found)
