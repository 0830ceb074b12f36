# What every job script does around its command. Sourced in the folder that sbatch was called in.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}

# To be evaluated where Python is called: what the site runs before it. Module and conda scripts read variables that may
# not be set; their output goes to standard error, as standard output is the command's.
SET_UP='set +u; eval "${SETUP:-true}" >&2 || fail "SETUP: $SETUP ended with exit code $?"; set -u'

load_site() {
  SITE_ENV=${SITE_ENV:-slurm/site.env}
  [ -f "$SITE_ENV" ] || fail "SITE_ENV: $SITE_ENV is not in $PWD; submit from the project's folder, or name the file"
  set -a
  # shellcheck disable=SC1090
  . "$SITE_ENV"
  set +a
  local name
  for name in DATA VAE RUN; do # bash leaves a quoted ~ as it is
    case ${!name:-} in "~" | "~/"*) printf -v "$name" %s "$HOME${!name#\~}" ;; esac
  done
  [ -z "${STAGE_TO:-}" ] || fail "STAGE_TO: $STAGE_TO, in $SITE_ENV or the environment, is now the setting data.cache;" \
    "unset it, and give the job data.cache.path=$STAGE_TO data.cache.gigabytes=NUMBER"
  DEVICE=${DEVICE:-gpu}
  [ -f "configs/accelerate/$DEVICE.yaml" ] || fail "DEVICE: $DEVICE, in $SITE_ENV; set it to gpu or cpu"
  export SITE_ENV DEVICE
}

# need NAME...: all that are unset, at once.
need() {
  local name missing=()
  for name; do [ -n "${!name:-}" ] || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] || fail "${missing[*]}: not set; set them in $SITE_ENV"
}

# in_python COMMAND...: with the site's set-up and container.
in_python() {
  eval "$SET_UP"
  # shellcheck disable=SC2086
  ${CONTAINER:-} "$@"
}

# again_on_usr1 COMMAND...: Slurm's USR1, or the like, ends the command, and the job starts it again; it resumes by itself.
again_on_usr1() {
  local child code=0 stopped=
  (
    eval "$SET_UP"
    # shellcheck disable=SC2086
    exec ${CONTAINER:-} "$@"
  ) &
  child=$!
  trap 'stopped=1; kill -TERM "$child" 2>/dev/null || true' USR1 USR2 XCPU
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$? # a trapped signal ends the wait, not the command
  done
  trap '' USR1 USR2 XCPU # a second one must not end this script before it has started the job again
  if [ -n "$stopped" ] && [ "$code" -ne 0 ]; then requeue; fi
  return "$code"
}

# requeue: this job starts again, unless it was cancelled or is over: Slurm would take back even such a one. The last
# element of an array has the array's own number: by that, all elements would be meant.
requeue() {
  local job=$SLURM_JOB_ID
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  case $(squeue --noheader --jobs "$job" --format %T) in
    COMPLETING | CANCELLED | TIMEOUT) echo "job $job was cancelled: it does not start again" ;;
    *) scontrol requeue "$job" ;;
  esac
  exit 75
}

# on_all_nodes RUN COMMAND...: one task a node; signals that this script gets reach every process.
on_all_nodes() {
  local run=$1 step code=0
  mkdir -p "$run/nodes"
  MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  PORT=${PORT:-$((20000 + SLURM_JOB_ID % 20000))}
  export MASTER_ADDR PORT
  if (: <"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then # this script runs on the first host
    fail "PORT: $PORT is in use on $MASTER_ADDR; set another one in $SITE_ENV"
  fi
  # srun takes neither the job's CPUs per task (from Slurm 22.05 on) nor, after `sbatch --export=...`, its environment
  srun --export=ALL ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --kill-on-bad-exit=1 bash slurm/node.sh "$@" &
  step=$!
  trap 'kill -USR1 "$step" 2>/dev/null || true' USR1 USR2 XCPU HUP INT QUIT TERM
  while kill -0 "$step" 2>/dev/null; do
    code=0
    wait "$step" || code=$? # a trapped signal ends the wait, not the step
  done
  trap '' USR1 USR2 XCPU HUP INT QUIT TERM # a second one must not end this script before `settle`
  return "$code"
}

# settle RUN: RUN/nodes/JOB-RESTARTS/exit.json becomes this job's exit code; a job that stopped early or lost a node
# starts again. `trainer settle` exits with 100 for that, else with the job's exit code; what it prints is for people.
# It leaves the same number in the file `decision`: a container that loses exit codes would make a success of all.
settle() {
  local code=0 decided='' file=$1/nodes/$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}/decision
  rm -f "$file" # a cluster that was set up anew may number its jobs from 1 again
  (in_python python -m trainer settle "$1" --job "$SLURM_JOB_ID" --restarts "${SLURM_RESTART_COUNT:-0}") || code=$?
  if [ -f "$file" ]; then decided=$(<"$file"); fi
  if [ -z "$decided" ] && [ "$code" -ne 0 ]; then exit "$code"; fi # it failed itself, and has said why
  [ "$code" = "$decided" ] || fail "CONTAINER: \`python -m trainer settle\` ended with exit code $code, but $file says" \
    "${decided:-nothing}; CONTAINER and SETUP in $SITE_ENV must hand on the exit code of Python"
  if [ "$code" -eq 100 ]; then requeue; fi
  exit "$code"
}
