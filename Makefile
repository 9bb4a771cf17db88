# Two commands do everything: `make up` and `make test`. The rest is for those who change the code.
.DEFAULT_GOAL := help
.PHONY: help install up down test check bench proto clean
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

help: ## what each target does
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

$(VENV)/.installed: pyproject.toml constraints.txt
	@packaging/install-product --python $(PYTHON) --venv $(VENV)

install: $(VENV)/.installed ## product environment (.venv)

proto: install ## regenerate the committed stubs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. protos/v1/*.proto
