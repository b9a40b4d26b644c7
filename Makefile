# Two commands do everything from a bare clone: `make demo` and `make test`.
# They need python3 (3.11 or newer, with venv) and make, and nothing else.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test install lint clean

demo: install
	$(BIN)/ser demo

test: install lint
	$(BIN)/pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The stamp is newer than what it was made from, so a second `make` installs nothing.
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,dev]"
	touch $@

clean:
	rm -rf .venv
