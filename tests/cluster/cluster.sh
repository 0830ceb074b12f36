#!/usr/bin/env bash
# A Slurm cluster of four nodes, n1 to n4, on this machine: `cluster.sh up FOLDER` and `cluster.sh down FOLDER`, as root.
# Eight GPUs a node are pretended, so that unmodified directives run. A requeued job starts again after seconds: it waits
# for the lifetime of a credential and for the scheduler's next look at the queue, by default two minutes and one.
set -euo pipefail
action=$1
folder=$(readlink -m "$2")
nodes=(n1 n2 n3 n4)

install_slurm() {
  command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
}

configure() {
  local host n
  host=$(hostname -s)
  for n in "$host" "${nodes[@]}"; do grep -q "[[:space:]]$n\b" /etc/hosts || echo "127.0.0.1 $n" >>/etc/hosts; done
  mkdir -p "$folder"/{state,gpus,logs,munge}
  for n in 0 1 2 3 4 5 6 7; do : >"$folder/gpus/gpu$n"; done
  cat >"$folder/slurm.conf" <<END
ClusterName=idgan
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=27817
AuthType=auth/munge
AuthInfo=cred_expire=5,socket=$folder/munge/socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
JobRequeue=1
ReturnToService=2
KillWait=30
GresTypes=gpu
MpiDefault=none
SlurmUser=root
SlurmdParameters=config_overrides
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/logs/slurmctld
SlurmdLogFile=$folder/logs/slurmd-%n
NodeName=n[1-4] NodeHostname=$host NodeAddr=127.0.0.1 Port=[27818-27821] CPUs=64 RealMemory=200000 Gres=gpu:8
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP
END
  echo "NodeName=n[1-4] Name=gpu File=$folder/gpus/gpu[0-7]" >"$folder/gres.conf"
  printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$folder/cgroup.conf"
}

up() {
  local n
  install_slurm
  configure
  chown -R munge "$folder/munge"
  chmod 0755 "$folder/munge"
  [ -f /etc/munge/munge.key ] || { dd if=/dev/urandom bs=1 count=1024 2>/dev/null >/etc/munge/munge.key; }
  chown munge: /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
  su -s /bin/bash munge -c "munged --force --socket=$folder/munge/socket --pid-file=$folder/munge/pid \
    --log-file=$folder/munge/log --seed-file=$folder/munge/seed"
  export SLURM_CONF=$folder/slurm.conf
  slurmctld
  for n in "${nodes[@]}"; do slurmd -N "$n"; done
  for _ in $(seq 60); do
    [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = "${#nodes[@]}" ] && return
    sleep 0.5
  done
  sinfo -N -l >&2 || true
  tail -n 20 "$folder"/logs/* >&2
  echo "error: the cluster did not come up" >&2
  exit 1
}

down() {
  export SLURM_CONF=$folder/slurm.conf
  scancel --user=root --signal=KILL --full 2>/dev/null || true
  for pid in "$folder"/slurmd-n?.pid "$folder/slurmctld.pid" "$folder/munge/pid"; do
    [ -f "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true
  done
}

"$action"
