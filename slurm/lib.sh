# What every job script does around its command. Sourced in the folder that sbatch was called in.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}

load_site() {
  SITE_ENV=${SITE_ENV:-slurm/site.env}
  [ -f "$SITE_ENV" ] || fail "SITE_ENV: $SITE_ENV is not in $PWD; submit from the project's folder, or name the file"
  set -a
  # shellcheck disable=SC1090
  . "$SITE_ENV"
  set +a
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

# stage FROM TO: copies the files that TO lacks or has with another size or date. Each is there whole or not at all: a job
# killed on the way would leave half a shard. One job at a time: jobs may share a node, and copies of one file collide.
stage() {
  local from=$1 to=$2 file
  mkdir -p "$to" || return 1
  (
    flock 9
    find -L "$from" -type f -printf '%P\n' | while IFS= read -r file; do
      [ "$(stat -L -c '%s %Y' "$from/$file")" != "$(stat -c '%s %Y' "$to/$file" 2>/dev/null)" ] || continue
      mkdir -p "$(dirname "$to/$file")" || exit 1
      cp --preserve=timestamps "$from/$file" "$to/.part" && mv "$to/.part" "$to/$file" || exit 1
    done
  ) 9>"$to/.lock"
}

# in_python COMMAND...: with the site's set-up and container.
in_python() {
  eval "${SETUP:-true}"
  # shellcheck disable=SC2086
  ${CONTAINER:-} "$@"
}

# again_on_usr1 COMMAND...: Slurm's USR1 ends the command, and the job starts it again; it goes on by itself.
again_on_usr1() {
  local child code=0 told=
  (
    eval "${SETUP:-true}"
    # shellcheck disable=SC2086
    exec ${CONTAINER:-} "$@"
  ) &
  child=$!
  trap 'told=1; kill -TERM "$child" 2>/dev/null || true' USR1
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$? # a trapped signal ends the wait, not the command
  done
  trap - USR1
  if [ -n "$told" ] && [ "$code" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 75
  fi
  return "$code"
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
  srun --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --kill-on-bad-exit=1 bash slurm/node.sh "$@" &
  step=$!
  trap 'kill -USR1 "$step" 2>/dev/null || true' USR1 TERM
  while kill -0 "$step" 2>/dev/null; do
    code=0
    wait "$step" || code=$? # a trapped signal ends the wait, not the step
  done
  trap - USR1 TERM
  return "$code"
}

# settle RUN: RUN/exit.json becomes this job's exit code; a job that stopped early or lost a node starts again.
settle() {
  local verdict
  verdict=$(in_python python -m trainer settle "$1" --job "$SLURM_JOB_ID" --restarts "${SLURM_RESTART_COUNT:-0}")
  echo "$verdict"
  case "$verdict" in
    done*) exit 0 ;;
    requeue*) scontrol requeue "$SLURM_JOB_ID" && exit 75 ;;
    *) exit "$(sed -n 's/.*code \([0-9]*\).*/\1/p' <<<"$verdict")" ;;
  esac
}
