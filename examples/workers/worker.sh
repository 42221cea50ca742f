#!/usr/bin/env bash
# A GopherQueue worker: fetches what jobs of type 'fetch' name, as {"url": "..."}. bash and curl, nothing else.
# One job at a time: start it several times for more. GOPHERQUEUE_URL and GOPHERQUEUE_TOKEN name the server, GRACE the
# seconds that a job has on SIGTERM.
set -um # -m: background commands are process groups, and can be ended with all that they have started

server=${GOPHERQUEUE_URL:-http://127.0.0.1:7420}
name=$(hostname)-$$ # of this process alone: two loops under one name replace each other
grace=${GRACE:-25}
folder=$(mktemp -d)
# A child that is ended before it has reset its traps would run this one: the folder is the script's, not the child's.
trap 'if [[ $BASHPID = $$ ]]; then trap "" TERM INT; for group in $(jobs -p); do kill -TERM -- "-$group"; done 2>/dev/null; rm -rf "$folder"; fi' EXIT

# handle JOB: prints a result (JSON) and returns 0; 65 when trying again cannot help; anything else to be repeated. What it
# says on stderr is the error. With jq at hand: url=$(jq -r .payload.url <<<"$1").
handle() {
  local url told
  [[ $1 =~ \"url\":\"([^\"\\]*)\" ]] || { echo 'the payload has no url' >&2; return 65; }
  url=${BASH_REMATCH[1]}
  told=$(curl -sS -o /dev/null -w '%{http_code} %{size_download}' "$url") || return 1
  case $told in
    2*) printf '{"status":%d,"bytes":%d}' $told ;;
    404* | 410*) echo "$url is not there (${told% *})" >&2; return 65 ;;
    *) echo "$url answered ${told% *}" >&2; return 1 ;;
  esac
}

# call METHOD PATH [BODY]: prints the answer. Returns 0, 1 when it was refused for good, 2 when it may be sent again.
call() ( # a subshell: see `work`
  local answer status body=()
  [[ -n ${GOPHERQUEUE_TOKEN:-} ]] && body=(-H "Authorization: Bearer $GOPHERQUEUE_TOKEN")
  [[ $# -gt 2 ]] && body+=(-H 'Content-Type: application/json' --data-binary @-)
  answer=$(printf '%s' "${3:-}" | curl -sS --max-time "${limit:-70}" -X "$1" ${body[@]+"${body[@]}"} \
    -w '\n%{http_code}' "$server$2" 2>/dev/null) || return 2
  status=${answer##*$'\n'}
  printf '%s' "${answer%$'\n'*}"
  case $status in 2*) return 0 ;; 429 | 5*) return 2 ;; *) return 1 ;; esac
)

# alive: whether this script is, whose background commands outlive a SIGKILL of it.
alive() { kill -0 $$ 2>/dev/null; }

# until_heard METHOD PATH BODY: as call, but sends it again, however long the server is away.
until_heard() {
  local pause=1 code
  while alive; do
    call "$@" && return 0 || code=$?
    [[ $code = 1 ]] && return 1
    sleep $pause
    pause=$((pause < 5 ? pause + 1 : 5))
  done
}

# beat ID TOKEN MS HANDLER: renews the lease; ends the handler when the job is cancelled or no longer ours.
beat() {
  local answer code
  while sleep "$(($3 / 3000)).$(printf %03d $(($3 / 3 % 1000)))" && alive; do
    answer=$(limit=10 call POST "/v1/jobs/$1/heartbeat" "{\"token\":\"$2\"}") && code=0 || code=$?
    [[ $code = 1 || $answer = *'"cancelRequested":true'* ]] && kill -TERM -- -"$4" 2>/dev/null
  done
}

# await PID: until it has ended; wait alone ends at each signal.
await() { while kill -0 "$1" 2>/dev/null; do wait "$1"; done; }

# report ID TOKEN: exactly one outcome.
report() {
  local code error event told
  code=$(cat "$folder/code" 2>/dev/null) # none: it was ended, by `beat` or for want of grace
  error=$(tail -c 4000 "$folder/err" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')
  case ${code:-none} in
    0) event=succeed told=",\"result\":$(cat "$folder/out")" ;;
    65) event=fail told=",\"kind\":\"permanent\",\"error\":{\"message\":\"$error\"}" ;;
    none) event=release told= ;;
    *) event=fail told=",\"kind\":\"temporary\",\"error\":{\"message\":\"exit code $code: $error\"}" ;;
  esac
  echo "job $1: $event: $(until_heard POST "/v1/jobs/$1/$event" "{\"token\":\"$2\"$told}")" # a refusal is LEASE_LOST: too late
}

# work JOB: one attempt. From here on a command substitution runs in subshells only: bash 5.2 hangs when a trap runs while it
# parses one, and the signal is lost.
work() {
  local id token life beating
  [[ $1 =~ ^\{\"id\":([0-9]+),\"token\":\"([0-9a-f.]+)\" ]] || return
  id=${BASH_REMATCH[1]} token=${BASH_REMATCH[2]}
  [[ $1 =~ .*\"visibilityTimeout\":([0-9]+) ]] && life=${BASH_REMATCH[1]}
  rm -f "$folder/code"
  { handle "$1" >"$folder/out" 2>"$folder/err"; echo $? >"$folder/code"; } &
  handler=$!
  [[ -n $stopping ]] && expire
  beat "$id" "$token" "$life" $handler &
  beating=$!
  await $handler
  handler=
  kill -TERM -- -$beating 2>/dev/null
  report "$id" "$token" &
  await $! # in the background, so that a signal is heard meanwhile
}

stopping= handler= turn=0
# ask SLOTS MS TURN: this script asks while it has no job; one that an earlier answer gave was lost with it, and goes back.
ask() { printf -v asked '{"worker":"%s","types":["fetch"],"slots":%s,"waitMs":%s,"turn":%s%s}' "$name" "$@"; }
# expire: ends the handler when its grace is over. Only while there is one: a background command changes the $! that is awaited.
expire() { if [[ -n $handler ]]; then { sleep "$grace"; kill -TERM -- -"$handler" 2>/dev/null; } & fi; }
stop() {
  [[ -n $stopping ]] && grace=0 # a second signal
  stopping=1
  ask 0 0 $((turn + 1)) ''
  limit=5 call POST /v1/leases "$asked" >/dev/null # in place of the one that waits, which is answered so
  expire
}
trap stop TERM INT

echo "$name takes fetch"
failed=0 pause=1 heard=
while [[ -z $stopping ]]; do
  turn=$((turn + 1))
  { ask 1 30000 $turn ',"holds":[]'; call POST /v1/leases "$asked"; echo $? >"$folder/heard"; } >"$folder/answer" &
  await $!
  read -r heard <"$folder/heard"
  case $heard in
    0)
      pause=1
      read -rd '' answer <"$folder/answer"
      job=${answer#'{"jobs":['}
      [[ $job = '{'* && -z $stopping ]] && work "$job"
      ;;
    1) cat "$folder/answer" >&2; failed=1 stopping=1 ;; # the token, or the request itself: it would be refused again
    2)
      sleep $pause & await $!
      pause=$((pause < 5 ? pause + 1 : 5))
      ;;
  esac
done
limit=5 call DELETE "/v1/workers/$name" >/dev/null || echo 'not signed off' >&2 # what is still held goes back, uncharged
exit $failed
