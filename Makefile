# Each target makes the environment it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PHOTOS ?=
REALSET ?=

.PHONY: demo demo-web test drills slow check docs clean

# Made anew when the pins or the dependencies change.
$(VENV)/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev,docs]'
	touch $@

demo demo-web: $(VENV)/ready
	$(BIN)/imaginet demo $(if $(PHOTOS),--photos '$(PHOTOS)' --output runs/demo-own) \
		$(if $(REALSET),--realset '$(REALSET)') $(if $(filter demo-web,$@),--web)
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
	$(BIN)/deptry rayapp jobs
	$(BIN)/deptry tests benchmarks docs --ignore DEP002,DEP004
	$(BIN)/python -m pytest -q tests/test_links.py

# A warning is an error: a link that leads nowhere, a docstring that can't be rendered.
docs: $(VENV)/ready
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs/html
	@echo 'docs: build/docs/html/index.html'

clean:
	rm -rf $(VENV) runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
