#!/usr/bin/env bash
# Stage 1, stage 2 and its evaluation, each after the one before has succeeded:
#   slurm/pipeline.sh [VAE_CONFIG GAN_CONFIG [key.path=value ...]]
# Not submitted itself: it submits the three jobs and prints their numbers. Overrides are those of stage 2.
[ -f slurm/lib.sh ] || { echo "error: slurm/lib.sh is not in $PWD; go to the folder that holds slurm/" >&2; exit 2; }
. slurm/lib.sh
load_site
need DATA VAE RUN
[ $# -ne 1 ] || fail "usage: slurm/pipeline.sh [VAE_CONFIG GAN_CONFIG [key.path=value ...]]"
vae_config=${1:-configs/celeba_hq/beta_vae.yaml}
gan_config=${2:-configs/celeba_hq/1024.yaml}
[ $# -eq 0 ] || shift 2
first=$(sbatch --parsable slurm/train_vae.sh "$vae_config")
second=$(sbatch --parsable --dependency="afterok:$first" slurm/train_1024.sh "$gan_config" "$@")
third=$(sbatch --parsable --dependency="afterok:$second" slurm/eval_fid.sh "$RUN")
echo "vae $first, gan $second, fid $third"
