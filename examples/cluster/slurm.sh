#!/bin/bash
# A sweep on the nodes of a Slurm job, which become a Ray cluster: sbatch slurm.sh my.yaml
# docs/cluster.md describes the steps before. The storage, this package (`ser` on PATH) and your
# home must be on a file system that all nodes share. Adapt the next lines to your cluster.
#SBATCH --job-name=ser
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --mem=0
#SBATCH --time=12:00:00
# Whole nodes, because two Ray clusters on one node would use the same ports.
#SBATCH --exclusive
# Two minutes before its time limit, the job puts itself into the queue again, to resume there.
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
#SBATCH --output=ser-%j.log
set -euo pipefail
config=${1:?usage: sbatch slurm.sh CONFIG [--set KEY=VALUE ...]}
shift

# All nodes use one token, in ~/.ray/auth_token. The token is created once. Only you may read it.
umask 077
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null
chmod 600 "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"

trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
trap 'echo "time is up: queued again"; scontrol requeue "$SLURM_JOB_ID"; exit 0' USR1

# This script runs on the first node, which is the head. With `--block`, Ray ends with the job.
head=$SLURMD_NODENAME
port=${SER_PORT:-6379}
cpus=$SLURM_CPUS_PER_TASK
gpus=${SLURM_GPUS_ON_NODE:-0}
nodes=$SLURM_JOB_NUM_NODES
ray start --head --block --port="$port" --num-cpus="$cpus" --num-gpus="$gpus" \
  --dashboard-host=127.0.0.1 --dashboard-port="${SER_DASHBOARD_PORT:-8265}" \
  --temp-dir="${SER_TEMP:-/tmp/ray-$SLURM_JOB_ID}" --disable-usage-stats &
ray=$!
# The first check is quick, but any program may listen there.
until (: < "/dev/tcp/$head/$port") 2> /dev/null &&
  ray health-check --address="$head:$port" 2> /dev/null; do
  kill -0 "$ray" || exit 1  # Ray ended, and has printed the reason
  sleep 0.2
done
if ((nodes > 1)); then
  srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --cpus-per-task="$cpus" --exclude="$head" \
    ray start --block --address="$head:$port" --num-cpus="$cpus" --num-gpus="$gpus" &
fi

# Some nodes may join after `ser` has started, so `ser` gets the final numbers. `ser` runs in the
# background, because bash handles signals only if no command runs in the foreground.
RAY_ADDRESS="$head:$port" ser sweep "$config" "$@" \
  --set cluster.cpus=$((nodes * cpus)) --set cluster.gpus=$((nodes * gpus)) &
wait $!
