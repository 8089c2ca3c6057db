#!/usr/bin/env bash
# Lesion masks from the challenge's folder to a checked zip; writes to the current folder.
# usage: segmentation.sh DATA [options of `magic train`, such as --preset paper --weights DIR]
set -euo pipefail
data=${1:?usage: segmentation.sh DATA [options of magic train]}
shift

if [ ! -e prepared ]; then
  magic prepare --data "$data"
fi
magic train seg "$@"  # with masks of another dataset: --data prepared --data isic/prepared --data-weight 1 --data-weight 0.5

# The valid split has gold: how good is it?
magic predict seg --ckpt best.pt --split valid --out valid/seg
magic score valid/seg prepared --split valid

# The test split has none: predict it and pack it.
magic predict seg --ckpt best.pt --split test
magic package --seg predictions/seg --split test --out segmentation.zip
