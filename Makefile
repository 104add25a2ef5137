# One command for each thing one wants of this tree; `make` alone lists them.
# On Debian and Ubuntu they install what the machine lacks; Python packages go
# into .venv only.  What is up to date is not done again.

PYTHON ?= python3

VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
VENV    := .venv
PY      := $(VENV)/bin/python
# Another interpreter than last time means another stamp, and so a new environment.
STAMP   := $(VENV)/.$(or $(VERSION),new)
SOURCES := setup.py $(wildcard uringloop/*.pyx uringloop/*.pxd)
PIP     := $(PY) -m pip --disable-pip-version-check --quiet --quiet
JOBS    := $(shell nproc)
# A class made inside a function, which no stub can name.
LOCAL_CLASS := uringloop.policy.EventLoopPolicy@[0-9]+

# iproute2 is in /usr/sbin, which is not in everyone's PATH.
export PATH := $(PATH):/usr/sbin:/sbin
export DEBIAN_FRONTEND := noninteractive

.PHONY: help demo test lint build system clean

help:
	@echo 'make demo    run the demonstration (examples/demo.py)'
	@echo 'make test    lint, then run the tests; pass options on with ARGS="-k echo -x"'
	@echo 'make lint    ruff, mypy, cython-lint; do the stubs tell the truth?'
	@echo 'make build   compile the extension modules in place'
	@echo 'make system  install what the machine lacks (compiler, liburing, headers, ...)'
	@echo 'make clean   remove everything that the others made'
	@echo
	@echo 'Each sets up what it needs first.  PYTHON=python3.12 selects an interpreter.'

demo: $(STAMP)-built
	@$(PY) examples/demo.py $(ARGS)

test: lint
	@$(PY) -m pytest $(ARGS)

lint: $(STAMP)-built
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint uringloop
	@echo '$(LOCAL_CLASS)' > $(VENV)/stubtest-allowed
	@$(PY) -m mypy.stubtest uringloop --concise --ignore-missing-stub --ignore-disjoint-bases \
	    --allowlist $(VENV)/stubtest-allowed

build: $(STAMP)-built

# Says what is missing by looking for the thing itself, not for a package:
# a Python of one's own brings its headers along.
system:
	@missing=; \
	need() { missing="$$missing $$1"; }; \
	command -v gcc >/dev/null || need "gcc libc6-dev"; \
	command -v pkg-config >/dev/null || need pkg-config; \
	pkg-config --exists 'liburing >= 2.3' 2>/dev/null || need liburing-dev; \
	command -v ip >/dev/null || need iproute2; \
	command -v dig >/dev/null || need bind9-dnsutils; \
	has() { $(PYTHON) -c "$$1" 2>/dev/null; }; \
	headers='import os, sys, sysconfig; \
	    sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; \
	has 'import ensurepip, venv' || need python3-venv; \
	has "$$headers" || need python3-dev; \
	[ -z "$$missing" ] && exit 0; \
	as=; [ "$$(id -u)" = 0 ] || as=sudo; \
	if ! command -v apt-get >/dev/null || [ "$$as" ] && ! command -v sudo >/dev/null; then \
	    echo "Install these first (names of Debian's packages):$$missing" >&2; exit 1; \
	fi; \
	echo "Installing:$$missing"; \
	$$as apt-get -qq update && $$as env DEBIAN_FRONTEND=noninteractive \
	    apt-get -qq install --yes --no-install-recommends $$missing >/dev/null || exit 1; \
	has 'import ensurepip, venv' && has "$$headers" || { \
	    echo "$(PYTHON) lacks the venv module or its headers (Python.h):" \
	         'install them, or choose another with PYTHON=' >&2; exit 1; }

$(STAMP)-venv: | system
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# All that pyproject.toml asks for, and this tree on the path.  (An editable
# install would do the same, but compile everything each time.)
$(STAMP)-tools: pyproject.toml $(STAMP)-venv
	@$(PIP) install $$(sed -n 's/^\(requires\|test\|lint\) = \[\(.*\)\]/\2/p' pyproject.toml \
	    | tr -d '",')
	@echo '$(CURDIR)' > $$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/here.pth
	@touch $@

$(STAMP)-built: $(SOURCES) $(STAMP)-tools | system
	@$(PY) setup.py --quiet build_ext --inplace --parallel $(JOBS)
	@touch $@

clean:
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@rm -f uringloop/*.so uringloop/*.c
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
