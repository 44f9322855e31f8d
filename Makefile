# make demo | viewer | screenshots | test | test-slow | bench | clean; `make help` says what each does.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo viewer screenshots test test-slow fuzz bench clean

PYTHON ?= python3
VENV ?= .venv
PIP_OPTIONS ?= --quiet
SEED ?= 0
PORT ?= 8501
N ?= 10000

suffix := $(if $(filter-out 0,$(SEED)),-$(SEED))
DEMO_DIR ?= data/demo$(suffix)
RUNS ?= runs/demo$(suffix)

python := $(VENV)/bin/python
pip := $(python) -m pip --disable-pip-version-check
# Exit code 3 is done, but some scans were refused: the demo holds broken ones on purpose.
some_refused := || [ $$? -eq 3 ]
benchmarks := $(patsubst benchmarks/%.py,%,$(shell grep -ls __main__ benchmarks/*.py))

help:
	@echo 'make demo        make the demo scans, then prepare, train, evaluate and score them (SEED=3: another draw, in its own folders)'
	@echo 'make viewer      open the viewer on the demo (PORT=8501)'
	@echo 'make screenshots the pictures of the README, from the demo (needs Chromium)'
	@echo 'make test        lint, types, tests: at most 10 minutes on 2 cores'
	@echo 'make test-slow   kill loops, simulations, whole runs: at most 35 minutes'
	@echo 'make fuzz        N=10000 damaged files found and read: no crash, no hang, no fault'
	@echo 'make bench       every claim in benchmarks/, measured here'
	@echo 'make clean       remove the demo, its runs and the caches; your own runs/ and $(VENV) stay'
	@echo 'Everywhere: PYTHON=python3.12 chooses the interpreter, VENV=/tmp/venv the virtual environment.'

demo: $(VENV)/.installed
	rm -rf $(RUNS)/run $(RUNS)/scores
	$(python) -m data.phantoms --out $(DEMO_DIR) --seed $(SEED)
	$(python) -m pipeline.prepare $(DEMO_DIR)/scans --labels $(DEMO_DIR)/labels.csv --label nodule --out $(RUNS)/cohort --cohort.seed $(SEED) $(some_refused)
	$(python) -m pipeline.train configs/demo.yaml --cohort.folder $(RUNS)/cohort --out $(RUNS)/run --train.seed $(SEED)
	$(python) -m pipeline.explain $(RUNS)/run/model --check $(DEMO_DIR)/scans --masks $(DEMO_DIR)/masks
	$(python) -m pipeline.evaluate $(RUNS)/run
	$(python) -m pipeline.score $(RUNS)/run/model $(DEMO_DIR)/scans --out $(RUNS)/scores $(some_refused)
	@$(python) -m data.summary $(RUNS) $(DEMO_DIR)/scans

viewer: $(VENV)/.installed
	@[ -d $(RUNS)/run/model ] || { echo 'No model in $(RUNS)/run/model yet: run `make demo` first.' >&2; exit 2; }
	$(python) -m app --model $(RUNS)/run/model --scans $(DEMO_DIR)/scans --scores $(RUNS)/scores --run $(RUNS)/run --port $(PORT)

screenshots: $(VENV)/.installed-dev
	@[ -d $(RUNS)/scores ] || { echo 'No scores in $(RUNS)/scores yet: run `make demo` first.' >&2; exit 2; }
	$(python) -m tests.e2e.screenshot $(RUNS) $(DEMO_DIR)/scans docs/images

test: $(VENV)/.installed-dev
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	$(python) -m codespell_lib
	$(python) -m pytest

test-slow: $(VENV)/.installed-dev
	$(python) -m pytest -m slow

fuzz: $(VENV)/.installed-dev
	$(python) -m tests.bad_input.fuzz $(N)

bench: $(VENV)/.installed-dev
	$(if $(benchmarks),,@echo 'benchmarks/ holds no benchmark yet')
	$(foreach name,$(benchmarks),$(python) -m benchmarks.$(name) &&) true

clean:
	rm -rf data/demo data/demo-[0-9]* runs/demo runs/demo-[0-9]*
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info lightning_logs
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# The virtual environment, and what is installed in it: once, and again when pyproject.toml or constraints.txt change.

$(VENV)/.installed: extras :=
$(VENV)/.installed-dev: extras := [dev]
$(VENV)/.installed $(VENV)/.installed-dev: pyproject.toml constraints.txt | $(python)
	@echo 'installing .$(extras) into $(VENV): a few minutes the first time ...'
	@$(pip) install $(PIP_OPTIONS) -e '.$(extras)' -c constraints.txt
	@touch $(VENV)/.installed $@

$(python):
	@for python in $(PYTHON) python3.13 python3.12 python3.11; do \
		"$$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		echo "creating $(VENV) with $$("$$python" --version)"; \
		exec "$$python" -m venv $(VENV); \
	done; \
	echo 'No Python 3.11 or newer with its venv module was found (tried $(PYTHON), python3.13, python3.12, python3.11).' >&2; \
	echo 'Install one (Debian, Ubuntu: apt-get install python3-venv), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3' >&2; \
	exit 2
