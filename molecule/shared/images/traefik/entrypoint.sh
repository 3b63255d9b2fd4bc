#!/bin/sh
# Options and traefik's own commands are given to traefik; anything else is a command of its own.
set -e
case "${1-}" in
  -* | healthcheck | version) set -- traefik "$@" ;;
esac
exec "$@"
