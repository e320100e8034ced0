#!/usr/bin/env bash
# Run a command with a Docker engine on a Debian 12 machine that has none, and take the engine down afterwards.
#
#   scripts/docker_engine.sh COMMAND [ARGUMENT]...
#
# Needs root, Debian's mirror and a package index for pip; no container registry. Nothing is installed on the machine:
# apt fetches the .deb files (so their signatures are checked) into /var/tmp/clipserve-docker, where they are unpacked;
# that folder, about 0.8 GB, is kept for the next run and may be deleted. Images, containers, volumes, the bridge,
# packet-filter rules and cgroups are removed when the command ends.
#
# Without a registry the base image python:3.11-slim-bookworm is a stand-in, made here from Debian's own packages. If
# PIP_FIND_LINKS names a folder, its wheels are offered to pip inside that image.
set -euo pipefail
umask 022

home=/var/tmp/clipserve-docker
tools=$home/tools # unpacked packages
data=$home/data   # the engine's data
base_tag=python:3.11-slim-bookworm
run= # folder of the running engine; short, because paths of sockets are limited
engine=
wheels=${PIP_FIND_LINKS:-}
[ -d "$wheels" ] || wheels=

say() { printf 'docker engine: %s\n' "$*" >&2; }
die() {
  say "FAILED: $*"
  exit 1
}

mirror() {
  apt-get indextargets --format '$(SITE) $(REPO_URI)' 'Codename: bookworm' 2> /dev/null |
    awk '$2 !~ /security/ {sub("/$","",$2); print $2; exit}' | grep . || die "no Debian 12 mirror in apt's sources"
}

# ------------------------------------------------------------------------------------------------ packages

# Debian 12's engine is too old for its compose and buildx packages, which are Debian 13's.
BOOKWORM="runc iptables libip4tc2 libip6tc2 libxtables12 libmnl0 libnftnl11 libnetfilter-conntrack3 libnfnetlink0
  libseccomp2 tini debootstrap"
TRIXIE="docker.io docker-cli containerd docker-compose docker-buildx"

get_tools() {
  if [ -e "$tools/.done" ]; then return; fi
  say "fetching packages"
  local apt=$home/apt options wanted=() name uri
  uri=$(mirror)
  rm -rf "$tools" "$apt"
  mkdir -p "$tools/bin" "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
  cat > "$apt/both.sources" << END
Types: deb
URIs: $uri
Suites: bookworm trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
  options=(-q -o "Dir::Etc::sourcelist=$apt/both.sources" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o Acquire::Languages=none
    -o APT::Sandbox::User=root -o APT::Update::Post-Invoke-Success=)
  for name in $BOOKWORM; do wanted+=("$name/bookworm"); done
  for name in $TRIXIE; do wanted+=("$name/trixie"); done
  timeout 180 apt-get "${options[@]}" update > "$apt/log" 2>&1 || { tail -5 "$apt/log" >&2; die "apt-get update"; }
  (cd "$apt/debs" && timeout 300 apt-get "${options[@]}" download "${wanted[@]}") >> "$apt/log" 2>&1 ||
    { tail -5 "$apt/log" >&2; die "apt-get download"; }
  for name in "$apt"/debs/*.deb; do dpkg -x "$name" "$tools"; done
  # Debian makes these names in maintainer scripts, which are not run here.
  for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -sf ../usr/sbin/xtables-nft-multi "$tools/bin/$name"
  done
  mkdir -p "$home/config/cli-plugins"
  for name in "$tools"/usr/libexec/docker/cli-plugins/*; do ln -sf "$name" "$home/config/cli-plugins/"; done
  rm -rf "$apt"
  touch "$tools/.done"
}

# ------------------------------------------------------------------------------------------------ base image

certificates() { find /usr/local/share/ca-certificates -name '*.crt' 2> /dev/null || true; }

base_key() { # what the stand-in depends on: how it is made, the certificates and the wheels in it
  {
    declare -f make_base
    certificates | sort | xargs -r cat
    [ -z "$wheels" ] || ls -l "$wheels"
  } | sha256sum | cut -c1-12
}

make_base() {
  base=$home/base-$(base_key).tar
  if [ -e "$base" ]; then return; fi
  say "making the stand-in for $base_tag"
  local root=$home/rootfs uri inside
  uri=$(mirror)
  unmount_under "$root"
  rm -rf "$root" "$home"/base-*.tar
  DEBOOTSTRAP_DIR=$tools/usr/share/debootstrap timeout 420 "$tools/usr/sbin/debootstrap" --variant=minbase \
    --include=ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip bookworm "$root" "$uri" \
    > "$home/debootstrap.log" 2>&1 || { tail -5 "$home/debootstrap.log" >&2; die "debootstrap"; }
  inside=(env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 /usr/sbin/chroot "$root")
  rm -f "$root"/usr/lib/python3.*/EXTERNALLY-MANAGED
  ln -s /usr/bin/python3 "$root/usr/local/bin/python"
  ln -s /usr/bin/python3 "$root/usr/local/bin/python3"
  # What this machine needs to reach its package index goes into the stand-in, so that a Dockerfile needs no word of it.
  certificates | xargs -r cp -t "$root/usr/local/share/ca-certificates/"
  "${inside[@]}" update-ca-certificates > /dev/null 2>&1
  cat > "$root/etc/pip.conf" << END
[global]
cert = /etc/ssl/certs/ca-certificates.crt
disable-pip-version-check = true
END
  if [ -n "$wheels" ]; then
    mkdir -p "$root/opt/wheels"
    cp "$wheels"/*.whl "$root/opt/wheels/"
    echo 'find-links = /opt/wheels' >> "$root/etc/pip.conf"
  fi
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*.log
  : > "$root/etc/resolv.conf"
  "${inside[@]}" python -c 'import ssl, sqlite3, sys, venv; assert sys.version_info[:2] == (3, 11)' ||
    die "the stand-in's Python does not work"
  unmount_under "$root"
  tar -C "$root" --one-file-system --numeric-owner -cf "$base.part" .
  mv "$base.part" "$base"
  rm -rf "$root"
}

load_base() {
  timeout 120 docker import --platform linux/amd64 -c 'ENV LANG=C.UTF-8' \
    -c 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' "$base" "$base_tag" > /dev/null ||
    die "docker import"
}

# ------------------------------------------------------------------------------------------------ engine

# Only for dockerd and iptables, whose libraries are in the private folder.
libraries=$tools/usr/lib/x86_64-linux-gnu:$tools/lib/x86_64-linux-gnu
extensions=$tools/usr/lib/x86_64-linux-gnu/xtables

packet_filter() { LD_LIBRARY_PATH=$libraries XTABLES_LIBDIR=$extensions iptables -w 5 "$@" 2> /dev/null; }

remember_network() { # what stop_engine puts back
  forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
  policy=$(packet_filter -S FORWARD | awk '$1=="-P"{print $3}')
  links=" $(ls /sys/class/net | tr '\n' ' ') "
  had_chains=0
  if packet_filter -S DOCKER > /dev/null; then had_chains=1; fi
}

start_engine() {
  local driver
  remember_network
  run=$(mktemp -d /tmp/engine.XXXXXX)
  mkdir -p "$data"
  export DOCKER_HOST=unix://$run/docker.sock
  # vfs copies whole file trees, but works where the kernel refuses overlays.
  for driver in overlay2 vfs; do
    # exec, so that $! is dockerd itself; setsid, so that a Ctrl-C reaches only this script and the command.
    (
      export LD_LIBRARY_PATH=$libraries XTABLES_LIBDIR=$extensions
      exec setsid dockerd --data-root "$data" --exec-root "$run/exec" --pidfile "$run/pid" -H "$DOCKER_HOST" \
        --group root --cgroup-parent "/engine$$" --userland-proxy-path "$tools/usr/sbin/docker-proxy" \
        --storage-driver "$driver" > "$home/dockerd.log" 2>&1 < /dev/null
    ) &
    engine=$!
    for _ in $(seq 60); do
      if docker version > /dev/null 2>&1; then
        say "$(docker version -f '{{.Server.Version}}') with $driver, $(docker compose version)"
        return
      fi
      kill -0 "$engine" 2> /dev/null || break
      sleep 0.5
    done
    kill "$engine" 2> /dev/null || true
    wait "$engine" 2> /dev/null || true
    engine=
    say "dockerd with $driver did not start: $(tail -1 "$home/dockerd.log" | cut -c1-300)"
  done
  die "no engine"
}

unmount_under() {
  awk -v p="$1" '$2 == p || index($2, p "/") == 1 {print $2}' /proc/mounts | sort -r |
    while read -r mount; do umount -l "$mount" || true; done
}

stop_engine() {
  local containerd link rule chain table
  containerd=$(cat "$run/exec/containerd/containerd.pid" 2> /dev/null || true)
  if [ -n "$engine" ]; then
    kill "$engine" 2> /dev/null || true
    for _ in $(seq 80); do
      kill -0 "$engine" 2> /dev/null || break
      sleep 0.25
    done
    kill -9 "$engine" 2> /dev/null || true
    wait "$engine" 2> /dev/null || true
  fi
  # containerd ends with dockerd; if dockerd had to be killed it is still ours to end.
  if [ -n "$containerd" ] && grep -qs "$run/exec" "/proc/$containerd/cmdline"; then kill -9 "$containerd" || true; fi
  unmount_under "$run"
  unmount_under "$data"
  for link in $(ls /sys/class/net); do
    case "$link" in docker0 | br-????????????)
      case "$links" in *" $link "*) ;; *) ip link del "$link" || true ;; esac ;;
    esac
  done
  if [ "$had_chains" = 0 ]; then
    for table in filter nat raw; do
      packet_filter -t $table -S | grep -E '^-A' | grep -E 'DOCKER|docker0|br-[0-9a-f]{12}' | sed 's/^-A/-D/' |
        while read -r rule; do eval "packet_filter -t $table $rule"; done
      packet_filter -t $table -S | awk '$1=="-N" && $2 ~ /^DOCKER/ {print $2}' |
        while read -r chain; do packet_filter -t $table -F "$chain"; done
      packet_filter -t $table -S | awk '$1=="-N" && $2 ~ /^DOCKER/ {print $2}' |
        while read -r chain; do packet_filter -t $table -X "$chain"; done
    done
    [ -z "$policy" ] || packet_filter -P FORWARD "$policy"
    echo "$forwarding" > /proc/sys/net/ipv4/ip_forward
  fi
  find /sys/fs/cgroup -depth -type d -path "*/engine$$*" -exec rmdir {} \; 2> /dev/null
  rm -rf "$run" "$data"
}

finish() {
  local rc=$?
  trap - EXIT
  trap '' INT TERM
  set +e
  [ -z "$run" ] || stop_engine
  exit $rc
}

[ $# -gt 0 ] || die "name the command to run"
[ "$(id -u)" = 0 ] || die "starting an engine needs root"
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || die "starting an engine needs Debian's apt"
mkdir -p "$home"
exec 9> "$home/lock"
flock -w 10 9 || die "another run holds $home/lock"
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
get_tools
export PATH=$tools/bin:$tools/usr/bin:$tools/usr/sbin:$PATH DOCKER_CONFIG=$home/config
make_base
start_engine 9>&-
load_base
"$@" 9>&-
