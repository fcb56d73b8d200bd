# Two commands matter: `make demo` and `make test`. Everything installs into .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

help: ## say what can be done here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"codegemma needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}; try: make PYTHON=python3.11 demo")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[jax]"
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --editable ".[jax,tpu,wandb,scale,cloud,formats,quant,hub,language,sandbox,serve]" --group check --group test --group oracle
	@touch $@

# The demo's repository is JAX's own source, which setting up has just brought: sizeable (600 Python files, 12 MB), the same on
# every machine, permissively licensed, and unknown to the shipped base.
DEMO_REPO = "$$($(BIN)/python -c 'from importlib.util import find_spec; print(find_spec("jax").submodule_search_locations[0])')"
DEMO_MINUTES ?= 2

demo: $(VENV)/.ready ## adapt a small model to a real repository, prove it, show completions; at most 10 minutes
	$(BIN)/codegemma adapt $(DEMO_REPO) --out demo --minutes $(DEMO_MINUTES)

setup: $(VENV)/.ready ## create .venv with what the demo needs
setup-dev: $(VENV)/.ready-dev ## add what checks and tests need

setup-system: ## install what comes from the system and not from Python: the sandbox (Debian, as root)
	@command -v bwrap >/dev/null && ldconfig -p | grep -q libseccomp.so.2 || { apt-get update -q && apt-get install -y -q bubblewrap libseccomp2; }

check: $(VENV)/.ready-dev ## format, lint, strict types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config pyproject.toml

format: $(VENV)/.ready-dev ## rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.ready-dev ## all tests; of the long suites a tenth, chosen by commit hash
	$(BIN)/python -m pytest -n 2

test-all: $(VENV)/.ready-dev ## all tests, the long suites whole
	CODEGEMMA_TEST_ALL=1 $(BIN)/python -m pytest -n 2

setup-clients: vscode ## install the editors that tests/clients drives, into build/clients; needs npm, node 20 and g++
	tools/setup_clients build/clients

vscode: ## build editors/vscode/codegemma.vsix; needs npm and node 20 or newer
	cp LICENSE editors/vscode/
	cd editors/vscode && npm install --no-package-lock --no-audit --no-fund --ignore-scripts && npm run --silent package

# Every format there and back at the full size of CodeGemma 2B, on drawn weights: 15 GB of disk, a quarter of an hour.
convert-2b: $(VENV)/.ready-dev ## convert a 2B through every format and back, complete with it; into docs/convert-2b.md
	$(BIN)/python tools/convert_round.py --log docs/convert-2b.md

plan-table: $(VENV)/.ready-dev ## compile the steps of docs/plan.md again that have changed; up to an hour
	$(BIN)/python tools/plan_table.py

# The very versions that are tested here. On the other machine, of the same system and Python:
#   pip install --no-index --find-links wheelhouse -c wheelhouse/constraints.txt "codegemma[jax]"
EXTRAS ?= jax
wheelhouse: $(VENV)/.ready ## gather all packages for a machine without a network in wheelhouse/; EXTRAS=jax,cloud
	mkdir -p wheelhouse
	$(BIN)/python -m pip freeze --exclude-editable | grep == > wheelhouse/constraints.txt
	$(BIN)/python -m pip wheel --quiet --wheel-dir wheelhouse --constraint wheelhouse/constraints.txt ".[$(EXTRAS)]"
	@echo 'pip install --no-index --find-links wheelhouse -c wheelhouse/constraints.txt "codegemma[$(EXTRAS)]"'

clean: ## remove the demo's output and caches, keep .venv
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.PHONY: help setup setup-dev setup-system check format test test-all demo convert-2b wheelhouse plan-table vscode setup-clients clean
