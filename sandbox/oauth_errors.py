"""The errors of league/oauth2-server 8.5 (Passport 12) and 9 (Passport 13), word by word."""

from sandbox.http import Answer, answer_json

MALFORMED = (
    "The request is missing a required parameter, includes an invalid parameter value, "
    "includes a parameter more than once, or is otherwise malformed."
)
BAD_GRANT = (
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh "
    "token is invalid, expired, revoked, does not match the redirection URI used in the authorization "
    "request, or was issued to another client."
)
BAD_SCOPE = "The requested scope is invalid, unknown, or malformed"
DENIED = "The resource owner or authorization server denied the request."


class RefusalError(Exception):
    """A refused grant; `outcome` is its name in the counters."""

    def __init__(
        self,
        outcome: str,
        status: int,
        error: str,
        description: str,
        hint: str | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.outcome = outcome
        self.status = status
        self.error = error
        self.description = description
        self.hint = hint
        self.headers = headers or {}

    def payload(self, passport: int) -> dict[str, str]:
        body = {"error": self.error, "error_description": self.description}
        if self.hint is not None:
            body["hint"] = self.hint
        if passport == 12:
            body["message"] = self.description
        return body

    def answer(self, passport: int) -> Answer:
        return answer_json(self.status, self.payload(passport), self.headers)


def refuse_request(parameter: str, hint: str | None = None) -> RefusalError:
    text = hint if hint is not None else f"Check the `{parameter}` parameter"
    return RefusalError("malformed", 400, "invalid_request", MALFORMED, text)


def refuse_client(*, sent_basic: bool) -> RefusalError:
    headers = {"www-authenticate": 'Basic realm="OAuth"'} if sent_basic else {}
    return RefusalError("client_rejected", 401, "invalid_client", "Client authentication failed", headers=headers)


def refuse_unauthorized_client() -> RefusalError:
    text = "The authenticated client is not authorized to use this authorization grant type."
    return RefusalError("client_rejected", 400, "unauthorized_client", text)


def refuse_scope(name: str) -> RefusalError:
    hint = f"Check the `{name}` scope" if name else "Specify a scope in the request or set a default scope"
    return RefusalError("scope_rejected", 400, "invalid_scope", BAD_SCOPE, hint)


def refuse_refresh_token(outcome: str, hint: str, passport: int) -> RefusalError:
    status, error = (401, "invalid_request") if passport == 12 else (400, "invalid_grant")
    return RefusalError(outcome, status, error, "The refresh token is invalid.", hint)


def refuse_code(outcome: str, hint: str, passport: int) -> RefusalError:
    error, description = ("invalid_request", MALFORMED) if passport == 12 else ("invalid_grant", BAD_GRANT)
    return RefusalError(outcome, 400, error, description, hint)


def refuse_verifier() -> RefusalError:
    return RefusalError("verifier_rejected", 400, "invalid_grant", BAD_GRANT, "Failed to verify `code_verifier`.")


def refuse_grant_type() -> RefusalError:
    return RefusalError(
        "malformed",
        400,
        "unsupported_grant_type",
        "The authorization grant type is not supported by the authorization server.",
        "Check that all required parameters have been provided",
    )
