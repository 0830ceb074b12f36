#!/usr/bin/env bash
# FID and its kin of a run, on 50,000 samples; a process a GPU (--gpus-per-node=N). Started again, it resumes from
# its partial sums:
#   sbatch slurm/eval_fid.sh [RUN [OPTION ...]]
# RUN is slurm/site.env's where none is given; options are those of `python -m evaluation fid`.
#SBATCH --job-name=idgan-fid
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@60
#SBATCH --requeue
#SBATCH --open-mode=append
[ -f slurm/lib.sh ] || { echo "error: slurm/lib.sh is not in $PWD; go to the folder that holds slurm/" >&2; exit 2; }
. slurm/lib.sh
load_site
run=${1:-${RUN:-}}
[ -n "$run" ] || fail "RUN: not set; name a run folder, or set it in $SITE_ENV"
[ $# -eq 0 ] || shift
case $DEVICE in # site.env's PROCESSES_PER_NODE and PORT are those of training jobs
  gpu) device=cuda processes=${SLURM_GPUS_ON_NODE:-1} ;;
  *) device=cpu processes=1 ;;
esac
launcher=(python)
if [ "$processes" -gt 1 ]; then
  launcher=(accelerate launch --config_file "configs/accelerate/$DEVICE.yaml" --num_processes "$processes"
    --main_process_port "$((20000 + SLURM_JOB_ID % 20000))")
fi
# shellcheck disable=SC2086
again_on_usr1 "${launcher[@]}" -m evaluation fid "$run" --device "$device" ${EVALUATION:-} "$@"
