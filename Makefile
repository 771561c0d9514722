# Two commands: `make reproduce` (the course, headless) and `make test`. Everything else is below.
# Each target makes or updates .venv by itself; nothing outside this folder is touched.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PROFILE ?= smoke
WORKERS ?= 2
NB ?=
SWEEP ?=
RESET ?=
BIN := .venv/bin
# At the project's root, so that a notebook's link to the contents opens.
LAB ?= $(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)"
CHOSEN := $(if $(NB),--notebooks "$(NB)")
# One notebook, and one module of tests, stays on one worker: its cells go in order. Modules of tests go
# in order, too: xdist would keep those of few tests, the browser's and the systems', for the end.
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadscope
# What `make check` runs: seconds each, and a fault in any of them breaks much else.
FAST := $(addprefix tests/,kernels motion/test_pyramid.py synthetic/test_script.py test_audio.py test_clip.py \
  test_cli.py test_exercises.py test_folds.py test_metrics.py test_notebooks.py test_packaging.py \
  test_plots.py test_report.py test_results.py test_statistics.py)

export UV_PYTHON_DOWNLOADS := never
unexport MPLBACKEND

.PHONY: help env lab reproduce test check bake full other bench encoder stills report gpu lock clean lint

help:
	@echo "make reproduce [PROFILE=smoke] [NB=\"00 01\"] [WORKERS=2]   run the notebooks headlessly; ends with a page to open"
	@echo "make test        lint, unit tests, notebook checks, nbval"
	@echo "make check       the fast part of it, a minute and a half"
	@echo "make lab [RESET=02]   open your own copies of the notebooks, in my/, in JupyterLab; a fresh one of 02"
	@echo "make env         make or update .venv (the other targets do it too)"
	@echo "make bake        execute the committed notebooks in place, smoke profile"
	@echo "make full [NB=\"04b\"] [SWEEP=1]   notebooks at PROFILE=full, with their sweeps; writes data/results/"
	@echo "make other NB=08b [SET=avx2]   two seeds of a full run once more, with another instruction set; writes data/results/"
	@echo "make bench       benchmarks; writes data/results/"
	@echo "make encoder     train both small networks anew (15 minutes); writes their weights and data/results/"
	@echo "make stills      train the still networks of MSFF and AKMNet anew (32 minutes); writes their weights and data/results/"
	@echo "make report      the course as a static site, with search: runs/site/index.html"
	@echo "make gpu         the GPU check, eight minutes; its summary in runs/gpu/"
	@echo "make lock        resolve requirements.lock and constraints.txt anew"
	@echo "make clean       remove .venv and caches; runs and their units stay"

env: .venv/.ready

# uv installs the lock in seconds; plain pip does the same work, slower, where uv cannot be had.
.venv/.ready: requirements.lock pyproject.toml Makefile
	@python=$$(bash .ci/find-python) && \
	if [ ! -x $(BIN)/python ] || ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  echo "making .venv with $$python"; \
	  $$python -m venv --clear .venv || { echo "make: $$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }; \
	fi
	@echo "installing the locked packages (about 7 GB with PyTorch's CUDA build; a minute or two)"
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    -r <(sed -n '/^uv==/,/[^\]$$/p' requirements.lock); then \
	  $(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
	  $(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --disable-pip-version-check --no-deps --editable .; \
	fi
	@touch $@

# Copies, so that saving breaks nothing; one that is there is the student's own and stays. RESET=02 puts
# notebook 02 back to the course's; the student's goes beside it, as 02_….1.ipynb.
lab: env
	@mkdir -p my/solutions
	@for copy in $(if $(RESET),my/$(RESET)_*.ipynb my/solutions/$(RESET).ipynb); do \
	  if [ -e "$$copy" ] && [ -e "notebooks/$${copy#my/}" ]; then \
	    n=1; while [ -e "$${copy%.ipynb}.$$n.ipynb" ]; do n=$$((n + 1)); done; \
	    mv "$$copy" "$${copy%.ipynb}.$$n.ipynb"; \
	  fi; \
	done
	@for notebook in notebooks/*.ipynb notebooks/solutions/*.ipynb; do \
	  copy="my/$${notebook#notebooks/}"; [ -e "$$copy" ] || cp "$$notebook" "$$copy"; \
	done
	@$(LAB) my/$(notdir $(firstword $(wildcard notebooks/$(or $(RESET),00)_*.ipynb)))

reproduce: env
	@$(BIN)/micromacro reproduce --profile "$(PROFILE)" --workers "$(WORKERS)" $(CHOSEN)

lint: env
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

test: lint
	@$(PYTEST) --no-loadscope-reorder tests
	@$(PYTEST) --nbval-lax --nbval-cell-timeout=120 notebooks

check: lint
	@$(PYTEST) -m "not slow" $(FAST)

bake: env
	@$(BIN)/micromacro bake $(CHOSEN)

full: env
	@$(BIN)/micromacro reproduce --profile full --workers "$(WORKERS)" --write-results $(CHOSEN) $(if $(SWEEP),--param "SWEEP=$(SWEEP)")

other: env
	@$(BIN)/python tools/other_instructions.py $(NB) $(if $(SET),--set "$(SET)") --workers "$(WORKERS)"

bench: env
	@for script in $(filter-out %_rows.py,$(wildcard benchmarks/*.py)); do $(BIN)/python "$$script"; done

encoder: env
	@$(BIN)/python tools/encoder_training.py

stills: env
	@$(BIN)/python tools/still_training.py
	@$(BIN)/python tools/akmnet_training.py

report: env
	@$(BIN)/micromacro report

gpu: env
	@$(BIN)/python tools/gpu_check.py --out runs/gpu

lock: env
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --fork-strategy fewest --all-extras \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock
	@sed -E -e '/^ +--hash=/d' -e 's/ \\$$//' requirements.lock > constraints.txt

clean:
	@rm -rf .venv .pytest_cache .ruff_cache src/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf runs/units/.part-*
