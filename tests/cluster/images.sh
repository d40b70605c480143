#!/usr/bin/env bash
# images.sh FOLDER: writes the images that every node of the cluster gets, from this machine's own programs.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
folder=$1
mkdir -p "$folder"
image() { # FILE NAME...
  python3 "$HERE/image.py" "$folder/$1.tar" "${@:2}" > /dev/null
}

gcc -static -Os -s -o "$folder/pause" "$HERE/pause.c"
image pause "$PAUSE" --entry /pause /pause="$folder/pause"
rm "$folder/pause"

image coredns trainyard.test/coredns:1 --entry /coredns /coredns="$BIN/coredns"

# A shell, busybox's commands, and curl with its libraries: the wget of busybox-static dies on any name or address.
busybox=$(command -v busybox)
curl=$(command -v curl)
links=()
for command in $("$busybox" --list); do
  [ "$command" = busybox ] || links+=(--ln "/bin/$command=busybox")
done
image box trainyard.test/box:1 --entry /bin/sh --env LD_LIBRARY_PATH=/lib/image \
  /bin/busybox="$busybox" /bin/curl="$curl" --ldd "$curl" "${links[@]}"
