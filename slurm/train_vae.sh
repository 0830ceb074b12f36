#!/usr/bin/env bash
# Stage 1, by default configs/celeba_hq/beta_vae.yaml:
#   sbatch slurm/train_vae.sh [CONFIG [key.path=value ...]]
# DATA and VAE (its run folder) are set in slurm/site.env. The job requeues itself before its time limit and resumes in
# VAE.
#SBATCH --job-name=idgan-vae
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
[ -f slurm/lib.sh ] || { echo "error: slurm/lib.sh is not in $PWD; go to the folder that holds slurm/" >&2; exit 2; }
. slurm/lib.sh
load_site
need DATA VAE
config=${1:-configs/celeba_hq/beta_vae.yaml}
[ $# -eq 0 ] || shift
on_all_nodes "$VAE" trainer vae --pinned "$config" "data.path=$DATA" "run=$VAE" "$@" || true
settle "$VAE"
