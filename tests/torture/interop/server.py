"""django-oauth-toolkit as a server of its own, in one file; run by the Python of its own environment, by nothing else.

`python server.py DIRECTORY GRACE_SECONDS USERS ACCESS_SECONDS API_REQUESTS_PER_MINUTE` prints its port and serves until
its standard input closes. Its clock runs ahead of the machine's by as much as it was told to, like that of the worker
that is tried at it.

Its API takes so many requests of an account in any minute, and keeps a ledger: each request with its token and its
`Idempotency-Key`, and the life of each access token. Tokens are in it as SHA-256.
"""

import hashlib
import json
import os
import sys
import threading
import time
from collections import deque
from datetime import datetime, timedelta, timezone
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
import django.utils.timezone
from django.conf import settings

directory = Path(sys.argv[1])
grace_seconds, user_count, access_seconds, per_minute = map(int, sys.argv[2:])
settings.configure(
    SECRET_KEY="only for this server's life",
    DEBUG=False,
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": directory / "toolkit.db",
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "oauth2_provider",
        "rest_framework",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        f"{__name__}.keep_ledger",
    ],
    AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.ModelBackend"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["oauth2_provider.contrib.rest_framework.OAuth2Authentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
    OAUTH2_PROVIDER={
        "SCOPES": {"read": "Read"},
        "PKCE_REQUIRED": True,
        "ACCESS_TOKEN_EXPIRE_SECONDS": access_seconds,
        "REFRESH_TOKEN_EXPIRE_SECONDS": 365 * 86_400,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": grace_seconds,
        "ALLOWED_REDIRECT_URI_SCHEMES": ["http"],
    },
)
django.setup()

ahead = timedelta()
django.utils.timezone.now = lambda: datetime.now(timezone.utc) + ahead  # noqa: UP017

from django.contrib.auth import get_user_model, login  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db.models.signals import post_delete, post_save  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.models import AccessToken, Application, RefreshToken  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.response import Response  # noqa: E402

lock = threading.Lock()
requests: list[dict[str, object]] = []
tokens: dict[str, dict[str, object]] = {}
notes: list[str] = []
arrivals: dict[object, deque[float]] = {}


def fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def note_token(sender, instance, **given):  # type: ignore[no-untyped-def]
    life = {"account": str(instance.user_id), "issued_at": time.time(), "expires_at": instance.expires.timestamp()}
    tokens.setdefault(fingerprint(instance.token), {**life, "ended_at": None})


def note_end(sender, instance, **given):  # type: ignore[no-untyped-def]
    tokens[fingerprint(instance.token)]["ended_at"] = time.time()


post_save.connect(note_token, AccessToken)
post_delete.connect(note_end, AccessToken)


def keep_ledger(answer):  # type: ignore[no-untyped-def]
    """Count each request to the API for its account, and refuse those that are too many."""

    def answer_api(request):  # type: ignore[no-untyped-def]
        if not request.path.startswith("/api/"):
            return answer(request)
        at, token = time.time(), fingerprint(request.headers.get("authorization", "").partition(" ")[2])
        account = tokens.get(token, {}).get("account")
        with lock:
            window = arrivals.setdefault(account, deque())
            while window and window[0] <= at - 60:
                window.popleft()
            window.append(at)
            left = per_minute - len(window)
        if left < 0:
            response = JsonResponse({"detail": "Too many requests."}, status=429)
            response["Retry-After"] = str(max(int(window[0] + 61 - at), 1))
        else:
            response = answer(request)
        response["X-RateLimit-Remaining"] = str(max(left, 0))
        line = {"at": at, "account": account, "token": token, "method": request.method, "status": response.status_code}
        with lock:
            requests.append({**line, "marker": request.headers.get("idempotency-key", "")})
        return response

    return answer_api


@api_view(["GET"])
def me(request):  # type: ignore[no-untyped-def]
    return Response({"id": request.user.pk, "email": request.user.email})


@api_view(["GET", "POST"])
def notes_of(request):  # type: ignore[no-untyped-def]
    """Carry out each POST, as often as it comes: the ledger shows whether that was once."""
    if request.method == "GET":
        return Response({"notes": len(notes)})
    notes.append(request.headers.get("idempotency-key", ""))
    return Response({"number": len(notes)}, status=201)


def ledger(request: HttpRequest) -> JsonResponse:
    pairs: dict[str, int] = {}
    for token in RefreshToken.objects.all():
        pairs[str(token.user_id)] = pairs.get(str(token.user_id), 0) + 1
    with lock:
        return JsonResponse({"requests": requests, "tokens": tokens, "notes": notes, "pairs": pairs})


def enter(request: HttpRequest, number: int) -> JsonResponse:
    """The user's browser logs in."""
    login(request, get_user_model().objects.get(username=f"user{number}"))
    return JsonResponse({})


def advance(request: HttpRequest, seconds: int) -> JsonResponse:
    global ahead  # noqa: PLW0603
    ahead += timedelta(seconds=seconds)
    return JsonResponse({})


def families(request: HttpRequest) -> JsonResponse:
    """How many refresh tokens of each family are alive: none, and the family was ended."""
    alive: dict[str, int] = {}
    for token in RefreshToken.objects.all():
        key = str(token.token_family)
        alive[key] = alive.get(key, 0) + (token.revoked is None)
    return JsonResponse(alive)


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("api/me", me),
    path("api/notes", notes_of),
    path("_enter/<int:number>", enter),
    path("_advance/<int:seconds>", advance),
    path("_families", families),
    path("_ledger", ledger),
]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        """Says nothing."""


def main() -> None:
    call_command("migrate", verbosity=0)
    users = get_user_model().objects
    for number in range(user_count):
        users.create_user(f"user{number}", f"user{number}@toolkit.example")
    Application.objects.create(
        name="breezesync",
        client_id="toolkit-client",
        client_secret="toolkit-secret",
        hash_client_secret=False,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris="http://127.0.0.1:8700/auth/toolkit/callback",
        skip_authorization=True,
    )
    server = make_server("127.0.0.1", 0, WSGIHandler(), server_class=Server, handler_class=Quiet)
    print(json.dumps({"port": server.server_port, "version": _version()}), flush=True)  # noqa: T201
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415

    return version("django-oauth-toolkit")


if __name__ == "__main__":
    main()
