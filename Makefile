# Each target makes the environment it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PHOTOS ?=

.PHONY: demo test drills slow check clean

# Made anew when the pins or the dependencies change.
$(VENV)/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/imaginet demo $(if $(PHOTOS),--photos '$(PHOTOS)' --output runs/demo-own)
	@echo 'For "imaginet" by name, once in a shell: export PATH="$(CURDIR)/$(BIN):$$PATH"'

test: $(VENV)/ready
	$(BIN)/python -m pytest -m 'not drill and not slow'
	$(BIN)/python -m pytest -m 'drill and first'

drills: $(VENV)/ready
	$(BIN)/python -m pytest -m 'drill and not first'

slow: $(VENV)/ready
	$(BIN)/python -m pytest -m 'slow and not drill'

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
