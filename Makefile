# The release of torch that the project is tested with; `make TORCH=torch` takes the newest instead.
TORCH ?= torch==2.13.0
PYTHON ?= python3
BIN := .venv/bin
INTEGRATIONS := .venv-integrations
SCALE ?= smoke
OUT ?= reproduction

.PHONY: help demo test integrations reproduce-paper bench check format clean

help: ## this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/demo ## train, allocate, analyze and draw two nets on embedded digits into demo/, in about a minute
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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8

integrations: $(INTEGRATIONS)/made ## run the examples with the real Lightning and transformers, in an environment of their own
	$(INTEGRATIONS)/bin/python -m pytest tests/docs/test_examples.py

reproduce-paper: .venv/made ## redo the paper, SCALE=smoke (digits, minutes), cpu (a day) or paper (on a GPU)
	$(BIN)/python scripts/reproduce_paper.py --scale $(SCALE) --out $(OUT)

bench: .venv/made ## measure recording, allocation and the alternatives, onto bench/page.txt, in more than an hour
	PYTHONPATH=scripts $(BIN)/python -m bench.page --out bench

check: .venv/made ## format, lint, types and the order of imports, in seconds
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/made ## rewrite the files as check wants them
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## remove what make has built, but for reproduction
	rm -rf .venv $(INTEGRATIONS) build demo bench *.egg-info .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find docs lca scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Both stamps are older than setup.cfg after every change of it, and the environment is then made anew.
.venv/demo: setup.cfg
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)" --editable ".[animation,report]"
	touch $@

# What development needs, added to what the demo needs.
.venv/made: .venv/demo
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)" --editable ".[dev]"
	touch $@

# Apart, since these bring many packages that nothing else here needs.
$(INTEGRATIONS)/made: setup.cfg
	$(PYTHON) -m venv --clear $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/pip install --quiet --disable-pip-version-check "$(TORCH)" pytest --editable ".[integrations]"
	touch $@
