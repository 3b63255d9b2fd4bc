#!/bin/bash
# Options alone are meant for turnserver. As upstream's entrypoint, this one lets the shell expand every argument,
# so a secret with shell characters on the command line breaks here as it does there.
set -e
case "${1-}" in
  -*) set -- turnserver "$@" ;;
esac
expanded=()
for argument in "$@"; do
  expanded+=("$(eval "echo $argument")")
done
exec "${expanded[@]}"
