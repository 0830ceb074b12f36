#!/usr/bin/env bash
# Runs the RUN lines of the Dockerfile, which hold the %post lines of apptainer.def, in a fresh Debian, then README's
# quick commands at a tiny size as the image's user. No image is built. As root, with debootstrap:
#   bash container/check_in_fresh_root.sh
# It takes ten GB in TMPDIR, which are removed at the end. SHARE names files and folders of this machine that pip reads,
# such as a mirror of PyPI: read-only there. CERTS names a file of certificates that pip trusts instead of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

runs() { sed -n 's/^RUN //p' container/Dockerfile; }
post() { awk '/^%/ { on = $1 == "%post"; next } on && NF' container/apptainer.def | sed 's/^ *//'; }

# The files that the Dockerfile copies, to where it copies them.
copy_files() {
  local words last
  while read -ra words; do
    last=$root${words[-1]}
    mkdir -p "$last"
    if [ -d "${words[0]}" ]; then cp -r "${words[0]}/." "$last"; else cp "${words[@]:0:${#words[@]}-1}" "$last"; fi
  done < <(sed -n 's/^COPY //p' container/Dockerfile)
}

# mount_read_only PATH: a package of the root must not write to this machine.
mount_read_only() {
  if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root$(dirname "$1")" && touch "$root$1"; fi
  mount --bind "$1" "$root$1"
  mount -o remount,bind,ro "$root$1"
}

# in_root USER HOME LINE
in_root() {
  echo "$1: $3"
  chroot --userspec="$1" "$root" /usr/bin/env -i HOME="$2" PATH=/usr/sbin:/usr/bin:/sbin:/bin OMP_NUM_THREADS=1 \
    ${PIP_FIND_LINKS:+PIP_FIND_LINKS="$PIP_FIND_LINKS"} ${CERTS:+PIP_CERT=/certificates.pem} \
    /bin/sh -c ". /setup; cd $2; $3" </dev/null
}

# In a mount namespace of its own, which ends with it: what removes the root later sees none of these mounts.
inside() {
  local path line
  mount --rbind /proc "$root/proc"
  mount --rbind /dev "$root/dev"
  for path in ${SHARE:-}; do mount_read_only "$path"; done
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  [ -z "${CERTS:-}" ] || cp "$CERTS" "$root/certificates.pem"
  post | head -n 1 >"$root/setup" # the environment
  runs | while IFS= read -r line; do in_root root /root "$line"; done
  while IFS= read -r line; do in_root idgan /home/idgan "$line"; done <<'END'
python -m trainer --help
python -m data_shards make dsprites --out data/dsprites --count 256 --workers 1
python -m trainer vae dsprites/beta_vae batch_size=16 schedule.total_kimg=0.032 schedule.tick_kimg=0.016
python -m trainer checkpoints runs/dsprites-beta_vae
END
}

if [ "${1:-}" = inside ]; then
  root=$2
  inside
  exit
fi
root=$(mktemp -d --suffix=-idgan-root)
trap 'rm -rf --one-file-system "$root"' EXIT
release=$(sed -n 's/^FROM debian://p' container/Dockerfile)
debootstrap --variant=minbase "$release" "$root" >"$root/log" 2>&1 || { tail "$root/log" >&2; exit 1; }
chmod 755 "$root"
copy_files
unshare --mount bash container/check_in_fresh_root.sh inside "$root"
du -sh "$root/opt" | sed 's|/tmp.*/opt|in /opt|'
echo "every step ran: $(runs | wc -l) RUN lines of the Dockerfile, those of %post among them"
