#!/usr/bin/env bash
# The GPU benchmark, on a machine with a card, without a network, for ten minutes at a time. Same file in a clone and in a
# bundle (bundle.ts).
#
#   run.sh [--device cuda|cpu] [--part a|b|c] [--out DIR] [--from DIR] [--python PYTHON] [--seconds 570] [--tiny] [step ...]
#
# a  the plugin, donation by address, products against float64, fused attention, what the card does at best
# b  SFT, LoRA update, decoding: 0.5B and 3B shapes, random weights; memory, log-probability differences
# c  the same in PyTorch, transformers, PEFT and TRL, if PYTHON has them
#
# A part ends after --seconds. Exit 75: there is more to do, the same command goes on where it stopped (DIR holds a.json,
# b.json, c.json, written after every step, and report.md); 0: all is done; 1: all is done, and a step failed twice.
# --from DIR installs the plugin first: from wheels, or from the site-packages of an environment with JAX's CUDA plugin
# (a bundle that was made with wheels brings them). --tiny --device cpu tries all of it without a card.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [[ -x "$here/bin/node" ]]; then
  node="$here/bin/node" ending=mjs
else
  node="$here/../../node_modules/node/bin/node" ending=ts
  [[ -x "$node" ]] || node=node
fi

device=cuda from=
[[ -d "$here/wheels" ]] && from="$here/wheels"
rest=()
while (($#)); do
  case "$1" in
    --device) device="$2"; rest+=("$1" "$2"); shift 2 ;;
    --from) from="$2"; shift 2 ;;
    *) rest+=("$1"); shift ;;
  esac
done

quiet=--disable-warning=ExperimentalWarning
if [[ -n "$from" ]]; then "$node" $quiet "$here/install.$ending" "$device" "$from"; fi
exec "$node" $quiet "$here/run.$ending" ${rest[@]+"${rest[@]}"}
