#!/usr/bin/env bash
# The tables in benchmarks/ablation: DUCH beside the public code, its rivals and itself without each of its parts.
#
#     benchmarks/ablation.sh WEAK OUT
#
# WEAK is a folder with dataset.json and, in features/, the plainly named HDF5 files: RSSCN7 images with RSICD captions of
# the same class (weak pairs). The scenes are drawn here. All heads learn at the published step of 1e-4, on both sets. Two
# hours or so on two cores; it goes on where it was stopped.
set -euo pipefail
weak=$1 out=$2
bin=$(dirname "$0")/../.venv/bin
minilm=$("$bin/python" "$(dirname "$0")/minilm.py")

mkdir -p "$out"
# Image features of the scenes come from a small encoder that was trained on their training part, which no query is in.
[ -f "$out/scenes/dataset.json" ] || "$bin/duch" scenes "$out/scenes" --count 1000 --seed 2
[ -f "$out/tiny/config.json" ] || "$bin/duch" train "$out/scenes" "$out/tiny" --preset tiny --epochs 15 --overwrite

ablate() {  # NAME BITS SEEDS VARIANTS: the grid of both sets so far, its table kept as NAME
    "$bin/duch" ablate "$weak" "$out/weak" --features "$weak/features" --bits "$2" --seeds "$3" --variants "$4" > /dev/null
    cp "$out/weak/table.md" "$out/weak-$1.md"
    "$bin/duch" ablate "$out/scenes" "$out/on-scenes" --preset edge --image-encoder "$out/tiny" --text-encoder "$minilm" \
        --learning-rate 1e-4 --bits "$2" --seeds "$3" --variants "$4" > /dev/null
    cp "$out/on-scenes/table.md" "$out/scenes-$1.md"
}
parts=default,no-inter,no-intra-image,no-intra-text,no-intra,cross-modal-negatives,no-adversary,strong-adversary
parts+=,no-quantization,strong-quantization,no-balance,no-binarization,code-balance
parts+=,no-image-views,aug-center-views,aug-random-views,random-crop-views,one-of-views,no-text-views,words-views,rules-views
parts+=,one-caption,twins-as-negatives,temperature-0.5,temperature-2,learnt-temperature,width-512
ablate parts 64 3 "$parts"
ablate parts-of-short-codes 16 3 default,no-quantization,strong-quantization,temperature-0.5,temperature-2
ablate paper 16,64 3 default,official-code,paper
ablate five-seeds 16,64 5 default,official-code,itq,hyperplanes
ablate methods 16,32,64,128 3 default,official-code,itq,hyperplanes,djsrh,jdsh

# The rule by which the temperature was chosen, without labels; the scores beside it are in the parts' tables.
for bits in 16 64; do
    "$bin/duch" tune "$weak" "$out/weak" --features "$weak/features" --n-bits "$bits" --try temperature=0.5,1,2
    "$bin/duch" tune "$out/scenes" "$out/on-scenes" --preset edge --image-encoder "$out/tiny" --text-encoder "$minilm" \
        --learning-rate 1e-4 --n-bits "$bits" --try temperature=0.5,1,2
done > "$out/temperatures.md"
