# `make demo` and `make test` work on a machine that has Python 3.11+ and make, and nothing else.
PYTHON ?= python3
BIN := .venv/bin
# Warnings of other people's mirrors are not ours to show; a failing install still says why.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
STAMP := .venv/.installed

.PHONY: demo test check lint types layers docs campaign coverage clean constraints audit sbom

demo: $(STAMP)
	$(BIN)/pipesync demo

PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
COVERED := --cov --cov-report=term --cov-fail-under=90

test: $(STAMP)  ## what to run while working: all but kills, browsers and whole pages of commands
	$(PYTEST) $(COVERED) -m "not campaign and not thorough" $(ARGS)

check: lint types layers docs  ## what CI runs: every test that is no campaign
	$(PYTEST) $(COVERED) -m "not campaign" $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP)  ## generated pages must equal what the code says, and the site must build without a warning
	$(BIN)/python -m pipesync.cli docs --check
	$(BIN)/python docs/build.py

campaign: $(STAMP)
	$(PYTEST) -m campaign $(ARGS)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "pipesync needs Python 3.11 or newer; set PYTHON=python3.12, say")'
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade "pip>=25.1"
	$(PIP) install --constraint constraints.txt --editable . --group dev
	touch $(STAMP)

audit: $(STAMP)  ## known weaknesses of what is installed; fails where one is known, and where none could be looked up
	$(BIN)/pip-audit --progress-spinner off --skip-editable --format json | $(BIN)/python -c "$$AUDITED"

define AUDITED
import json, sys
found = json.load(sys.stdin)["dependencies"]
known = [one for one in found if "vulns" in one]
weak = [f"{one['name']} {one['version']}: {v['id']}" for one in known for v in one["vulns"]]
print(f"{len(known)} of {len(found)} packages could be looked up; {len(weak)} known weaknesses", *weak, sep="\n  ")
sys.exit("PyPI's advisories cannot be reached from here: nothing was checked" if not known else bool(weak))
endef
export AUDITED

sbom: $(STAMP)  ## what is installed, as CycloneDX JSON
	mkdir -p dist
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --of JSON --output-file dist/sbom.json

constraints: ## after a deliberate upgrade: write down what is installed
	$(BIN)/python -m pip freeze --exclude-editable | grep -v ' @ ' > constraints.txt

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .coverage* dist build
