# Everything on a fresh machine with Python 3.11 to 3.14 and make:
#   make demo    build the archive, serve it, send it a clean and an attacked clip
#   make test    run the tests
PYTHON ?= python3
VENV ?= .venv
# Installed before everything else: on a machine without a GPU give a CPU build of torch here.
TORCH ?= torch==2.13.0
# Only for the tests, outside the environment: see tests/support/torchvision_operators.py.
TORCHVISION ?= torchvision==0.28.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PACKAGES := wire purifier format handler archive motions training evaluation client launcher demo bulk web cli

# Waiting threads that spin steal the cores from those that work.
export OMP_WAIT_POLICY = passive

.PHONY: help demo serve test test-fast test-all test-exports exports test-lowest lint types format docs parity bench dist train-demo harden-demo evaluate-demo clean
help:
	@sed -n 's/^#   //p' $(MAKEFILE_LIST)
#   make test-fast   run the unit tests that take less than about two seconds each
#   make test-all   run the slow tests too: load, failures, hundreds of damaged files
#   make test-exports   export SlowFast, X3D and Hiera from their packages, build them in
#   make test-lowest   run the unit tests on the lowest versions that pyproject.toml allows
#   make serve   build the archive and leave a server running in the foreground
#   make bench   measure speed, into build/benchmarks; BENCH=--quick only checks that it runs
#   make dist   build the wheel and the sdist; with TAG=v1.2.3 only if that is the version
#   make docs   build the documents as a site into build/site; warnings are errors
#   make lint types format parity train-demo harden-demo evaluate-demo clean

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || \
	  { echo "$(PYTHON) is not Python 3.11 to 3.14; set PYTHON=..."; exit 1; }
	@echo "==> Making a virtual environment in $(VENV) and installing torch"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	$(PIP) install '$(TORCH)'
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	@echo "==> Installing the packages that serving needs"
	$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	@echo "==> Installing the packages that the tests need"
	$(PIP) install --editable '.[dev]' $(CONSTRAINTS:%=--constraint %)
	$(PIP) install --quiet --no-deps --upgrade --target build/torchvision '$(TORCHVISION)'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@echo "==> Building model_store/videopure.mar"
	@$(BIN)/videopure build --demo
	@$(BIN)/python -m videopure.demo

serve: $(VENV)/.demo
	@$(BIN)/videopure build --demo
	@$(BIN)/videopure serve

# Two processes of one thread each are quicker than one of two; servers are started once.
SPREAD := -n 2 --dist loadfile --durations=20 --durations-min=3
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit tests/integration -m "not slow" $(SPREAD)
	$(BIN)/python -m pytest tests/e2e -m "not slow" --durations=20 --durations-min=3

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest tests/unit -m "not slow and not extended"

test-all: $(VENV)/.dev exports
	$(BIN)/python -m pytest

# Recognisers that come as programs, beside the environment: see tests/support/exports.py.
EXPORTS := pytorchvideo==0.1.5 fvcore==0.1.5.post20221221 iopath==0.1.10 yacs==0.1.8 \
  termcolor==3.3.0 tabulate==0.10.0 portalocker==4.4.2 parameterized==0.9.0 \
  hiera-transformer==0.1.4 timm==1.0.31
exports: $(VENV)/.dev
	@test -d build/exports/pytorchvideo || \
	  $(PIP) install --quiet --no-deps --target build/exports $(EXPORTS)

test-exports: exports
	$(BIN)/python -m pytest tests/integration/archive/test_exports.py

# torch is not among them: its build is TORCH's.
LOWEST := build/lowest
test-lowest:
	$(MAKE) VENV=$(LOWEST) CONSTRAINTS=constraints/lowest.txt $(LOWEST)/.dev
	$(LOWEST)/bin/python -m pytest tests/unit -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy and mkdocs want the folders where their import names say.
.PHONY: import-names
import-names:
	@mkdir -p build/typing/videopure
	@for package in $(PACKAGES); do ln -sfn ../../../$$package build/typing/videopure/$$package; done

types: $(VENV)/.dev import-names
	$(BIN)/mypy $(PACKAGES:%=-p videopure.%) -p benchmarks -p tests -p docs -p constraints \
	  -m deploy.ray_serve

$(VENV)/.docs: $(VENV)/.python pyproject.toml
	$(PIP) install --editable '.[docs]'
	@touch $@

docs: $(VENV)/.docs import-names
	$(BIN)/mkdocs build --strict

parity: $(VENV)/.dev
	@$(BIN)/python tests/parity.py

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks $(BENCH)

# With TAG, such as v1.2.3, only where that is the version.
dist: $(VENV)/.dev
	@version=v$$($(BIN)/python -c 'import videopure.purifier as p; print(p.__version__)'); \
	  test "$(or $(TAG),$$version)" = "$$version" || \
	  { echo "TAG is $(TAG), but the version is $$version"; exit 1; }
	$(BIN)/python -m build

# The UNet takes as long as all the rest: one core for it, the other for the recognisers.
TRAIN := $(BIN)/python -m videopure.demo.train
train-demo: $(VENV)/.dev
	$(TRAIN) --stages codec
	@echo "==> Training the UNet; its progress: tail -f build/train-demo/unet.log"
	@$(TRAIN) --stages unet --threads 1 > build/train-demo/unet.log 2>&1 & unet=$$!; \
	$(TRAIN) --stages recogniser transfer --threads 1 && wait $$unet
	$(TRAIN) --stages calibrate

HARDEN := $(BIN)/python -m videopure.demo.harden
harden-demo: $(VENV)/.dev
	$(HARDEN) --stages recogniser
	@echo "==> Training the control beside both; its progress: tail -f build/harden-demo/control.log"
	@$(HARDEN) --stages control --threads 1 > build/harden-demo/control.log 2>&1 & control=$$!; \
	$(HARDEN) --stages both --threads 1 && wait $$control
	$(HARDEN) --stages calibrate

evaluate-demo: $(VENV)/.demo
	@$(BIN)/videopure build --demo --demo-models published
	@$(BIN)/videopure evaluate --suite demo --threads 1

clean:
	rm -rf $(VENV) build dist model_store logs demo-out *.egg-info
