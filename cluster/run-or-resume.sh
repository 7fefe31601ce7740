#!/usr/bin/env bash
# A search that may be begun again at any time (a spot notice, a time limit): launched where it is not there yet, else
# resumed. A signal reaches the search itself, which stores its states and ends with 143; the next call goes on.
#
#   run-or-resume.sh NAME SPACE --address auto --storage s3://studies/first -- --trials 100 --gpus-per-trial 1
#
# Before the -- what launch and resume both take, behind it what only launch takes.
set -euo pipefail

[ $# -ge 2 ] || {
  echo "run-or-resume.sh: must be NAME SPACE [OPTIONS] [-- LAUNCH OPTIONS]" >&2
  exit 2
}
name=$1 space=$2
shift 2
both=() storage=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  [ "$1" != --storage ] || storage=(--storage "${2:-}")
  both+=("$1")
  shift
done
[ $# -eq 0 ] || shift
if prune-search status "$name" "${storage[@]}" > /dev/null 2>&1; then
  exec prune-search resume "$name" "${both[@]}"
fi
exec prune-search launch "$space" --name "$name" "${both[@]}" "$@"
