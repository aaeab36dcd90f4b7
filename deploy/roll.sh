#!/usr/bin/env bash
# Replaces the processes of a running fleet one by one with what the image is now: `make roll` calls it with the
# command of Compose. The schema goes first, then those who take messages, then those who send them.
# Whoever is stopped hands its work back; the next one is stopped only if all of its service are healthy again.
set -euo pipefail
compose=("$@")

ids() {
  "${compose[@]}" ps -q "$1" 2>/dev/null || true
}

# Wait until as many as are wanted run and are healthy; 1 after two minutes.
wait_healthy() {
  local service=$1 wanted=$2 healthy
  for _ in $(seq 120); do
    healthy=$(ids "$service" | xargs -r docker inspect --format '{{.State.Health.Status}}' 2>/dev/null | grep -cx healthy || true)
    [ "$healthy" -ge "$wanted" ] && return
    sleep 1
  done
  echo "$service: $healthy of $wanted are healthy after two minutes. The rest was left as it was; read" \
    "'docker compose logs $service', mend it, and roll again." >&2
  return 1
}

"${compose[@]}" run --rm --no-deps -T migrate </dev/null
for service in worker scheduler web gateway operator; do
  old=($(ids "$service"))
  [ "${#old[@]}" -gt 0 ] || continue
  wait_healthy "$service" "${#old[@]}"
  for id in "${old[@]}"; do
    docker stop --time 35 "$id" >/dev/null
    docker rm "$id" >/dev/null
    "${compose[@]}" up --detach --no-deps --no-recreate --no-build --scale "$service=${#old[@]}" "$service" >/dev/null 2>&1
    wait_healthy "$service" "${#old[@]}"
    echo "$service: one of ${#old[@]} replaced"
  done
done
