# The release of torch that the project is tested with. `make TORCH=torch` installs the latest release instead.
TORCH ?= torch==2.13.0
PYTHON ?= python3
BIN := .venv/bin
INTEGRATIONS := .venv-integrations
SCALE ?= smoke
OUT ?= reproduction

.PHONY: help demo test docs integrations reproduce-paper bench check format clean

help: ## show this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/demo ## train, allocate, analyze and plot two networks on the embedded digits, into demo/ (takes a minute)
	$(BIN)/lca train digits-fc --out demo/digits.zarr --overwrite
	$(BIN)/lca allocate demo/digits.zarr
	$(BIN)/lca analyze helping demo/digits.zarr
	$(BIN)/lca analyze layers demo/digits.zarr
	$(BIN)/lca plot helping demo/digits.zarr --out demo/helping.png
	$(BIN)/lca plot layers demo/digits.zarr --out demo/layers.png
	$(BIN)/lca plot animation demo/digits.zarr --iterations 0:100 --out demo/training.mp4
	$(BIN)/lca plot report demo/digits.zarr --out demo/report.html
	$(BIN)/lca train digits-resnet --iterations 60 --out demo/resnet.zarr --overwrite
	$(BIN)/lca allocate demo/resnet.zarr
	$(BIN)/lca analyze layers demo/resnet.zarr
	$(BIN)/lca plot layers demo/resnet.zarr --out demo/resnet-layers.png

test: .venv/made ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

docs: .venv/made ## build the documentation in build/docs and run its notebook (warnings are errors)
	rm -rf build/docs
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build --builder html --nitpicky --fail-on-warning --keep-going --quiet docs build/docs

integrations: $(INTEGRATIONS)/made ## test the examples with Lightning and transformers, in a separate environment
	$(INTEGRATIONS)/bin/python -m pytest tests/docs/test_examples.py

reproduce-paper: .venv/made ## reproduce the paper with SCALE=smoke (digits, minutes), cpu (a day) or paper (GPU)
	$(BIN)/python scripts/reproduce_paper.py --scale $(SCALE) --out $(OUT)

bench: .venv/made ## benchmark recording, allocation and the alternatives, into bench/page.txt (takes over an hour)
	PYTHONPATH=scripts $(BIN)/python -m bench.page --out bench

check: .venv/made ## check formatting, lint, types and import order (takes seconds)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/windows lca
	$(BIN)/lint-imports

format: .venv/made ## format the code and fix lint errors
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## remove everything that make has built, except for reproduction/
	rm -rf .venv $(INTEGRATIONS) build demo bench *.egg-info .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find docs lca scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Both stamp files depend on setup.cfg, so a change to it creates the environment again.
.venv/demo: setup.cfg
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)" --editable ".[animation,report]"
	touch $@

# This stamp adds the development packages to those of the demo.
.venv/made: .venv/demo
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)" --editable ".[dev]"
	touch $@

# A separate environment, because the integrations install many packages that nothing else needs.
$(INTEGRATIONS)/made: setup.cfg
	$(PYTHON) -m venv --clear $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/pip install --quiet --disable-pip-version-check "$(TORCH)" pytest --editable ".[integrations]"
	touch $@
