# Everything from nothing: only Python 3.11+, pip and git are needed. See README.md.
# Debian's own Python is built with optimisations: where it is new enough it serves better than one built by hand.
SYSTEM_PYTHON := $(shell /usr/bin/python3 -c 'import sys; print("/usr/bin/python3" if sys.version_info >= (3, 11) else "")' 2>/dev/null)
PYTHON ?= $(or $(SYSTEM_PYTHON),python3)
UV := .tools/bin/uv
export UV_PYTHON_DOWNLOADS = never
ARGS ?=
PYTEST ?= .venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder
COVERED := .venv/bin/coverage run -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo test test-services test-live check catalogue coverage coverage-report bench clean

setup: .venv/.ready

.tools/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target .tools uv

.venv/.ready: uv.lock pyproject.toml | $(UV)
	$(UV) sync --quiet --locked --python $(PYTHON)
	@touch $@

# PagerDuty's client as many still run it: two versions do not fit into one environment.
.tools/pagerduty-5.3/.ready: | .venv/.ready
	$(UV) pip install --quiet --python .venv/bin/python --target .tools/pagerduty-5.3 pagerduty==5.3.0
	@touch $@

# The official MCP client of the first generation, likewise.
.tools/mcp-1.30/.ready: | .venv/.ready
	$(UV) pip install --quiet --python .venv/bin/python --target .tools/mcp-1.30 mcp==1.30.0
	@touch $@

# MCP's conformance tests, where there is npm: the release, the first that knows the newest revision, and the node they need.
.tools/conformance/.ready:
	npm install --silent --no-save --no-audit --no-fund --prefix .tools/conformance node@22.23.3 \
		release@npm:@modelcontextprotocol/conformance@0.1.16 next@npm:@modelcontextprotocol/conformance@0.2.0-alpha.12
	@touch $@

# A certified OIDC provider, for the tests of signing in by one. It runs on the node of the conformance tests.
.tools/oidc-provider/.ready:
	npm install --silent --no-save --no-audit --no-fund --prefix .tools/oidc-provider oidc-provider@9.13.3
	@touch $@

CLIENTS := .tools/pagerduty-5.3/.ready .tools/mcp-1.30/.ready \
	$(if $(shell command -v npm),.tools/conformance/.ready .tools/oidc-provider/.ready)

demo: setup
	.venv/bin/python manage.py demo $(ARGS)

test: setup $(CLIENTS)
	$(PYTEST)

# What test-services leaves out first, for it asks no database and no Redis of the settings' (tests/test_layers.py sees to it), and
# would only prove once more what `make test` has: the pure core and analyses, requests and answers, the simulated PagerDuty, the
# published schema. Browsers see the pages that the other tests get from PostgreSQL; and an outage's PostgreSQL is its own.
WITHOUT_SERVICES := tests/browser tests/live tests/test_layers.py tests/gateway/test_client_address.py \
	$(addprefix tests/policies/test_,chain.py decide.py redact.py) \
	$(addprefix tests/integrations/test_,catalog.py diagnose.py listing.py load.py load_worlds.py log_reading.py masking.py optimise.py \
	optimise_policies.py outbound.py refusals.py resolve.py response.py \
	sandbox.py sandbox_analytics.py sandbox_incidents.py sandbox_schedules.py sandbox_services.py sandbox_webhooks.py \
	schema_diff.py schema_examples.py stress.py tools_reads.py tools_slim.py tools_writes.py transport.py worlds.py)
OUTAGES := $(addprefix tests/gateway/test_database_away.py::test_,\
	reads_go_on_and_writes_do_not_where_an_administrator_chose_so \
	by_default_everything_stops_and_what_was_under_way_is_on_record \
	a_process_killed_while_the_database_is_away_leaves_its_spool_to_the_next \
	where_somebody_holds_sqlite_locked_reads_go_on_too)

# What they prove is what a request may be and what its answer may hold, judged before any database is asked and alike on
# both. What the door records of calls is proved on the services by the other files of tests/gateway.
AT_THE_DOOR := $(addprefix tests/gateway/test_,bounds.py canaries.py every_tool.py fuzz.py includes.py mcp_clients.py \
	mcp_conformance.py mcp_fuzz.py mcp_parity.py official_server.py proxy.py smuggling.py)

# A minute that would prove of an export what it has proved of the same code on SQLite.
LONG := tests/portal/test_audit_proof.py::test_a_long_journal_is_exported_and_verified_in_constant_memory

# The same tests on PostgreSQL and Redis, which must run on this machine (127.0.0.1, ports 5432 and 6379).
test-services: setup $(CLIENTS)
	DATABASE_URL=$${DATABASE_URL:-postgres://postgres@127.0.0.1:5432/pagewarden} \
	REDIS_URL=$${REDIS_URL:-redis://127.0.0.1:6379/0} \
	$(PYTEST) $(addprefix --ignore=,$(WITHOUT_SERVICES) $(AT_THE_DOOR)) $(addprefix --deselect=,$(OUTAGES) $(LONG))

# Every read once against a true account: docs/live-test.md.
test-live: setup
	@.venv/bin/python -m tests.live $(ARGS)

check: setup
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	git ls-files -z 'templates/*.html' | xargs -0 -r .venv/bin/djade --check
	PAGEWARDEN_ENV_FILE=tests/environment .venv/bin/python manage.py makemigrations --check --dry-run

# What follows from catalog.toml: docs/adding-a-tool.md.
catalogue: setup
	PAGEWARDEN_ENV_FILE=tests/environment .venv/bin/python manage.py catalogue $(ARGS)
	test -z "$$PAGERDUTY_SCHEMA_DIR" || .venv/bin/python -m tests.schema_examples "$$PAGERDUTY_SCHEMA_DIR"

# Of the pure core and of the one way in, from whatever tests are run under coverage. The power cuts are left out here: a
# killed process writes no data.
coverage: setup $(CLIENTS)
	rm -f .coverage .coverage.*
	$(COVERED) tests/policies tests/integrations tests/gateway --deselect tests/gateway/test_power_cut.py
	$(MAKE) coverage-report

coverage-report:
	.venv/bin/coverage combine -q
	.venv/bin/coverage report -m --include 'policies/core/*' --fail-under 90
	.venv/bin/coverage report -m --include 'integrations/gateway/*' --fail-under 90

bench: setup
	.venv/bin/python -m tests.benchmarks.doors $(ARGS)
	.venv/bin/python -m tests.benchmarks.mcp $(ARGS)

clean:
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis staticfiles data
