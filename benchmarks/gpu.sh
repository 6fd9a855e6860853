#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: set up, check that every rule computes the same there, and time
# it. What it finds lands in the folder that is given, or in gpu-run.
#
#     benchmarks/gpu.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-run}
mkdir -p "$out"
make .venv/installed
jax=$(sed -n 's/^jax==//p' constraints.txt)
.venv/bin/pip install --quiet --constraint constraints.txt "jax[cuda12]==$jax"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee "$out/machine.csv"
SAMESTEP_BACKENDS=torch,jax .venv/bin/python -m samestep.conformance.harness.agreement | tee "$out/agreement.md"
SAMESTEP_BACKENDS=torch .venv/bin/python -m pytest -q \
  conformance_tests/torch/test_executions.py conformance_tests/rules/test_gpu.py | tee "$out/tests.txt"
.venv/bin/samestep bench --against torch.optim,optax,copy --models gpt2,llama7b,large,small \
  --executions compiled,packed,auto --out "$out"
