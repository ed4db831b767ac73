#!/usr/bin/env bash
# How wide the heads of preset `edge` should be, and how long the steps of Adam: the table in README.md.
#
#     benchmarks/widths.sh WEAK OUT
#
# WEAK is as for ablation.sh, OUT the folder that it wrote. An hour or so on two cores; it goes on where it was stopped.
set -euo pipefail
weak=$1 out=$2
bin=$(dirname "$0")/../.venv/bin
minilm=$("$bin/python" "$(dirname "$0")/minilm.py")
widths=width-256,width-512,width-1024,width-2048,width-4096

ablate() {  # STEP SEEDS WIDTHS: both sets, 16 and 64 bits
    "$bin/duch" ablate "$weak" "$out/widths-weak-$1" --features "$weak/features" --learning-rate "$1" \
        --bits 16,64 --seeds "$2" --variants "$3"
    "$bin/duch" ablate "$out/scenes" "$out/widths-scenes-$1" --preset edge --image-encoder "$out/tiny" \
        --text-encoder "$minilm" --learning-rate "$1" --bits 16,64 --seeds "$2" --variants "$3"
}
ablate 1e-4 5 "$widths"
ablate 3e-4 3 width-512,width-1024,width-4096

# The step, chosen without labels: the mean rank of held-out partners.
for bits in 16 64; do
    "$bin/duch" tune "$weak" "$out/steps-weak" --features "$weak/features" --n-bits "$bits" \
        --try learning_rate=1e-4,3e-4,1e-3
    "$bin/duch" tune "$out/scenes" "$out/steps-scenes" --preset edge --image-encoder "$out/tiny" \
        --text-encoder "$minilm" --n-bits "$bits" --try learning_rate=1e-4,3e-4,1e-3
done
