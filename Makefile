# Every target is one line that calls `darkroom …` or pytest; the README says how to type the same without make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TESTS := .venv/.ready-for-tests
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
STUDY_ARGUMENTS := $(if $(DATA),--set data=$(DATA))

run: $(READY)  ## the quickstart: clean, train, compare on real pictures
	$(BIN)/darkroom run quickstart

test: $(TESTS)  ## everything that is fast enough for every change
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m pytest -n auto

soak: $(TESTS)  ## the long fault and endurance runs
	$(BIN)/python -m pytest -m slow

fuzz: $(TESTS)  ## our parsers under a fuzzer, ten minutes each (Linux)
	$(PIP) -e '.[fuzz]' && $(BIN)/python -m tests.fuzz

lab: $(READY)  ## JupyterLab on the notebooks
	$(BIN)/darkroom lab

board: $(READY)  ## TensorBoard on logs/
	$(BIN)/darkroom board

web: $(READY)  ## the site: runs, maps, classify
	$(BIN)/darkroom web

study: $(READY)  ## make study NAME=elpv [DATA=path/or/name]
	$(BIN)/darkroom run $(NAME) $(STUDY_ARGUMENTS)

docs: $(TESTS)  ## the documentation as a site, in build/site
	$(PIP) -e '.[docs]' && $(BIN)/zensical build --clean --strict

check: $(TESTS) docs  ## study files, notebooks, the locked packages on every Python, known vulnerabilities
	$(BIN)/darkroom check && $(BIN)/python -m tools.lock_check && $(BIN)/python -m tools.vulnerability_audit

lock: $(TESTS)  ## requirements.lock from requirements.txt
	grep -v '^-e' requirements.txt | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet -o requirements.lock

bench: $(TESTS)  ## every benchmark in its quick form
	$(BIN)/python -m benchmarks --quick

# Rebuilt when the requirements change.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r requirements.lock && $(PIP) --no-deps -e .
	@touch $(READY)

$(TESTS): $(READY)
	$(PIP) -e '.[test]'
	@touch $(TESTS)

.PHONY: run test soak fuzz lab board web study check docs lock bench
