# `make demo` and `make test` do all the set-up from a bare clone. They need python3 (3.11 or newer,
# with venv), make and git. `make test-faults` disturbs real sweeps. If node and npm are installed,
# it also does so on an S3 server.

PYTHON ?= python3
BIN := .venv/bin

# Three processes for two cores, because tests spend half of their time waiting for Ray.
PYTEST := $(BIN)/pytest -n 3 --dist worksteal
FAULTS := runs/faults.md

.PHONY: demo test test-faults bench bench-scale s3rver install lint clean

demo: install
	$(BIN)/ser demo

test: install lint
	$(PYTEST)

test-faults: install s3rver
	mkdir -p $(dir $(FAULTS))
	$(PYTEST) -m faults tests/faults -rs --faults-table $(FAULTS)

bench: install
	$(BIN)/python benchmarks/all.py

# Minutes to an hour: hundreds of slots, and a corpus that is larger than memory.
bench-scale: install
	$(BIN)/python benchmarks/all.py search_scale search_ray search_lag data_scale

s3rver:
	@if [ -e .s3rver/installed ]; then :; elif command -v npm > /dev/null; then \
	  npm install --silent --no-fund --no-audit --no-save --prefix .s3rver s3rver@3.7.1 \
	  && touch .s3rver/installed; \
	else echo "npm is not installed: the tests of faults on S3 will be skipped"; fi

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The file is newer than its prerequisites, so a second `make` installs nothing.
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,dev]"
	touch $@

clean:
	rm -rf .venv .s3rver
