#!/usr/bin/env bash
# Build the images, start the composition on a free port, check it from outside, and take everything down again.
# Where no Docker engine answers, scripts/docker_engine.sh brings one up for the time of the test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! docker compose version > /dev/null 2>&1 || ! docker version > /dev/null 2>&1; then
  exec scripts/docker_engine.sh scripts/test_docker.sh
fi

sample=demo/media/sample.mp4
expected=$(python3 -c 'import json; print(json.load(open("demo/media/labels.json"))["sample.mp4"])')

# Port 0 is a free one; a project of its own keeps away from a composition that is in use.
export PORT=0 USERS=2 DURATION=3s
compose=(docker compose --project-name "clipserve-test-$$" --profile loadtest)
log=$(mktemp)

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
die() {
  say "FAILED: $*"
  exit 1
}
finish() {
  local rc=$?
  trap - EXIT
  trap '' INT TERM
  if [ "$rc" -ne 0 ]; then
    tail -40 "$log"
    "${compose[@]}" ps --all || true
    "${compose[@]}" logs --tail 40 || true
  fi
  "${compose[@]}" down --volumes --rmi local --remove-orphans --timeout 10 > "$log" 2>&1 ||
    { cat "$log"; say "FAILED: compose down"; rc=1; }
  rm -f "$log"
  if [ "$rc" -eq 0 ]; then say "passed"; fi
  exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

timeout 1200 "${compose[@]}" --progress plain build > "$log" 2>&1 || die "build"
say "built: $("${compose[@]}" config --images | sort |
  xargs docker image inspect --format '{{index .RepoTags 0}} {{.Size}} bytes' | tr '\n' ';')"

"${compose[@]}" --progress quiet up --detach --no-build --wait --wait-timeout 240 serve > "$log" 2>&1 ||
  die "compose up"
"${compose[@]}" ps serve | grep -q '(healthy)' || die "serve is not healthy"
say "exported and healthy"

url=http://$("${compose[@]}" port serve 8000)
answer=$(curl -sS --noproxy '*' --max-time 60 -F "file=@$sample" "$url/v1/classify") || die "POST $url/v1/classify"
label=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["predictions"][0]["label"])' <<< "$answer") ||
  die "an answer without predictions: $answer"
[ "$label" = "$expected" ] || die "$sample is '$expected', but the answer is $answer"
say "answered: $label"

"${compose[@]}" --progress quiet run --rm export > "$log" 2>&1 || die "the second start of export"
"${compose[@]}" exec -T serve python - << 'END' > "$log" 2>&1 || die "inside the serve container"
import importlib.util
import os

assert importlib.util.find_spec("torch") is None, "torch can be imported"
assert os.getuid() != 0, "it runs as root"
assert os.statvfs("/").f_flag & os.ST_RDONLY, "the root file system can be written"
assert os.statvfs("/models").f_flag & os.ST_RDONLY, "the models can be written"
assert os.listdir("/models/uniformer_tiny_shapes") == ["1"], "the second start of export added a version"
END
say "no torch, not root, nothing writable, one version after a second start of export"

"${compose[@]}" --progress quiet run --rm loadtest > "$log" 2>&1 || die "loadtest"
say "load test: $(grep '^clips/s' "$log")"

"${compose[@]}" --progress quiet stop serve > "$log" 2>&1 || die "compose stop"
status=$(docker inspect --format '{{.State.ExitCode}}' "$("${compose[@]}" ps --all --quiet serve)")
[ "$status" = 0 ] || die "SIGTERM ended the server with status $status"
say "stopped by SIGTERM with status 0"
