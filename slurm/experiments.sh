#!/usr/bin/env bash
# All cells of an experiment (docs/experiments.md), each as an element of a job array with one GPU:
#   sbatch slurm/experiments.sh EXPERIMENT [--budget NAME] [--only PATTERN] [--seeds N]
# This job makes the data and submits an array for each stage, whose elements start when all of the stage before have
# ended (encoders before what needs them), and a last job for the table. A cell that fails does not stop the others.
# Submitted again, it goes on: what is complete is skipped. sbatch's flags for the arrays are those in this file, or the
# SBATCH_ variables of slurm/site.env.
#SBATCH --job-name=idgan-experiments
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
[ $# -ge 1 ] || fail "usage: sbatch slurm/experiments.sh EXPERIMENT [--budget NAME] [--only PATTERN] [--seeds N]"
experiments=(python -m trainer experiments)
case ${IDGAN_STAGE:-} in
  "") [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || fail "IDGAN_STAGE: not set in an element of an array; submit without --array" ;;
  table) in_python "${experiments[@]}" table "$@"; exit ;;
  *)
    echo "element $SLURM_ARRAY_TASK_ID of stage $IDGAN_STAGE"
    again_on_usr1 "${experiments[@]}" run "$@" --element "$IDGAN_STAGE.$SLURM_ARRAY_TASK_ID"
    exit
    ;;
esac
stages=$(mktemp)
again_on_usr1 "${experiments[@]}" prepare "$@" >"$stages"
stage=0 after=()
for count in $(<"$stages"); do
  array=(--array="0-$((count - 1))" --export="ALL,IDGAN_STAGE=$stage")
  id=$(sbatch --parsable "${array[@]}" ${after[@]+"${after[@]}"} slurm/experiments.sh "$@")
  echo "stage $stage: job $id, $count cells"
  after=(--dependency="afterany:$id")
  stage=$((stage + 1))
done
id=$(sbatch --parsable --export=ALL,IDGAN_STAGE=table ${after[@]+"${after[@]}"} slurm/experiments.sh "$@")
echo "table: job $id"
rm "$stages"
