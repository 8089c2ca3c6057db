#!/usr/bin/env bash
# Closed answers from the challenge's folder to a checked zip; writes to the current folder.
# usage: closed-vqa.sh DATA [options of `magic train`, such as --modality text]
set -euo pipefail
data=${1:?usage: closed-vqa.sh DATA [options of magic train]}
shift

if [ ! -e prepared ]; then
  magic prepare --data "$data"
fi
magic train cvqa "$@"

# The valid split has gold: how good is it?
magic predict cvqa --ckpt best.pt --split valid --out valid/cvqa
magic score valid/cvqa prepared --split valid

# The test split has none: predict it and pack it.
magic predict cvqa --ckpt best.pt --split test
magic package --cvqa predictions/cvqa --split test --out closed-vqa.zip
