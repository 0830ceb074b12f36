#!/usr/bin/env bash
# Stage 2, by default configs/celeba_hq/1024.yaml, on as many nodes as you like:
#   sbatch slurm/train_1024.sh [CONFIG [key.path=value ...]]
# DATA, VAE and RUN are set in slurm/site.env. The job requeues itself before its time limit and resumes in RUN.
#SBATCH --job-name=idgan-1024
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --mem=128G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
[ -f slurm/lib.sh ] || { echo "error: slurm/lib.sh is not in $PWD; go to the folder that holds slurm/" >&2; exit 2; }
. slurm/lib.sh
load_site
need DATA VAE RUN
config=${1:-configs/celeba_hq/1024.yaml}
[ $# -eq 0 ] || shift
on_all_nodes "$RUN" trainer gan --pinned "$config" "data.path=$DATA" "vae=$VAE" "run=$RUN" "$@" || true
settle "$RUN"
