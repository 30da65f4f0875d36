#!/bin/sh
# Runs nginx in the foreground, and has it read its files again when TorchServe's key was renewed.
# Usage: run.sh KEY_FILE [nginx's options, such as -c FILE]
set -eu
key=$1
shift
until [ -s "$key" ]; do sleep 1; done
stamp=$(mktemp)
touch -r "$key" "$stamp"
nginx "$@" -g 'daemon off;' &
nginx=$!
trap 'kill -QUIT "$nginx"' TERM INT
while kill -0 "$nginx" 2>/dev/null; do
    if [ "$key" -nt "$stamp" ]; then
        touch -r "$key" "$stamp"
        kill -HUP "$nginx"
    fi
    sleep 0.2
done
rm -f "$stamp"
wait "$nginx"
