#!/bin/sh
# Options alone are meant for the server; anything else is a command of its own.
set -e
case "${1-}" in
  -*) set -- nats-server "$@" ;;
esac
exec "$@"
