# Every target is one line that calls `darkroom …` or pytest; the README tells how to type the same without make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
STUDY_ARGUMENTS := $(if $(DATA),--set data=$(DATA))

run: $(READY)  ## the quickstart: clean, train, compare on real pictures
	$(BIN)/darkroom run quickstart

test: $(READY)  ## everything that is fast enough for every change
	$(BIN)/python -m pytest -n auto

soak: $(READY)  ## the long fault and endurance runs
	$(BIN)/python -m pytest -m slow

fuzz: $(READY)  ## our parsers under a fuzzer, ten minutes each (Linux)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]' && $(BIN)/python -m tests.fuzz

lab: $(READY)  ## JupyterLab on the notebooks
	$(BIN)/darkroom lab

board: $(READY)  ## TensorBoard on logs/
	$(BIN)/darkroom board

web: $(READY)  ## the site: runs, maps, classify
	$(BIN)/darkroom web

study: $(READY)  ## make study NAME=elpv [DATA=path/or/name]
	$(BIN)/darkroom run $(NAME) $(STUDY_ARGUMENTS)

check: $(READY)  ## study files, notebooks, and the pinned packages for Python 3.11 to 3.13
	$(BIN)/darkroom check --packages

bench: $(READY)  ## every benchmark in its quick form
	$(BIN)/python -m benchmarks --quick

# Made anew when the requirements change.
$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e '.[elpv,test]'
	@touch $(READY)

.PHONY: run test soak fuzz lab board web study check bench
