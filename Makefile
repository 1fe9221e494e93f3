# Needs Python 3.11 or newer, pip and make. Everything is installed into .venv and nowhere else.

PYTHON ?= python3
# Given to `manage.py start` or to pytest: make test ARGS="tests/supervisor -x"
ARGS ?=
# `make lock UPGRADE=` adds what is new and keeps every other version.
UPGRADE ?= --upgrade

VENV := .venv
PY := $(VENV)/bin/python
PIP := PYTHONWARNINGS=ignore $(PY) -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
TORCH := 2.13.0
MAKEFLAGS += --no-print-directory

# NAME=value lines of .env, taken literally; what the environment says already has precedence.
LOAD_ENV := if [ -f .env ]; then while IFS='=' read -r name value || [ -n "$$name" ]; do \
	case "$$name" in ''|'\#'*|*[!A-Za-z0-9_]*) continue;; esac; \
	eval "[ -n \"\$${$$name+set}\" ]" || export "$$name=$$value"; done < .env; fi

.DEFAULT_GOAL := help
.PHONY: help install start test soak interop check readme lock bench

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

start: install ## Install if need be, start everything, print where to go
	@$(LOAD_ENV); exec $(PY) manage.py start $(ARGS)

install: $(VENV)/.product ## Install into .venv, start nothing

# Two processes, a file of tests in one of them. In one, as for a debugger: ARGS="-n 0 --pdb"
test: $(VENV)/.product $(VENV)/.tools $(VENV)/.browser ## Run every test but interop, those in a browser included
	@$(PY) -m pytest --ignore=tests/interop -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: export MISTUDIO_TEST_SOAK ?= 200
soak: $(VENV)/.product $(VENV)/.tools ## 200 downloads through faults and kills: MISTUDIO_TEST_SOAK=30 MISTUDIO_TEST_SEED=…
	@$(PY) -m pytest tests/soak $(ARGS)

interop: $(VENV)/.product $(VENV)/.tools $(VENV)/.interop ## Compare with what the real sae-lens computes
	@$(PY) -m pytest tests/interop $(ARGS)

bench: $(VENV)/.product $(VENV)/.tools ## Time conversions and downloads beside cp, torch and hf: ARGS="--quick", "--write"
	@$(PY) -m tests.benchmarks $(ARGS)

# A data directory and an address for the checks alone: they must not touch what you have.
check: export MISTUDIO_DATA_DIR := $(CURDIR)/$(VENV)/check
check: export MISTUDIO_PUBLIC_URL := https://mistudio.example
check: $(VENV)/.product $(VENV)/.tools ## Lint, types, import rules, migrations, deployment settings
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py check --deploy --fail-level WARNING

readme: $(VENV)/.product ## Write the tables of formats and errors into README.md
	$(PY) manage.py sae_formats --into README.md
	$(PY) manage.py sae_errors --into README.md

lock: $(VENV)/.product ## Choose the newest versions anew: writes constraints.txt
	$(PY) -m pip install --quiet uv
	echo 'torch==$(TORCH)' > $(VENV)/torch.txt
	( printf '%s\n' '# Every version that `make` installs, for Python 3.11 to 3.13. Written by `make lock`.' \
	    '# torch is pinned by hand (TORCH in the Makefile); the CUDA packages that PyPI' \
	    '# adds to it are left out: an unpinned install is 5.6 GB.'; \
	  $(VENV)/bin/uv pip compile pyproject.toml --quiet --all-extras --universal $(UPGRADE) \
	    --python-version 3.11 --constraints $(VENV)/torch.txt --no-header --no-annotate \
	    | grep -Ev '^(nvidia|cuda|triton)' ) > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt

# --- the steps of the installation; each leaves a stamp, so the second time is quick --------------

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "miStudio needs Python 3.11 or newer as $(PYTHON); or: make PYTHON=/path/to/python $(MAKECMDGOALS)"; \
	  exit 1; }
	@# Debian's python3 comes without ensurepip; its pip can then fill the environment from outside.
	@[ -x $(PY) ] && $(PY) -m pip --version > /dev/null 2>&1 \
	  || $(PYTHON) -m venv $(VENV) > /dev/null 2>&1 \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
	    && $(PYTHON) -m pip --python $(PY) install --quiet pip; }
	@touch $@

$(VENV)/.torch: $(VENV)/.python constraints.txt mistudio/torch_index.py
	@echo "Installing PyTorch $(TORCH) (this is the large one) ..."
	@$(LOAD_ENV); $(PIP) --no-deps $$($(PY) mistudio/torch_index.py) torch==$(TORCH)
	@touch $@

$(VENV)/.product: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "Installing miStudio and what it needs ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.product pyproject.toml constraints.txt
	@echo "Installing the tools of the tests and checks ..."
	@$(PIP) --editable '.[test,check]'
	@touch $@

$(VENV)/.interop: $(VENV)/.product pyproject.toml constraints.txt
	@echo "Installing sae-lens, to compare with ..."
	@$(PIP) --editable '.[interop]'
	@touch $@

$(VENV)/.browser: $(VENV)/.tools tests/browser/install_browser.py
	@$(PY) tests/browser/install_browser.py
	@touch $@
