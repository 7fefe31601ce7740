#!/usr/bin/env bash
# One Ray node, with a token and without telemetry. All files of this folder start Ray through it or as it does.
#
#   export RAY_AUTH_TOKEN_PATH=~/prune-search.token
#   cluster/start-ray.sh token                       # makes the token's file, once; copy it to every node
#   cluster/start-ray.sh head                        # on the first machine; Ctrl-C ends it
#   cluster/start-ray.sh worker HEAD_ADDRESS:6379    # on every other one
#
# What follows the verb (and the address) goes to `ray start`, e.g. --num-gpus=4. Variables: RAY_NODE_ADDRESS (by default
# what Ray finds), RAY_PORT (6379), RAY_DASHBOARD_PORT (8265); with RAY_NODE_BLOCK=0 it goes to the background. The dashboard, which takes jobs, listens on the loopback
# address: reach it with `ssh -L 8265:localhost:8265 HEAD`, or open it with RAY_DASHBOARD_HOST.
set -euo pipefail

die() {
  echo "start-ray.sh: $*" >&2
  exit 2
}

# A token in a file that others can read is none. Ray's own ports listen on every address of a machine, whatever
# address the node is given, so that no node is started without.
check_token() {
  export RAY_AUTH_MODE=token
  if [ -n "${RAY_AUTH_TOKEN:-}" ]; then
    return
  fi
  local file=${RAY_AUTH_TOKEN_PATH:-}
  [ -n "$file" ] || die "name the token's file with RAY_AUTH_TOKEN_PATH: without a token anyone could run anything here"
  [ -s "$file" ] || die "$file holds no token: start-ray.sh token makes one"
  local mode
  mode=$(stat -L -c %a "$file")
  [ $((8#$mode & 8#077)) -eq 0 ] || die "$file can be read by others (mode $mode): chmod 600 $file"
}

make_token() {
  local file=${RAY_AUTH_TOKEN_PATH:-}
  [ -n "$file" ] || die "name the file with RAY_AUTH_TOKEN_PATH"
  [ ! -e "$file" ] || die "$file is there already"
  (umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$file")
  echo "$file"
}

verb=${1:-}
[ $# -gt 0 ] && shift
export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
# `ray job stop` waits so long for a search to store its states.
export RAY_JOB_STOP_WAIT_TIME_S=${RAY_JOB_STOP_WAIT_TIME_S:-60}
common=(--disable-usage-stats)
[ "${RAY_NODE_BLOCK:-1}" = 0 ] || common+=(--block)
[ -z "${RAY_NODE_ADDRESS:-}" ] || common+=("--node-ip-address=$RAY_NODE_ADDRESS")
case $verb in
  token)
    make_token
    ;;
  head)
    check_token
    exec ray start --head "${common[@]}" "--port=${RAY_PORT:-6379}" --include-dashboard=true \
      "--dashboard-host=${RAY_DASHBOARD_HOST:-127.0.0.1}" "--dashboard-port=${RAY_DASHBOARD_PORT:-8265}" "$@"
    ;;
  worker)
    [ $# -gt 0 ] || die "worker needs the head's address, HOST:6379"
    check_token
    address=$1
    shift
    exec ray start "--address=$address" "${common[@]}" "$@"
    ;;
  *)
    die "must be: token, head, or worker HEAD_ADDRESS:6379 (got '$verb')"
    ;;
esac
