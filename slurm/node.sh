#!/usr/bin/env bash
# One node's part of a job, started by srun on each: `node.sh RUN MODULE ARGUMENT...`.
. slurm/lib.sh
load_site
run=$1
shift

attempt=$run/nodes/$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}
mkdir -p "$attempt/joined"
exec > >(tee -a "$run/nodes/$SLURMD_NODENAME.log") 2>&1 # the job's own output has every node's, mixed

# meet FOLDER SECONDS WORD: waits until every node has come and left its word, or says who is missing.
meet() {
  local folder=$1 seconds=$2 start=$SECONDS host missing
  echo "$3" >"$folder/.$SLURMD_NODENAME"
  mv "$folder/.$SLURMD_NODENAME" "$folder/$SLURMD_NODENAME"
  while :; do
    missing=()
    for host in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
      [ -e "$folder/$host" ] || missing+=("$host")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ $((SECONDS - start)) -lt "$seconds" ] ||
      fail "on $SLURMD_NODENAME: ${missing[*]} did not appear in $folder; not started," \
        "or RUN is not shared by the nodes"
    sleep 1
  done
}

per_node=${PROCESSES_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
meet "$attempt/joined" "${JOIN_SECONDS:-300}" "$per_node"
counts=$(grep -H . "$attempt"/joined/* | sed 's|.*/||' | paste -sd ' ') # n1:8 n2:4 by `sbatch --gpus=12`
[ "$(cat "$attempt"/joined/* | sort -u | wc -l)" -eq 1 ] ||
  fail "GPUs: the nodes have different numbers ($counts); ask for as many on each, with sbatch --gpus-per-node=N"
if [ -n "${NETWORK:-}" ]; then export NCCL_SOCKET_IFNAME=$NETWORK GLOO_SOCKET_IFNAME=$NETWORK; fi
processes=$((per_node * SLURM_NNODES))
# torchelastic passes these on to the processes, and waits so long before it kills them
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2,SIGXCPU,SIGALRM,SIGPWR,SIGIO
export PET_SHUTDOWN_TIMEOUT=${SAVE_SECONDS:-240}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
echo "$(date +%FT%T) $SLURMD_NODENAME: job $SLURM_JOB_ID, restarts ${SLURM_RESTART_COUNT:-0}," \
  "$per_node of $processes processes"
eval "$SET_UP"
# shellcheck disable=SC2086
exec ${CONTAINER:-} accelerate launch --config_file "configs/accelerate/$DEVICE.yaml" \
  --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" --num_processes "$processes" \
  --main_process_ip "$MASTER_ADDR" --main_process_port "$PORT" \
  -m "$@" "processes=$processes"
