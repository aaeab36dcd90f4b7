"""django-oauth-toolkit as a server of its own, in one file; run by the Python of its own environment, by nothing else.

`python server.py DIRECTORY GRACE_SECONDS` prints its port and serves until its standard input closes. Its clock runs
ahead of the machine's by as much as it was told to, like that of the worker that is tried at it.
"""

import json
import os
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
import django.utils.timezone
from django.conf import settings

directory, grace_seconds = Path(sys.argv[1]), int(sys.argv[2])
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
        "ACCESS_TOKEN_EXPIRE_SECONDS": 30 * 86_400,
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
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.models import Application, RefreshToken  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.response import Response  # noqa: E402


@api_view(["GET"])
def me(request):  # type: ignore[no-untyped-def]
    return Response({"id": request.user.pk, "email": request.user.email})


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
    path("_enter/<int:number>", enter),
    path("_advance/<int:seconds>", advance),
    path("_families", families),
]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        """Says nothing."""


def main() -> None:
    call_command("migrate", verbosity=0)
    users = get_user_model().objects
    for number in range(int(sys.argv[3])):
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
