# make demo    install into .venv and show the main job on real input (about half a minute, after the installing)
# make test    install into .venv and run the whole suite (as root also what tools/test-packages names)
# make check   lint, types, layers
# make mutants plant faults one at a time and see whether the tests notice (tools/mutants)
# make attacks everything hostile at once against a real daemon with 0, 1 and 2 acceptors (a minute; in short part of make test)
# make bench   the table of docs/performance.md with this machine's figures
# make bench-peers  the same with BullMQ, fastify and syslog-ng in the same turns; installs them where it can
# make console-bars   the console's times with 1,000,000 callbacks in the store (needs chromium, a few minutes)
# make bench-limits   the score table of the limit estimator (modelled, virtual time)
# make hunt    the whole daemon in virtual time, seed after seed until Ctrl-C (HUNT="--seeds 1000" stops; tests/simulation)
# make faults  the fault laboratory in its long form: 600 power cuts, 200 kills, 60 failing disks, bad networks, floods
# make fuzz    both listeners asked from their OpenAPI document by schemathesis (EXAMPLES=100 for each route, minutes)
# make soak    the long form of the kill loop: 200 kills instead of 20
# make receipts  every end of 10,000 callbacks has one receipt over 20 kills (some minutes)
# make hosts   several hosts in the long form: 10,000 seeds in virtual time, 60 real kills of hosts and server (an hour)
# make deb     Debian packages for Debian 12 and 13 into dist/ (tools/packages)
# make deb-test  as root: install, start, upgrade, remove and purge them in bare roots that systemd boots (minutes)
# make zipapp  one file with everything in it but Python, into dist/, for hosts where nothing may be installed
# make hashes  write the packages' pins anew, after constraints.txt was raised
# make format  put code into its form, mend what ruff can mend
# make docs    the documentation as a site in English and Chinese, into build/site (tools/site)
# make screenshots  docs/img anew, out of the console (needs chromium) and the demo
# make schema  write relay.schema.json anew
# make upgrade newer versions of what we depend on, into constraints.txt
# make clean   remove .venv and all caches
.POSIX:
BIN = .venv/bin
STAMP = .venv/.installed
# Many tests wait for the disk, for other processes or for a window of a limit: two processors have work for five workers.
XDIST = 5

.PHONY: demo test attacks check mutants bench bench-peers bench-limits console-bars soak hosts deb deb-test zipapp hashes format schema upgrade
.PHONY: clean screenshots faults hunt receipts fuzz others
demo: $(STAMP)
	@$(BIN)/relay demo

# What the tests start finds the relay compiled, also where the environment forbids it: else each start compiles it anew.
test: $(STAMP)
	@tools/test-packages
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(XDIST) --maxschedchunk 1

check: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# MUTANTS="--package web --all" chooses the faults, and how many tests look for each (tools/mutants/README.md)
mutants: $(STAMP)
	@$(BIN)/python -m tools.mutants $(MUTANTS)

attacks: $(STAMP)
	@ATTACKS=1 $(BIN)/python -m pytest -n 0 -s tests/faults/test_attacks.py

bench: $(STAMP)
	@$(BIN)/python -m benchmarks

bench-peers: $(STAMP)
	@tools/bench-peers
	@$(BIN)/python -m benchmarks --peers

console-bars: $(STAMP)
	@tools/test-packages
	@$(BIN)/python -m benchmarks.console

bench-limits: $(STAMP)
	@$(BIN)/python -m benchmarks.limits --peers

fuzz: $(STAMP) .venv/.fuzz
	@$(BIN)/python -m tools.fuzz

soak: $(STAMP)
	@KILLS=200 $(BIN)/python -m pytest -x --timeout 3600 tests/e2e/test_kill_loop.py

receipts: $(STAMP)
	@CALLBACKS=10000 KILLS=20 $(BIN)/python -m pytest -x --timeout 3600 tests/e2e/test_receipts.py

others: $(STAMP)
	@LIMIT=100/60 SECONDS=600 $(BIN)/python -m pytest -n 0 --timeout 3600 tests/e2e/test_others.py

hosts: $(STAMP)
	@SEEDS=10000 HOST_KILLS=60 CALLBACKS=20000 CLUSTER=1 $(BIN)/python -m pytest -n 3 --timeout 7200 tests/hosts tests/store/test_cluster.py

faults: $(STAMP)
	@tools/test-packages
	@LAB=1 $(BIN)/python -m pytest -n 3 --timeout 3600 tests/faults/test_laboratory.py tests/faults/test_conditions.py

hunt: $(STAMP)
	@$(BIN)/python -m tests.simulation $(HUNT)

deb: $(STAMP) .venv/.packages
	@for distribution in deb12 deb13; do $(BIN)/python -m tools.packages.build $$distribution || exit 1; done

deb-test: $(STAMP) .venv/.packages
	@$(BIN)/python -m tools.packages.try_deb deb12 deb13

zipapp: $(STAMP) .venv/.packages
	@$(BIN)/python -m tools.packages.zipapp

hashes: $(STAMP)
	@$(BIN)/python -m tools.packages.pins

.venv/.packages: $(STAMP)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[packages]'
	@touch .venv/.packages

.venv/.fuzz: $(STAMP)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch .venv/.fuzz

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: docs
docs: $(STAMP) .venv/.docs
	@$(BIN)/python -m tools.site

.venv/.docs: $(STAMP)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch .venv/.docs

screenshots: $(STAMP)
	@tools/test-packages
	@$(BIN)/python -m tests.console.screenshots docs/img
	@$(BIN)/python -m tools.pictures.demo docs/img/demo.svg

schema: $(STAMP)
	@$(BIN)/relay config schema > relay.schema.json

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into .venv (once)"
	@tools/make-venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
# pip compiles what it installs, but not what lies in a checkout: half a start where the environment forbids to write it
	@$(BIN)/python -m compileall -q relay
	@touch $(STAMP)

upgrade:
	@tools/make-venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade -e '.[dev,docs,packages]'
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools; } > .venv/constraints
	@mv .venv/constraints constraints.txt && touch $(STAMP)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build ./*.egg-info
