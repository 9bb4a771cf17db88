# Two commands do everything: `make up` and `make test`. The rest is for those who change the code.
.DEFAULT_GOAL := help
.PHONY: help install engine up down test check bench dist lock proto clean
# make ... PYTHON=python3.12 takes another Python than the one packaging/ finds
WITH_PYTHON := $(if $(PYTHON),--python $(PYTHON))
BIN := .venv/bin
# make bench ... BUILD=compiled measures the compiled build
BENCH_PYTHON := $(if $(filter compiled,$(BUILD)),PYTHONSAFEPATH=1 .venv-compiled,.venv)/bin/python

help: ## what each target does
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1 \2/p' Makefile | sed 's/^  make \([a-z]*\) /  make \1\t/' | expand -t 16

install: ## product environment, .venv
	@packaging/install-product $(WITH_PYTHON) --venv .venv

engine: ## engine environment with vLLM, .venv-engine
	@packaging/engine/install $(WITH_PYTHON) --venv .venv-engine

up: install engine ## start a real fleet of five sites on this machine and show what goes where
	@$(BIN)/edgeforge up --detach $(if $(ENGINES),--engines $(ENGINES))

down: ## stop it
	@$(BIN)/edgeforge down

check: install ## format, lint, types, imports, stubs, unit, property and simulation tests
	@packaging/check

test: check engine ## everything, the real vLLM and the compiled build included
	@packaging/test-compiled
	@$(BIN)/pytest -n 3 --dist loadfile -m "not alone" tests/integration tests/clients
	@$(BIN)/pytest -m alone tests/integration

bench: install ## make bench BENCH=name prints a table and writes .bench/name.json
	$(if $(filter compiled,$(BUILD)),@packaging/install-compiled)
	@$(BENCH_PYTHON) -m tests.bench.$(subst -,_,$(BENCH)) $(if $(SECONDS),--seconds $(SECONDS))

dist: install ## all that hosts install, into dist/: wheels, requirements with hashes, installers
	@packaging/build-wheels

lock: ## requirements with hashes from pyproject.toml and constraints.txt
	@packaging/lock

proto: install ## regenerate the committed stubs
	@packaging/proto .

clean: ## remove environments and caches; a running fleet is stopped first
	@test ! -x $(BIN)/edgeforge || $(BIN)/edgeforge down
	@rm -rf .venv .venv-engine .venv-compiled dist .edgeforge .cache .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
