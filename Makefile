# One command for each thing one wants of this tree; `make` alone lists them.
# On Debian and Ubuntu they install what the machine lacks; Python packages go
# into .venv only (test-all: .venv-3.x).  What is up to date is not done again.

PYTHON ?= python3

ASK     := $(PYTHON) -c 'import platform; print(platform.python_version())'
VERSION := $(shell $(ASK) 2>/dev/null)
VENV    := .venv
PY      := $(VENV)/bin/python
# Another interpreter than last time means another stamp, and so a new environment.
STAMP   := $(VENV)/.$(or $(VERSION),new)
# Asked again, for there may have been no Python yet when make began.
done     = touch $(VENV)/.$$($(ASK))-$(1)
SOURCES := setup.py $(wildcard $(foreach depth,* */*,uringloop/$(depth).pyx uringloop/$(depth).pxd))
# A source distribution has no .ci.
SCRIPTS := $(filter-out %.py %.allow %.map %/__pycache__,$(wildcard .ci/run tools/*))
PIP     := $(PY) -m pip --disable-pip-version-check --quiet --quiet
VERSIONS := 3.10 3.11 3.12 3.13 3.14 3.15
# Those that Debian unstable has, in a system of its own, kept for the next time.
# ELSEWHERE= (nothing) makes none.
ELSEWHERE := 3.13 3.14 3.15
# What wheels are made for, and the oldest Debian with a Python that there is a wheel for.
PLATFORMS := manylinux_2_17_x86_64 manylinux_2_17_aarch64 musllinux_1_2_x86_64 musllinux_1_2_aarch64
BARE      := $(firstword $(foreach one,3.11/bookworm 3.13/trixie 3.14/testing, \
                 $(if $(filter $(patsubst %/,%,$(dir $(one))),$(VERSIONS)),$(notdir $(one)))))

# iproute2 is in /usr/sbin, which is not in everyone's PATH.
export PATH := $(PATH):/usr/sbin:/sbin
export DEBIAN_FRONTEND := noninteractive

.PHONY: help demo test tests test-all features conformance soak simulate compare fuzz leaks bench benchmarks asan tsan valgrind portable profile trace wheels wheel lint build system clean

help:
	@echo 'make demo         run the demonstration (examples/demo.py)'
	@echo 'make test         lint, then run the tests; pass options on with ARGS="-k echo -x"'
	@echo 'make test-all     run the tests with each of Python $(VERSIONS)'
	@echo '                  that is on PATH or among those of pyenv; and, as root and with'
	@echo '                  debootstrap, with those that only Debian unstable has'
	@echo 'make features     the tests without each thing of io_uring that an older kernel lacks, and'
	@echo '                  without all of them; FEATURES="send_zc ring_fd" for some'
	@echo 'make conformance  run the asyncio tests that Python brings along, on this loop and on'
	@echo '                  asyncio itself, and compare; ARGS="--bound 60 test_streams" for some'
	@echo 'make soak         a mix of everything, MINUTES=10 of it: does anything grow?  Drawn, too,'
	@echo '                  as build/soak.svg'
	@echo 'make simulate     programs made from seeds on a kernel that does what any may do; SEEDS=2000'
	@echo '                  of them, from FIRST=1 on; see docs/simulation.md'
	@echo 'make fuzz         addresses, control messages, finalizers and datagrams made from seeds, as root;'
	@echo '                  SEEDS=20 of them, DATAGRAMS=1000000'
	@echo 'make leaks        sends of every ending, SENDS=1000000 of each: does anything stay?'
	@echo 'make compare      programs that Hypothesis makes, on this loop and on asyncio itself: do they'
	@echo '                  see the same?  EXAMPLES=2000 of each kind; ARGS="-k streams" for some'
	@echo 'make bench        how fast next to asyncio and uvloop, in two minutes; ARGS=--help'
	@echo 'make benchmarks   measure what the pages of benchmarks in docs show, as root;'
	@echo '                  ARGS="datagrams everyday" for some'
	@echo 'make asan         the tests under the sanitizers of addresses and undefined behaviour;'
	@echo '                  ARGS="tests/ring -k close" for some, ARGS="-m tests.fuzz.run" for another'
	@echo 'make tsan         the tests of threads under the sanitizer of threads'
	@echo 'make valgrind     some tests, or ARGS, on the normal build under valgrind: slowly'
	@echo 'make portable     the tests on a build that assumes nothing of how CPython is made'
	@echo 'make profile      where the time goes of a program on this loop (by perf):'
	@echo '                  SCRIPT=examples/demo.py, ARGS="--megabytes 8" for it, SECONDS=10 of it'
	@echo 'make trace        what the ring is asked and answers, a line each, while a program runs:'
	@echo '                  SCRIPT=examples/udp_echo.py; URINGLOOP_TRACE=file writes it there'
	@echo 'make wheels       wheels for each Python, liburing inside, into dist; one is tested in a'
	@echo '                  bare Debian, as root; VERSIONS=3.11 PLATFORMS=manylinux_2_17_x86_64'
	@echo 'make lint         ruff, mypy, cython-lint, shellcheck; do the stubs tell the truth?'
	@echo 'make build        compile the extension modules in place'
	@echo 'make system       install what the machine lacks (compiler, liburing, headers, ...)'
	@echo 'make clean        remove everything that the others made'
	@echo
	@echo 'Each sets up what it needs first.  PYTHON=python3.12 selects an interpreter,'
	@echo 'VENV=.venv-3.12 an environment of its own for it.'

demo: $(STAMP)-built
	@$(PY) examples/demo.py $(ARGS)

test: lint
	@$(PY) -m pytest $(ARGS)

tests: $(STAMP)-built
	@$(PY) -m pytest $(ARGS)

test-all:
	@tools/each-python --versions '$(VERSIONS)' --elsewhere '$(ELSEWHERE)' tests ARGS='$(ARGS)'

# Compiled for each Python and platform, looked at, and one of them tested where nothing is.
wheels: $(STAMP)-wheels
	@for machine in amd64 arm64; do \
	    tools/debian-liburing $$machine build/liburing-$$machine || exit 1; \
	done
	@rm -rf build/wheels/*/*.whl dist/*.whl
	@tools/each-python --versions '$(VERSIONS)' --elsewhere '$(ELSEWHERE)' wheel \
	    PLATFORMS='$(PLATFORMS)' \
	    ZIG="$$($(PY) -c 'import ziglang; print(ziglang.__path__[0])')/zig"
	@$(PY) tools/wheels.py finish
	@$(if $(BARE),tools/bare-debian --suite $(BARE) --here \
	    --packages "$$(tools/bare-wheel --packages)" tools/bare-wheel dist $(ARGS),\
	    echo 'Not tested: Debian has 3.11, 3.13 and 3.14 only; tools/test_wheel.py does it here')

wheel: $(STAMP)-tools
	@$(PY) tools/wheels.py build --zig '$(ZIG)' $(PLATFORMS)

# What a feature does by itself is left out where it is off: tests say so by needs_feature.
features: $(STAMP)-built
	@mkdir -p build; failed=0; features='$(FEATURES)'; \
	known="all $$($(PY) -c 'from uringloop.ring.features import FEATURES; print(*FEATURES)')"; \
	for feature in $$features; do \
	    case " $$known " in *" $$feature "*) ;; *) \
	        echo "FEATURES=$$feature: choose from $$known" >&2; exit 2; esac; \
	done; \
	for feature in $${features:-$$known}; do \
	    outcome=; log=build/without-$$feature.log; \
	    URINGLOOP_FEATURES=-$$feature $(PY) -m pytest $(ARGS) >$$log 2>&1 \
	        || { outcome=' FAILED:'; failed=1; }; \
	    echo "without $$feature:$$outcome $$(tail -n 1 $$log) (all of it: $$log)"; \
	done; exit $$failed

soak: $(STAMP)-built
	@$(PY) benchmarks/soak.py --minutes $(or $(MINUTES),10)

simulate: $(STAMP)-built
	@$(PY) -m tests.simulation.run --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),1) $(ARGS)

fuzz: $(STAMP)-built
	@$(PY) -m tests.fuzz.run --seeds $(or $(SEEDS),20) --first $(or $(FIRST),1) \
	    --datagrams $(or $(DATAGRAMS),1000000) $(ARGS)

leaks: $(STAMP)-built
	@$(PY) -m tests.leaks.run --sends $(or $(SENDS),1000000) $(ARGS)

compare: $(STAMP)-built
	@URINGLOOP_EXAMPLES=$(or $(EXAMPLES),1000) $(PY) -m pytest -s tests/against_asyncio $(ARGS)

conformance: $(STAMP)-built
	@$(PY) conformance/run.py $(ARGS)

bench: $(STAMP)-built
	@tools/bench $(PY) $(ARGS)

benchmarks: $(STAMP)-built
	@tools/benchmarks $(PY) $(ARGS)

asan: $(STAMP)-built
	@$(PY) tools/variant.py asan
	@tools/asan $(PY) $(ARGS)

tsan: $(STAMP)-built
	@$(PY) tools/variant.py tsan
	@tools/tsan $(PY) $(ARGS)

valgrind: $(STAMP)-built
	@tools/valgrind $(PY) $(ARGS)

portable: $(STAMP)-built
	@$(PY) tools/variant.py portable
	@cd build/portable && URINGLOOP_BUILD=portable PYTHONPATH=. \
	    $(abspath $(PY)) -m pytest -p no:cacheprovider $(ARGS)

profile: profile-program $(STAMP)-built
	@$(PY) tools/profile_run.py --check
	@$(PY) tools/variant.py profile
	@$(PY) tools/profile_run.py $(if $(SECONDS),--seconds $(SECONDS)) build/profile $(SCRIPT) $(ARGS)

trace: trace-program $(STAMP)-built
	@$(PY) tools/variant.py trace
	@$(PY) tools/run_on.py build/trace $(SCRIPT) $(ARGS)

# What they cannot do without: looked for before anything is compiled.  It may be -m MODULE, too.
.PHONY: profile-program trace-program
profile-program trace-program: %-program:
	@[ '$(SCRIPT)' ] || \
	    { echo 'make $*: which program? make $* SCRIPT=examples/demo.py' >&2; exit 2; }
	@[ -e '$(firstword $(SCRIPT))' ] || [ '$(filter -%,$(firstword $(SCRIPT)))' ] || \
	    { echo 'SCRIPT=$(SCRIPT): no such file' >&2; exit 2; }

# All of them, whatever the first has found.
lint: $(STAMP)-built
	@failed=; tell() { failed="$$failed $$1"; }; \
	$(PY) -m ruff check . || tell ruff; \
	$(PY) -m mypy || tell mypy; \
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint uringloop || tell cython-lint; \
	$(if $(SCRIPTS),$(VENV)/bin/shellcheck $(SCRIPTS) || tell shellcheck;) \
	$(PY) -m mypy.stubtest uringloop --concise --ignore-missing-stub --ignore-disjoint-bases \
	    --allowlist tools/stubtest.allow --ignore-unused-allowlist || tell stubtest; \
	[ -z "$$failed" ] || { echo "make lint: these have found something:$$failed" >&2; exit 1; }

build: $(STAMP)-built

# Says what is missing by looking for the thing itself, not for a package:
# a Python of one's own brings its headers along.
system:
	@[ '$(PYTHON)' = python3 ] || command -v $(firstword $(PYTHON)) >/dev/null || \
	    { echo 'PYTHON=$(PYTHON): there is no such command' >&2; exit 2; }
	@missing=; \
	need() { missing="$$missing $$1"; }; \
	command -v gcc >/dev/null || need "gcc libc6-dev"; \
	command -v pkg-config >/dev/null || need pkg-config; \
	pkg-config --exists 'liburing >= 2.3' 2>/dev/null || need liburing-dev; \
	command -v ip >/dev/null || need iproute2; \
	command -v dig >/dev/null || need bind9-dnsutils; \
	command -v openssl >/dev/null || need openssl; \
	has() { $(PYTHON) -c "$$1" 2>/dev/null; }; \
	headers='import os, sys, sysconfig; \
	    sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; \
	has 'import ensurepip, venv' || need python3-venv; \
	has "$$headers" || need python3-dev; \
	[ -z '$(filter conformance,$(MAKECMDGOALS))' ] || has 'import test.test_asyncio' || \
	    need libpython3-testsuite; \
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
	@$(call done,venv)

# All that pyproject.toml asks for, and this tree on the path.  (An editable
# install would do the same, but compile everything each time.)
$(STAMP)-tools: pyproject.toml $(STAMP)-venv
	@packages=$$(sed -n 's/^\(requires\|test\|lint\) = \[\(.*\)\]/\2/p' pyproject.toml | tr -d '",'); \
	echo "Installing into $(VENV):" $$packages; \
	$(PIP) install $$packages
	@echo '$(CURDIR)' > $$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/here.pth
	@$(call done,tools)

$(STAMP)-wheels: $(STAMP)-tools
	@$(PIP) install $$(sed -n 's/^wheels = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '",')
	@$(call done,wheels)

$(STAMP)-built: $(SOURCES) $(STAMP)-tools | system
	@$(PY) setup.py --quiet build_ext --inplace
	@$(call done,built)

clean:
	@rm -rf .venv* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@rm -f uringloop/*.so uringloop/*.c uringloop/*/*.so uringloop/*/*.c
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
