#!/bin/sh
# A tour of the admin API: adds a backend and a rule, changes, drains and removes them again.
#
#   ADMIN=http://127.0.0.1:9900 BACKEND=127.0.0.1:8000 sh examples/admin-api.sh
#
# With tokens: TOKEN=… in the environment as well.
set -eu
ADMIN=${ADMIN:-http://127.0.0.1:9900}
BACKEND=${BACKEND:-127.0.0.1:8000}

call() { # METHOD PATH [BODY]
    printf '\n%s %s %s\n' "$1" "$2" "${3-}"
    curl --silent --show-error --fail-with-body --request "$1" "$ADMIN$2" \
        --header 'Content-Type: application/json' ${TOKEN:+--header "Authorization: Bearer $TOKEN"} \
        ${3+--data "$3"}
    echo
}

call POST /backends "{\"id\": \"tour\", \"host\": \"${BACKEND%:*}\", \"port\": ${BACKEND##*:}}"
call POST /routing-rules '{"id": "tour", "host": "tour.example.com", "backends": ["tour"]}'
call PATCH /backends/tour '{"weight": 3, "max_connections": 100}'
call GET /backends/tour
call PUT /routing-rules/tour '{"host": "tour.example.com", "path_prefix": "/tour", "backends": ["tour"]}'
call GET /routing-rules/tour

# Out of traffic, gently; and back.
call POST /backends/tour/drain '{"timeout": "30s"}'
call GET '/backends/tour?wait=drained'
call POST /backends/tour/enable

# Gone.
call DELETE /routing-rules/tour
call DELETE '/backends/tour?wait=true'
call GET /backends
call POST /reload
