# rps-limiter: every way to build, run and check it. `make` alone shows this list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
COMPOSE ?= docker compose
# Reads .env, also one with the line ends of Windows, as compose does.
READ_ENV := set -a; if grep -qs $$'\r' .env; then . <(tr -d '\r' <.env); elif [ -f .env ]; then . ./.env; fi; set +a;
export PYTHONPATH := project/src:project
# Where the machine says otherwise, each process that is started would compile all modules anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[36m%-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- deployment (compose) -------------------------------------------------------------------------------------------
.PHONY: up up-demo down restart logs
up: ## start everything in compose (migrations run first, once)
	deploy/prepare.sh
	$(COMPOSE) up --build --detach --wait

up-demo: ## the same beside a stand-in platform; makes its .env itself
	deploy/prepare.sh demo
	$(COMPOSE) --profile demo up --build --detach --wait

down: ## stop compose, keep the data
	$(COMPOSE) --profile demo --profile monitoring down

restart: ## restart the limiter replicas, with the settings they have; a changed .env takes `make up`
	$(COMPOSE) restart limiter

logs: ## follow the limiter's logs
	$(COMPOSE) logs --follow --tail 200 limiter

# --- this machine ---------------------------------------------------------------------------------------------------
.venv/installed: requirements.txt requirements-dev.txt project/dev/install.sh
	project/dev/install.sh
	@touch $@

.PHONY: install run migrate trigger doctor status explain demo
install: .venv/installed ## everything needed, in .venv (and Debian packages when missing)

migrate: install ## alembic upgrade head, with the environment from .env
	$(READ_ENV) .venv/bin/alembic upgrade head

run: install ## one replica, with the environment from .env
	$(READ_ENV) exec $(PY) project/src/main.py

trigger: install ## run a job by hand: make trigger JOB=idle_enforce [COMMAND=run|pause|resume]
	$(READ_ENV) $(PY) -m limiter.ctl "$(or $(COMMAND),run)" "$(JOB)"

doctor: install ## whether everything a replica needs is there, with the environment from .env
	$(READ_ENV) $(PY) -m limiter.ctl doctor

status: install ## who is next, jobs, commands, readings: as text
	$(READ_ENV) $(PY) -m limiter.ctl status

explain: install ## why a model is treated as it is: make explain MODEL=name
	$(READ_ENV) $(PY) -m limiter.ctl explain "$(MODEL)"

demo: install ## the main job on this machine, in about two minutes, without Docker
	$(PY) -m dev.demo

# --- checks ---------------------------------------------------------------------------------------------------------
.PHONY: unit test check format generated model faults upgrade-test soak load replay day mutants compare steady bench alerts dashboards browser-test deployment-test lock
unit: install ## the tests that need no server, in half a minute
	$(PY) -m pytest project/tests/unit --numprocesses 2 --dist worksteal

# What breaks servers is measured in seconds, so it does not run beside everything else.
test: install ## all tests, against private Postgres, pgbouncer and RabbitMQ
	$(PY) -m pytest -m "not chaos" --ignore project/tests/browser --numprocesses 3 --dist worksteal
	$(PY) -m pytest project/tests/chaos --numprocesses 3 --dist worksteal

browser-test: install ## the status page in headless Chromium: make browser-test [PICTURES=folder]
	project/dev/install.sh chromium
	.venv/bin/pip install --quiet --requirement requirements-extra.txt
	PICTURES="$(PICTURES)" $(PY) -m pytest project/tests/browser --numprocesses 2

model: install ## the protocol's models, with and without each safeguard, checked by spin: make model [TRAIL=WITHOUT_FENCE]
	@dpkg --status spin gcc libc6-dev >/dev/null 2>&1 || project/dev/install.sh spin gcc libc6-dev
	TRAIL="$(TRAIL)" $(PY) -m dev.model

faults: install ## three replicas under seeded faults: FAULT_SEEDS=1,2 FAULT_SECONDS=180 make faults
	$(PY) -m dev.chaos.run

upgrade-test: install ## the last release beside this version, migrated under load: FROM=tag UPGRADE_SECONDS=120 make upgrade-test
	FROM="$(FROM)" UPGRADE_SECONDS="$(UPGRADE_SECONDS)" $(PY) -m dev.chaos.upgrade

soak: install ## memory and connections under fast ticks and faults: SOAK_SECONDS=1800 make soak
	$(PY) -m dev.chaos.soak

load: install ## the service before a slow, failing platform: LOAD_SECONDS=600 LOAD_MODELS=10000 LOAD_REPLICAS=1 make load
	LOAD_SECONDS="$(LOAD_SECONDS)" LOAD_MODELS="$(LOAD_MODELS)" LOAD_REPLICAS="$(LOAD_REPLICAS)" $(PY) -m dev.chaos.load

replay: install ## a recording under the settings of .env: make replay FILE=docs/day.jsonl.gz [AGAINST=other.env]
	$(READ_ENV) $(PY) -m limiter.replay "$(FILE)" "$(AGAINST)" "$(PICTURE)"

day: install ## make a synthetic day of 1000 models, recorded, to replay: make day FILE=/tmp/day.jsonl
	$(PY) -m dev.studies.synthetic_day "$(FILE)"

mutants: install ## break domain/ in every small way, and see whether its tests notice
	.venv/bin/pip install --quiet --requirement requirements-extra.txt
	$(PY) -m dev.studies.mutants

compare: install ## our scaling beside HPA's and Knative's: make compare [TRACE=calls.csv TARGET=1.5] [JSON=points.json]
	[ -z "$(PICTURES)" ] || .venv/bin/pip install --quiet --requirement requirements-extra.txt
	TRACE="$(TRACE)" TARGET="$(or $(TARGET),10)" JSON="$(JSON)" PICTURES="$(PICTURES)" SETTINGS='$(SETTINGS)' $(PY) -m dev.studies.scaler_comparison

steady: install ## how often we change direction under a day of each constant load
	$(PY) -m dev.studies.constant_load

bench: install ## what the work costs beside peers and limits: make bench [AGAINST=commit] [SIZES=1000,10000]
	AGAINST="$(AGAINST)" SIZES="$(SIZES)" $(PY) -m dev.bench

alerts: ## the alerts' tests and the sample of routes, by promtool and amtool (Debian packages)
	project/dev/install.sh prometheus prometheus-alertmanager
	promtool test rules deploy/prometheus/rules.test.yml
	promtool check config deploy/prometheus/prometheus.yml
	amtool check-config deploy/alertmanager/alertmanager.yml
	amtool config routes test --config.file=deploy/alertmanager/alertmanager.yml --verify.receivers=night \
	    alertname=RpsLimiterDown severity=critical
	amtool config routes test --config.file=deploy/alertmanager/alertmanager.yml --verify.receivers=morning \
	    alertname=RpsLimiterFlapping severity=warning

dashboards: install ## every panel's query in a real Prometheus, beside what it must show: make dashboards [PICTURE=a.png]
	project/dev/install.sh prometheus
	[ -z "$(PICTURE)" ] || .venv/bin/pip install --quiet --requirement requirements-extra.txt
	PICTURE="$(PICTURE)" $(PY) -m dev.dashboards

deployment-test: install ## build the images and run the compose file: kill a replica, restart the broker; by Docker or podman
	.venv/bin/pip install --quiet --requirement requirements-extra.txt
	$(PY) -m dev.deployment

lock: ## pin requirements.txt with the hash of every file, for the images
	python3 -m venv .local/lock
	.local/lock/bin/pip install --quiet pip-tools==7.6.2
	CUSTOM_COMPILE_COMMAND="make lock" .local/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file requirements.lock requirements.txt

format: install ## let black and ruff put the code in order
	.venv/bin/ruff check --quiet --fix project
	.venv/bin/black --quiet project

generated: install ## write what is made of other files: docs/asyncapi.yaml, the PrometheusRule of deploy/kubernetes
	$(PY) -m dev.generated

check: install ## black, flake8, ruff, mypy strict, import directions
	.venv/bin/black --check --quiet project
	.venv/bin/flake8 project
	.venv/bin/ruff check --quiet project
	PYTHONPATH= .venv/bin/mypy project/src/main.py project/src/limiter project/dev project/tests project/migrations
	.venv/bin/lint-imports
