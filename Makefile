# `make help` lists the targets. Everything is set up in .venv; nothing needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 4
ORDINARY := 'not packaging and not chaos and not browser'

# The tests start Python some thousand times, which would compile everything each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -E '^([a-z-]+:.*## |##@)' $(MAKEFILE_LIST) | \
		sed -E 's/^##@ (.*)/\n\1/; s/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 17

$(BIN)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "redisq needs Python 3.11 or later as '$(PYTHON)'; name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "'$(PYTHON)' lacks venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

##@ Run it

.PHONY: setup
setup: $(BIN)/.ready ## Make the virtual environment

.PHONY: demo
demo: $(BIN)/.ready ## Run the main job on an embedded Redis
	$(BIN)/redisq demo

##@ Test it

.PHONY: test
test: $(BIN)/.ready ## Run the tests but for those that are there for completeness (REDISQ_TEST_SERVERS=path:path adds servers)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m $(ORDINARY) $(ARGS)

.PHONY: test-unit
test-unit: $(BIN)/.ready ## Run the tests that need no server
	$(BIN)/python -m pytest tests/unit $(ARGS)

.PHONY: test-left-out
test-left-out: $(BIN)/.ready ## Run a tenth of what `make test` leaves out (ARGS=--seed=2: another tenth)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m $(ORDINARY) --left-out --sample 0.1 --scale 0.1 $(ARGS)

.PHONY: test-all
test-all: $(BIN)/.ready ## Run all tests, on all servers, at their full counts, an hour or so
	$(BIN)/python -m pytest -n 2 -m $(ORDINARY) --full --scale 1 $(ARGS)
	$(MAKE) test-packaging test-browser test-chaos

.PHONY: test-packaging
test-packaging: $(BIN)/.ready ## Install the wheel with each extra into empty environments and run it there
	$(BIN)/python -m pytest -n 2 -m packaging $(ARGS)

.PHONY: test-browser
test-browser: $(BIN)/.ready ## Drive the gateway's page in Chromium, which has to be there (REDISQ_TEST_CHROMIUM=path)
	@for name in "$$REDISQ_TEST_CHROMIUM" chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v "$$name" >/dev/null && exit 0; done; \
		echo "the browser tests need Chromium; on Debian and Ubuntu: apt install chromium" >&2; exit 1
	$(BIN)/python -m pytest -n 2 -m browser tests/browser $(ARGS)

.PHONY: test-delivery
test-delivery: $(BIN)/.ready ## Run the delivery tests at their full counts, some minutes
	$(BIN)/python -m pytest tests/delivery --scale 1 -n 2 $(ARGS)

##@ Break it

.PHONY: test-chaos
test-chaos: $(BIN)/.ready ## Break everything around redisq for two minutes, walk it beside its model, look for planted bugs
	$(BIN)/python -m pytest -m chaos $(ARGS)

.PHONY: chaos
chaos: $(BIN)/.ready ## Break it for 20 minutes: a million messages, 240 faults; then with everysec, and the model at length
	$(BIN)/python -m tests.chaos --messages 1000000 --duration 900 --faults 240 $(ARGS)
	$(BIN)/python -m tests.chaos --appendfsync everysec
	CHAOS_EXAMPLES=3000 CHAOS_STEPS=60 $(BIN)/python -m pytest -m chaos -k behaves tests/chaos/test_model.py

.PHONY: chaos-short
chaos-short: $(BIN)/.ready ## 50,000 messages and 28 faults in under two minutes (ARGS=--seed=N repeats a schedule)
	$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: soak
soak: $(BIN)/.ready ## The same until Ctrl-C
	$(BIN)/python -m tests.chaos --forever $(ARGS)

.PHONY: mutants
mutants: $(BIN)/.ready ## Make one thing of the scripts wrong, 200 times, and see that their tests notice, an hour (ARGS=--sample=0: all)
	$(BIN)/python -m tests.mutants $(ARGS)

.PHONY: fuzz-tokens
fuzz-tokens: $(BIN)/.ready ## Try a million mutated tokens, and another million over HTTP: none may be accepted; some minutes
	TOKEN_MUTATIONS=1000000 $(BIN)/python -m pytest tests/unit/test_applications.py tests/gateway/test_mutated_tokens.py -k mutated $(ARGS)

.PHONY: fuzz-http
fuzz-http: $(BIN)/.ready ## Send the gateway 6,000 requests that Schemathesis makes up, a minute (ARGS=--fuzz-seed=2: others)
	$(BIN)/python -m pytest tests/gateway/test_schemathesis.py --scale 1 $(ARGS)

##@ Measure it

.PHONY: bench
bench: $(BIN)/.ready ## Measure redisq beside other queues, half an hour (ARGS='--only drain --peers raw,huey'; or --help)
	$(BIN)/python -m tests.benchmarks $(ARGS)

.PHONY: bench-quick
bench-quick: $(BIN)/.ready ## The same with fewer messages, once, beside redis-py and the fastest three, two minutes
	$(BIN)/python -m tests.benchmarks --quick --peers raw,huey,dramatiq,saq $(ARGS)

.PHONY: bench-batches
bench-batches: $(BIN)/.ready ## Measure a handler of batches beside one of single messages: SQLite, an fsync for each commit, minutes
	$(BIN)/python -m tests.benchmarks.batching $(ARGS)

##@ Look after it

.PHONY: lint
lint: $(BIN)/.ready ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: type
type: $(BIN)/.ready ## Check types
	$(BIN)/mypy

.PHONY: fmt
fmt: $(BIN)/.ready ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(BIN)/.ready ## Build the API reference from the docstrings into build/docs
	$(BIN)/python -m pdoc redisq --no-show-source -o build/docs

.PHONY: check
check: lint type test test-left-out test-packaging test-chaos ## All that CI checks

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
