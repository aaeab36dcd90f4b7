SHELL := /bin/bash
.DEFAULT_GOAL := help

BIN := .venv/bin
STAMP := .venv/installed
NODE_TOOLS := node_modules/.asyncapi-parser-3.6.6-axe-core-4.14.1
COMPOSE = $(shell if docker compose version >/dev/null 2>&1; then echo docker compose; else echo docker-compose; fi)
UV = $(shell command -v uv || echo $(BIN)/uv)
# Four at a time: tests mostly wait. AT_ONCE= runs them one after another.
AT_ONCE = -n 4 --dist loadfile --no-loadscope-reorder
PYTEST = $(BIN)/python -m pytest $(AT_ONCE)
# Without its cache each of the hundreds of processes that tests start, and pytest too, compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE
FAST = tests/unit tests/config tests/torture/chaos/test_verdict.py
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(LOCK_FLAGS) pyproject.toml

.PHONY: help install audit licences sbom fuzz run demo example test test-fast interop test-model bench bench-sync bench-scale bench-gateway chaos outage mass-refusal fleet-trial gateway-trial canary check format up roll down demo-compose cli secrets lock clean docs lint-docs types site check-alerts soak screenshots

help: ## Show what there is to type
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with everything a developer needs

# If the environment is missing, or older than the lock file. The project itself runs from the checkout.
$(STAMP): requirements-dev.txt
	@set -e; \
	if [ ! -x $(BIN)/pip ]; then \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "breezesync needs Python 3.11 or newer; python3 here is: $$(python3 --version 2>&1)." >&2; \
	    echo "Install one, or name it: make install PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	  fi; \
	  $$found -m venv --clear .venv; \
	fi
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@echo '$(CURDIR)' >"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/breezesync.pth"
	@printf '#!/bin/sh\nexec env PYTHONSAFEPATH=1 "%s/$(BIN)/python" -m worker "$$@"\n' '$(CURDIR)' >$(BIN)/breezesync
	@chmod 755 $(BIN)/breezesync
	@touch $@

run: $(STAMP) ## Run everything on this machine, with the sandbox as provider; Ctrl-C stops it
	@exec $(BIN)/breezesync run

demo: $(STAMP) ## Play one user's whole life in under a minute, and see every step happen
	@exec $(BIN)/python -m sandbox.demo

example: $(STAMP) ## Run the example application beside make run, on port 8710; Ctrl-C stops it
	@exec $(BIN)/python docs/examples/start.py

test: $(STAMP) ## Run the tests, against real PostgreSQL, Valkey and SQLite
	$(PYTEST) $(ARGS)

test-fast: $(STAMP) ## Run the tests that need no server, in less than 20 seconds
	$(PYTEST) -q $(FAST) $(ARGS)

test-model: $(STAMP) ## Sync accounts that change meanwhile, with workers that die; SEEDS=300 tries that many
	MODEL_SEEDS=$(or $(SEEDS),100) $(BIN)/python -m pytest -q tests/flows/test_sync_model.py

bench: $(STAMP) ## Measure beside Celery with Authlib, and beside a floor, in ten minutes: ARGS='--json FILE'
	@$(BIN)/python -m tests.bench $(ARGS)

bench-sync: $(STAMP) ## Print the figures of a sync: the limit used, a large account, its neighbours (half an hour)
	$(BIN)/python -m tests.bench.sync $(ARGS)

bench-scale: $(STAMP) ## Run 200,000 connections on this machine for ten minutes, and print how late their jobs were
	@mkdir -p var
	@$(BIN)/python -m tests.bench.scale --json var/fleet.json $(ARGS)

bench-gateway: $(STAMP) ## Measure a call through the gateway beside one through a minimal proxy, in two minutes
	@$(BIN)/python -m tests.bench.gateway $(ARGS)

interop: $(STAMP) ## Rotate 500 times at django-oauth-toolkit with everything breaking, twice, and print what came of it
	INTEROP_ROTATIONS=500 $(BIN)/python -m pytest -q tests/torture/interop

chaos: $(STAMP) ## Break a fleet at random and count violations: SEED=7 FAULTS=2000 DATABASE=postgresql
	$(BIN)/python -m tests.torture.chaos --seed $(or $(SEED),1) --faults $(or $(FAULTS),200) --database $(or $(DATABASE),sqlite) $(ARGS)

outage: $(STAMP) ## Put the token endpoint out for half an hour in every way, for 1,000 connections, and print what it cost
	$(BIN)/python -m tests.torture.outage $(ARGS)

mass-refusal: $(STAMP) ## Re-key the provider of 5,000 connections, restore its database, let 3 % revoke, and print who was told
	$(BIN)/python -m tests.torture.mass_refusal $(ARGS)

fleet-trial: $(STAMP) ## Break a fleet in Docker part by part while users come, and print what it cost: CONNECTIONS=1000 DOWN=600
	$(BIN)/python -m tests.torture.fleet --connections $(or $(CONNECTIONS),200) --down $(or $(DOWN),60) $(ARGS)

gateway-trial: $(STAMP) ## Kill gateways and workers under clients that ask for tokens and calls: SECONDS=120 SEED=1 CLIENTS=50
	$(BIN)/python -m tests.torture.gateway --seconds $(or $(SECONDS),120) --seed $(or $(SEED),1) --clients $(or $(CLIENTS),50) $(ARGS)

canary: $(STAMP) ## Play a life full of trouble, and look for its secrets and contents in logs, dead letters, the audit …
	$(BIN)/python -m tests.torture.canary

# Types, the site and the audit run beside the first tests, which mostly wait; what they say comes last.
check: $(STAMP) ## Run all that CI runs: format, lint, types, imports, tests with their coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory lint-docs
	@mkdir -p build; $(MAKE) --no-print-directory --output-sync types site audit >build/checks.log 2>&1 & checks=$$!; \
	$(PYTEST) --cov --cov-report=term-missing:skip-covered; tests=$$?; \
	wait $$checks; checks=$$?; cat build/checks.log; exit $$((tests ? tests : checks))

fuzz: $(STAMP) .venv/fuzz ## Give 20,000 random inputs to every door, and print what they did: SEED=7 COUNT=1000
	$(BIN)/python -m tests.torture.fuzz --seed $(or $(SEED),1) --count $(or $(COUNT),20000) $(ARGS)

.venv/fuzz: requirements-fuzz.txt $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.txt
	@touch $@

types: $(STAMP) ## Check the types: mypy --strict on everything
	$(BIN)/mypy

audit: $(STAMP) ## Ask the index for known vulnerabilities of what we pin; without one it says so
	@$(BIN)/python -m tests.supply_chain audit

licences: $(STAMP) ## List every package with its licence; refuse one that asks for more than a notice without a reason
	@$(BIN)/python -m tests.supply_chain licences

sbom: $(STAMP) ## Write a CycloneDX bill of materials of what production installs: dist/breezesync.cdx.json
	@$(BIN)/python -m tests.supply_chain sbom

soak: $(STAMP) ## Publish the events of 50,000 changes while processes are killed and Redis is emptied; some minutes
	$(BIN)/python -m tests.torture.soak $(ARGS)

screenshots: $(STAMP) ## Take the documents' pictures of the operator's page, with the sandbox as provider
	@$(BIN)/python -m tests.screenshots

docs: $(STAMP) ## Write what the documents say of events, commands and jobs, read off the code
	$(BIN)/python docs/generate.py

site: $(STAMP) .venv/site/installed ## Build the documentation as a site into build/site; a link that leads nowhere fails
	@NO_MKDOCS_2_WARNING=1 .venv/site/bin/mkdocs build --quiet --strict
	@echo "The site is in build/site: open build/site/index.html"

.venv/site/installed: requirements-site.txt $(STAMP)
	@$(BIN)/python -m venv --clear .venv/site
	@.venv/site/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-site.txt
	@touch $@

check-alerts: ## Test the Prometheus rules with promtool (Debian's package prometheus has it)
	cd deploy/observability && promtool check config prometheus.yml && promtool test rules alerts_test.yml

lint-docs: $(STAMP) ## Check docs/asyncapi.yaml against the code and, with Node, AsyncAPI's own parser
	$(BIN)/python docs/generate.py --check
	@if ! command -v npm >/dev/null; then \
	  echo "No Node here: AsyncAPI's own parser does not check docs/asyncapi.yaml." >&2; [ "$$CI" != true ]; \
	elif ! $(MAKE) --no-print-directory $(NODE_TOOLS); then \
	  echo "npm can't install AsyncAPI's parser: it does not check docs/asyncapi.yaml." >&2; [ "$$CI" != true ]; \
	else node docs/lint.mjs docs/asyncapi.yaml; fi

# Of AsyncAPI the parser, which checks docs/asyncapi.yaml; axe-core checks the pages in tests/journey.
$(NODE_TOOLS):
	@npm install --silent --prefix . --no-save --no-package-lock --no-audit --no-fund --ignore-scripts @asyncapi/parser@3.6.6 axe-core@4.14.1
	@touch $@

format: $(STAMP) ## Format the code, and fix what lint can fix
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

WORKERS := 3
SCHEDULERS := 2
WEBS := 1
# Several webs are behind a proxy with TLS, and none has a port that is known.
ifneq ($(WEBS),1)
PUBLIC := https://localhost:$(or $(PROXY_PORT),8443)
READY := docker ps shows which web is healthy
ENTRY := web proxy
TLS = secrets/tls_certificate secrets/tls_key
up: export COMPOSE_FILE := $(or $(COMPOSE_FILE),docker-compose.yml$(addprefix :,$(wildcard docker-compose.override.yml))):deploy/proxy/compose.yml
up: export WEB_PORT :=
up: export OPERATOR_PORT :=
up: export BREEZEDOC_REDIRECT_URI := $(or $(BREEZEDOC_REDIRECT_URI),$(PUBLIC)/auth/breezedoc/callback)
else
PUBLIC := http://127.0.0.1:8700
READY := http://127.0.0.1:8701/readyz says whether it is ready
ENTRY := web
endif

up: $(TLS) secrets/sealing_key ## Start a fleet in Docker: WORKERS=3, SCHEDULERS=2, WEBS=2 (behind TLS), PROFILES=observability; again with others scales it
	@$(RECORD) >secrets/fleet.new && mv secrets/fleet.new secrets/fleet
	env $(STAMPED) $(COMPOSE) $(SANDBOX) $(ACTIVE) up --detach --build --remove-orphans \
	  --scale worker=$(WORKERS) --scale scheduler=$(SCHEDULERS) --scale web=$(WEBS)
	@printf 'Waiting for web '; for _ in $$(seq 120); do \
	  state=$$(docker inspect --format '{{.State.Health.Status}}' $$($(COMPOSE) ps -q $(ENTRY)) 2>/dev/null | sort -u | xargs); \
	  if [ "$$state" = healthy ]; then break; fi; printf .; sleep 1; \
	done; echo " $$state"; [ "$$state" = healthy ]
	@echo "Up: $(PUBLIC); $(READY)"
	@if [ -n "$(SANDBOX)" ]; then echo "The sandbox plays BreezeDoc, on http://127.0.0.1:8799. For the real one: your client's id" \
	  "and secret into secrets/breezedoc_client_id and secrets/breezedoc_client_secret, and make up again."; fi

roll: secrets ## Replace the processes of a running fleet one by one with this version: nothing is lost, and no user notices
	@set -a; $(AS_LAST_UP); $(MAKE) --no-print-directory secrets/sealing_key && $(COMPOSE) $(SANDBOX) build --quiet && \
	  env $(STAMPED) deploy/roll.sh $(COMPOSE) $(SANDBOX)

demo-compose: up ## Play the demo against the fleet in Docker, with the sandbox as provider
	@if [ -z "$(SANDBOX)" ]; then echo "The demo needs the sandbox, and this fleet has a real client." >&2; exit 1; fi
	$(COMPOSE) $(SANDBOX) run --rm --no-deps $(NO_TERMINAL) demo

cli: secrets ## Run a breezesync command in the fleet in Docker: ARGS='explain CONNECTION'
	@set -a; $(AS_LAST_UP); $(COMPOSE) $(SANDBOX) run --rm --no-deps $(NO_TERMINAL) cli $(ARGS)

down: secrets ## Stop the fleet; its data stays
	@set -a; $(AS_LAST_UP); \
	  $(COMPOSE) --env-file docker-compose.sandbox.env --profile sandbox --profile observability down --remove-orphans

# What `make up` was given, so that `make cli`, `make roll` and `make down` mean the same fleet: in secrets/fleet.
FLEET_VARIABLES = COMPOSE_PROJECT_NAME COMPOSE_FILE COMPOSE_PROFILES \
  $(filter-out SECRETS_SUM %_IMAGE,$(shell cat docker-compose.yml deploy/*/compose.yml 2>/dev/null | grep -oE '\$$\{[A-Z_]+' | tr -d '$${' | sort -u))
RECORD = for name in $(FLEET_VARIABLES); do if [ -n "$${!name+set}" ]; then printf '%s=%q\n' "$$name" "$${!name}"; fi; done
AS_LAST_UP = if [ -f secrets/fleet ]; then . secrets/fleet; fi
STAMPED = SECRETS_SUM="$$(cat $(SECRETS) secrets/sealing_key $$(ls secrets/tls_* 2>/dev/null) | cksum)" $(PINNED)
# Compose expects a terminal unless it is given -T.
NO_TERMINAL = $(shell [ -t 0 ] || echo -T)
# The sandbox takes part for as long as the client is the one that only the sandbox knows.
SANDBOX = $(shell if grep -qx sandbox-client secrets/breezedoc_client_id; then echo --env-file docker-compose.sandbox.env; fi)
# A profile on the command line takes the place of COMPOSE_PROFILES in the file of the sandbox's environment.
ACTIVE = $(if $(PROFILES),$(foreach profile,$(PROFILES) $(if $(SANDBOX),sandbox),--profile $(profile)))
# Images by their digests. One that was built on this machine, and not pulled, has none: it is taken by its tag.
PINNED = $(shell sed -nE 's/^  ([A-Z]+_IMAGE): (([^@]+)@.*)/\1 \2 \3/p' docker-compose.yml | while read -r name pinned tag; do \
  [ "$$(docker image inspect --format '{{len .RepoDigests}}' "$$tag" 2>/dev/null)" = 0 ] || echo "$$name=$$pinned"; done)
RANDOM_BASE64 = head -c 32 /dev/urandom | base64 | tr -d '\n'
RANDOM_HEX = head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
# Each has a role of its own in the database and a user of its own in Redis.
PROCESSES := web worker scheduler gateway cli application
DATABASE_URLS := $(PROCESSES:%=secrets/%_database_url)
REDIS_URLS := $(PROCESSES:%=secrets/%_redis_url)
SECRETS := $(addprefix secrets/,postgres_password migrate_database_url database_roles redis_health_password redis_users \
  encryption_keys connect_secret operator_token gateway_key gateway_keys grafana_password breezedoc_client_id breezedoc_client_secret) $(DATABASE_URLS) $(REDIS_URLS)

secrets: $(SECRETS) ## Write the secrets of a fleet into secrets/, never over an existing one; NEW_KEY=yes if the key is lost

# Compose mounts each file as it is, and the user in the container is not its owner here: so the files can be read by
# all, and the directory around them can be entered by its owner only.
$(SECRETS): | secrets/.
	@umask 022; set -o pipefail; { $(VALUE); } >$@.new && mv $@.new $@
secrets/.:
	@mkdir -m 700 secrets

secrets/postgres_password secrets/connect_secret secrets/operator_token secrets/grafana_password secrets/gateway_key \
  secrets/redis_health_password: VALUE = $(RANDOM_HEX)
# Each key has an id of its own: under the id of a lost one, another key would pass for it.
secrets/encryption_keys: VALUE = $(REFUSE_NEW_KEY); printf 'k%s:' "$$(head -c 3 /dev/urandom | od -An -v -tx1 | tr -d ' \n')" && $(RANDOM_BASE64)
# The database of this directory's fleet, as Compose names its volume.
DATABASE_VOLUME = $(or $(COMPOSE_PROJECT_NAME),$(shell basename '$(CURDIR)' | tr '[:upper:]' '[:lower:]' | tr -cd 'a-z0-9_-'))_postgres
REFUSE_NEW_KEY = if [ -z "$(NEW_KEY)" ] && docker volume inspect $(DATABASE_VOLUME) >/dev/null 2>&1; then \
  rm -f $@.new; { echo "secrets/encryption_keys is missing, and the volume $(DATABASE_VOLUME) has a database: a new key opens nothing in it."; \
    echo "Put the file back from your copy. If it is lost for good: make secrets NEW_KEY=yes, and see Lost in docs/keys.md."; } >&2; exit 1; fi
# An application's key of the gateway, and what the gateway has of it: it reads, and gets no token. Edit the latter.
secrets/gateway_keys: VALUE = printf 'application:' && { sha256sum 2>/dev/null || shasum -a 256; } <secrets/gateway_key | cut -c 1-64
secrets/gateway_keys: | secrets/gateway_key
secrets/breezedoc_client_id: VALUE = printf sandbox-client
secrets/breezedoc_client_secret: VALUE = printf sandbox-secret
secrets/migrate_database_url: VALUE = printf 'postgresql+psycopg://breezesync:%s@postgres:5432/breezesync' "$$(cat secrets/postgres_password)"
secrets/migrate_database_url: | secrets/postgres_password
$(DATABASE_URLS): VALUE = printf 'postgresql+psycopg://breezesync_%s:%s@postgres:5432/breezesync' $(@F:_database_url=) "$$($(RANDOM_HEX))"
$(REDIS_URLS): VALUE = printf 'redis://%s:%s@redis:6379/0' $(@F:_redis_url=) "$$($(RANDOM_HEX))"

# For this machine alone: browsers warn of it until you put a certificate of your own there.
secrets/tls_key: | secrets/.
	@umask 022; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=localhost \
	  -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout $@.new -out secrets/tls_certificate.new 2>/dev/null
	@chmod 644 $@.new && mv secrets/tls_certificate.new secrets/tls_certificate && mv $@.new $@
secrets/tls_certificate: | secrets/tls_key

# What PostgreSQL and Redis are told of these passwords, written again if one of them has changed.
secrets/database_roles: $(DATABASE_URLS)
secrets/database_roles: VALUE = for process in $(PROCESSES); do \
  sed -nE "s|.*//([^:]+):([^@]+)@.*|$$process=\1:\2|p" "secrets/$${process}_database_url" && echo; done
secrets/redis_users: config/redis_users.acl $(REDIS_URLS) secrets/redis_health_password
secrets/redis_users: VALUE = rules="$$(grep -v '^\#' config/redis_users.acl)"; for process in $(PROCESSES) health; do \
  rules="$${rules//\{$$process\}/$$($(HASH))}"; done; printf '%s\n' "$$rules"
HASH = { sed -nE 's|.*//[^:]*:([^@]+)@.*|\1|p' "secrets/$${process}_redis_url" 2>/dev/null || cat secrets/redis_health_password; } \
  | tr -d '\n' | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c 1-64

# The public half of the first encryption key, for web. Our image derives it, with what cli has, so this needs the image.
# Each time: what it was derived from may have been put back with its old date.
.PHONY: secrets/sealing_key
secrets/sealing_key: $(SECRETS)
	@env $(PINNED) $(COMPOSE) $(SANDBOX) build --quiet cli
	@umask 022; $(COMPOSE) $(SANDBOX) run --rm --no-deps -T cli keys sealing-key </dev/null >$@.new && mv $@.new $@

lock: $(STAMP) $(filter $(BIN)/uv,$(UV)) ## Pin the dependencies again; LOCK_FLAGS=--upgrade takes the newest
	$(COMPILE) --extra embedded --extra otel --group dev -o requirements-dev.txt
	$(COMPILE) -c requirements-dev.txt -o requirements.txt
	$(COMPILE) --extra otel -c requirements-dev.txt -o requirements-otel.txt
	$(COMPILE) --extra sandbox -c requirements-dev.txt -o requirements-sandbox.txt
	$(COMPILE) --extra embedded --group dev --group fuzz -c requirements-dev.txt -o requirements-fuzz.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(LOCK_FLAGS) \
	  --group pyproject.toml:site -c requirements-dev.txt -o requirements-site.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(LOCK_FLAGS) \
	  tests/bench/rival/requirements.in -o tests/bench/rival/requirements.txt

$(BIN)/uv:
	$(BIN)/pip install --quiet --disable-pip-version-check uv

clean: ## Remove .venv, caches and the local database, never secrets/ or .env
	rm -rf .venv var build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
