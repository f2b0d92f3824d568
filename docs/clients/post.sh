#!/bin/sh
# post.sh URL KEY BODY: post one callback. curl (7.71 or newer) itself repeats after no answer, 408, 429, 500, 502, 503
# and 504: after 1 s, 2 s, 4 s ..., or after the answer's Retry-After. Any other answer is final.
set -u
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
status=$(curl -sS --noproxy '*' --retry 6 --retry-all-errors --max-time 10 -o "$answer" -w '%{http_code}' \
  -H "Idempotency-Key: $2" -H 'Content-Type: application/json' --data-raw "$3" "$1")
cat "$answer"
[ "$status" = 202 ]
