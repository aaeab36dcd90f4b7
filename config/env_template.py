"""What a new `.env` holds: fresh keys, and every setting with its default to uncomment."""

import os
import secrets
from pathlib import Path

from models.crypto.vault import new_key, new_key_id

_text = """\
# Settings of breezesync, read from the working directory. The environment goes before this file.
# For any NAME here, NAME_FILE may instead name a file that holds the value.
#
# One NAME=value a line; comments are lines of their own. A value is taken literally: $, #, = and \\ mean nothing.
# Blanks around it don't count, unless it is in quotes: NAME='value' or NAME="value". Only the outer pair of quotes is
# removed; quotes inside are part of the value. Put a value that begins with a quote in quotes.

# The OAuth client, from the provider's developer settings. The redirect URI is https, or http on localhost.
# BREEZEDOC_CLIENT_ID=
# BREEZEDOC_CLIENT_SECRET=
# BREEZEDOC_REDIRECT_URI=http://localhost:8700/auth/breezedoc/callback

# What seals tokens: id:base64(32 bytes), comma-separated; the first seals, all open.
# Without it every connection is lost.
ENCRYPTION_KEYS={encryption_keys}
# All that the web process needs in place of them: breezesync keys sealing-key prints it.
# SEALING_KEY=
# Keys that are lost for good, by id, comma-separated: without them a worker starts all the same.
# WITHOUT_KEYS=

# A HashiCorp Vault or OpenBao (https) whose transit engine wraps the data keys in place of the first key: its URL, our
# token, and the name of the engine's key.
# VAULT_ADDR=
# VAULT_TOKEN=
# VAULT_TRANSIT_KEY=
# VAULT_TRANSIT_MOUNT=transit
# VAULT_NAMESPACE=
# VAULT_CACERT=

# What signs connect links (HS256, 32 bytes or more); the application needs the same. Comma-separated during a change.
CONNECT_SECRET={connect_secret}

# What an operator signs in with at /operator/, and the bearer token of its API.
OPERATOR_TOKEN={operator_token}

# Where the web process answers health checks and metrics; empty for nowhere. Never make it public.
# OPERATOR_ADDRESS=127.0.0.1:8701

# Where a worker or scheduler shows its metrics; each on one machine needs an address of its own. Never make it public.
# METRICS_ADDRESS=127.0.0.1:9102

# The proxies whose X-Forwarded-For and X-Forwarded-Proto the web process believes: networks, comma-separated.
# TRUSTED_PROXIES=10.0.0.0/8

# Origins that a link's return_to may name, comma-separated.
# RETURN_ORIGINS=https://app.example.com

# Who says that a browser is the link's user's: application (it confirms each authorization; the safest), page (a person
# reads and clicks) or off (no one does: see docs/security.md). APP_NAME is what our pages call the application.
# CONNECT_CONFIRMATION=page
# APP_NAME=

# Who may use the gateway: NAME:SHA256 with what the key may do, comma-separated. breezesync gateway-key NAME makes one.
# GATEWAY_KEYS=

# DATABASE_URL=sqlite:///var/breezesync.db
# DATABASE_URL=postgresql+psycopg://user:password@host/breezesync
# REDIS_URL=redis://127.0.0.1:6379/0

# Profiles in config/providers/; any value of one can be set here as NAME_FIELD, for example BREEZEDOC_API_URL.
# PROVIDERS=breezedoc

# How often a connection is read, and how often due work is claimed.
# SYNC_INTERVAL=15m
# SWEEP_INTERVAL=1s

# Redis streams, and about how many entries each keeps.
# EVENTS_STREAM=breezesync:events
# RECORDS_STREAM=breezesync:records
# COMMANDS_STREAM=breezesync:commands
# EVENTS_MAXLEN=1000000
# RECORDS_MAXLEN=1000000
"""


def write_env(path: Path) -> None:
    """Write the file, readable by its owner alone from the first moment.

    Raises FileExistsError, and changes nothing, if anything is there already, a link to nowhere included. A file that
    could not be written whole is removed.
    """
    content = _text.format(
        encryption_keys=new_key(new_key_id()).line().reveal(),
        connect_secret=secrets.token_urlsafe(48),
        operator_token=secrets.token_urlsafe(32),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
