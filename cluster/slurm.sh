#!/usr/bin/env bash
# One Ray node on every Slurm node, and a search on them.
#
#   sbatch cluster/slurm.sh my-study search_spaces/lottery_ticket.yaml --storage /shared/store -- --gpus-per-trial 1
#   squeue --me; tail -f prune-search-JOBID.log
#   prune-search status my-study --storage /shared/store
#
# Before its time is up, and when it is preempted, the search stores its states, and the job queues itself again and goes
# on (scancel --signal=INT stops it for good). The environment that sbatch is called in must have prune-search[cluster] on
# every node; the folders of this file, of the space and of the storage must be shared.
#SBATCH --job-name=prune-search
#SBATCH --output=prune-search-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
set -euo pipefail

here=${PRUNE_SEARCH_CLUSTER:-${SLURM_SUBMIT_DIR:-$PWD}/cluster}
port=${RAY_PORT:-6379}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.prune-search-token-$SLURM_JOB_ID}
export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
[ -e "$RAY_AUTH_TOKEN_PATH" ] || "$here/start-ray.sh" token > /dev/null

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
sizes=("--num-cpus=${SLURM_CPUS_PER_TASK:-1}" "--num-gpus=${SLURM_GPUS_ON_NODE:-0}")

started=()
RAY_NODE_ADDRESS=$address srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  "$here/start-ray.sh" head "${sizes[@]}" &
started+=($!)
for ((n = 0; n < 60; n++)); do
  ray health-check --address "$address:$port" > /dev/null 2>&1 && break
  sleep 2
done
for node in "${nodes[@]:1}"; do
  srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap "$here/start-ray.sh" worker "$address:$port" "${sizes[@]}" &
  started+=($!)
done

name=$1 space=$2
shift 2
"$here/run-or-resume.sh" "$name" "$space" --address "$address:$port" "$@" &
search=$!
asked=0
trap 'asked=1; kill -TERM "$search" 2> /dev/null || true' TERM
code=0
wait "$search" || code=$?
# The signal ends a wait, and not what is waited for.
while kill -0 "$search" 2> /dev/null; do
  code=0
  wait "$search" || code=$?
done
kill "${started[@]}" 2> /dev/null || true
wait "${started[@]}" 2> /dev/null || true
if [ "$asked" = 1 ] && [ "$code" -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
