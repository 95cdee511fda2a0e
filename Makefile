PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lint tools docs gpaw orderings chromium axe clean

install: .venv/.stamp

demo: .venv/.stamp
	$(BIN)/cryslator screen workflows/mn-oxides-laptop.yaml
	@echo
	@echo "Look at it: open runs/mn-oxides-laptop/report.html in a browser."
	@echo "A campaign of your own, in ten minutes: 'Your first campaign' in docs/first-campaign.md; before it,"
	@echo "    . $(BIN)/activate"

# Two at a time, of which one installs packages of Debian.
test:
	$(MAKE) --jobs=2 --output-sync install chromium
	$(MAKE) --jobs=2 --output-sync lint tools
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal --durations=10

lint: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry cryslator_flows

tools:
	$(MAKE) gpaw
	$(MAKE) orderings axe

docs: .venv/.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

gpaw: .venv/.gpaw

orderings: .venv/.orderings

chromium:
	sh tests/install-chromium.sh

axe: .venv/.stamp
	sh tests/install-axe.sh

.venv/.gpaw: .venv/.stamp workflows/dft-savings/install-gpaw.sh
	sh workflows/dft-savings/install-gpaw.sh $(BIN)/python
	@touch $@
	@echo "GPAW is installed in .venv; 'maker: gpaw' in a campaign file relaxes with it"

# icet has no wheels: a compiler for C++ builds it in a minute.
.venv/.orderings: .venv/.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[orderings]"
	@touch $@

# Python compiles what it imports; pip would compile everything, for another minute.
.venv/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "Python 3.11 or later is needed; call make with PYTHON=python3.12, say"; exit 2; }
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || \
		{ echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable ".[chgnet,dev]"
	@touch $@

clean:
	rm -rf .venv build dist site *.egg-info
