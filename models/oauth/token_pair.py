"""A pair of tokens, and the text it is sealed as while its rows can't be written."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from models.crypto.secrets import Secret
from models.oauth.token_response import TokensGranted


@dataclass(frozen=True, slots=True)
class TokenPair:
    """The tokens that the token endpoint granted, and when."""

    granted: TokensGranted
    issued_at: datetime

    @property
    def expires_at(self) -> datetime | None:
        """When the access token expires; None if the provider did not say."""
        return None if self.granted.expires_in is None else self.issued_at + self.granted.expires_in


def pack(pair: TokenPair) -> Secret:
    granted = pair.granted
    return Secret(
        json.dumps(
            {
                "access_token": granted.access_token.reveal(),
                "refresh_token": granted.refresh_token.reveal() if granted.refresh_token else None,
                "expires_in": None if granted.expires_in is None else granted.expires_in.total_seconds(),
                "scope": granted.scope,
                "issued_at": pair.issued_at.isoformat(),
            }
        )
    )


def unpack(text: Secret) -> TokenPair:
    """Return the pair that `pack` wrote."""
    fields = json.loads(text.reveal())
    seconds, refresh_token = fields["expires_in"], fields["refresh_token"]
    granted = TokensGranted(
        access_token=Secret(fields["access_token"]),
        refresh_token=None if refresh_token is None else Secret(refresh_token),
        expires_in=None if seconds is None else timedelta(seconds=seconds),
        scope=fields["scope"],
    )
    return TokenPair(granted, datetime.fromisoformat(fields["issued_at"]))
