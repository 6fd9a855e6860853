# make demo and make test do all their own set-up: a virtual environment in .venv, everything
# installed into it at the versions of constraints.txt. Of pylocron and labml-nn only the optimizers
# are used, beside ours; what else they need is left out.

PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test test-integrations sharded oldest thorough faults format check docs stubs agreement bench clean

demo: .venv/installed
	$(BIN)/samestep demo $(ARGS)

test: .venv/installed
	OMP_NUM_THREADS=1 \
	SAMESTEP_RULES=examples/quasi_hyperbolic_momentum.py \
	SAMESTEP_BACKENDS=numpy,array_api_strict,torch,jax,mlx \
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not thorough and not typing and not sharded" $(ARGS)

# What runs in several processes, which are the ranks of gloo, jax.distributed and mlx.launch; at most
# ten minutes. One test after another: ranks need the cores.
sharded: .venv/installed
	OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -m "sharded and not thorough" \
	conformance_tests tests/checkpoint tests/project $(ARGS)

# Our optimizers inside the tools that people train with. Of timm and torchtitan only the optimizers
# are used, and what they import is installed without the rest of what those need; heavyball and
# muon-optimizer import nothing else.
TITAN = torchtitan tyro spmd_types docstring_parser
test-integrations: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[integrations]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps timm $(TITAN) heavyball muon-optimizer
	OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not thorough" \
	conformance_tests/integrations tests/checkpoint/test_aged_states.py $(ARGS)

# The oldest versions that pyproject.toml allows, in a folder whose packages hide those of .venv.
oldest: OLDEST = beginnings functional groups route schedules state_dtypes
oldest: .venv/installed
	rm -rf .oldest
	$(BIN)/pip install --quiet --no-deps --target .oldest --requirement constraints-oldest.txt
	PYTHONPATH=$(CURDIR)/.oldest OMP_NUM_THREADS=1 \
	SAMESTEP_BACKENDS=numpy,array_api_strict,torch,jax,mlx \
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not thorough and not typing and not sharded" \
	conformance_tests/rules/test_agreement.py conformance_tests/jax conformance_tests/mlx \
	conformance_tests/checkpoint $(OLDEST:%=tests/core/test_%.py) $(ARGS)

# Every rule on every backend, through every compiler and in every dtype; make test has the rules
# that stand for all, as conformance_tests/harness/parametrized.py says.
thorough: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m thorough $(ARGS)

# Faults planted in all that steps: the suite must catch each, and the diagnosis name it.
faults: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 conformance_tests/faults $(ARGS)

check: stubs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest --quiet tests/project/test_typing.py tests/project/test_layers.py

format: .venv/installed
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

stubs agreement: .venv/installed
	$(BIN)/python -m samestep.conformance.harness.$@ $(if $(filter agreement,$@),--write docs/pages/agreement.md)

# timm depends on torchvision, which its optimizers do not need.
bench: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps timm
	$(BIN)/samestep bench $(ARGS)

docs: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/mkdocs build --quiet --config-file docs/mkdocs.yml

.venv/installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	rm -rf samestep.egg-info # of an earlier layout, it would hide the entry points
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps pylocron labml-nn
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
