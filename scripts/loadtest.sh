#!/usr/bin/env bash
# Start a server, put load on it with Locust for a while, stop it. The figures go to loadtest/results/.
#
#   USERS=8        callers at the same time
#   DURATION=20s   length of the run
#
# CLIPSERVE_* variables reach the server (CLIPSERVE_REPOSITORY: which models) and Locust (CLIPSERVE_CLIPS: which clips).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${VENV:-.venv}/bin/python
users=${USERS:-8}
results=loadtest/results
server=

finish() {
  local rc=$?
  trap - EXIT
  if [ -n "$server" ]; then
    kill "$server" 2> /dev/null || true
    wait "$server" || true
  fi
  exit "$rc"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

die() {
  echo "loadtest: $*" >&2
  exit 1
}

rm -rf "$results"
mkdir -p "$results"
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
"$python" -m service.cli serve --host 127.0.0.1 --port "$port" > "$results/server.log" 2>&1 &
server=$!

ready() {
  "$python" -c 'import sys, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=2)' \
    "$url/readyz" 2> /dev/null
}
deadline=$((SECONDS + 120))
until ready; do
  kill -0 "$server" 2> /dev/null || { tail -20 "$results/server.log" >&2; die "the server did not start"; }
  [ "$SECONDS" -lt "$deadline" ] || die "the server is not ready after 120 s; see $results/server.log"
  sleep 0.3
done

# Locust's own tables go to its log, where nobody needs them unless something fails.
"$python" -m locust -f loadtest/locustfile.py --headless --only-summary --host "$url" \
  --users "$users" --spawn-rate "$users" --run-time "${DURATION:-20s}" \
  --csv "$results/locust" --summary "$results/summary.json" < /dev/null 2> "$results/locust.log" ||
  { tail -40 "$results/locust.log" >&2; die "failed; see $results/"; }
echo "more in $results/"
