#!/bin/bash
# Arguments are a command to run. Without any, the server is started with the configuration file that was mounted;
# this image writes none from environment variables.
set -e
if [ $# -gt 0 ]; then
  exec "$@"
fi
if [ ! -f "$CONFIG" ]; then
  echo "$CONFIG: expected a configuration file here, found none: mount one." >&2
  exit 1
fi
exec su-exec spreedbackend /usr/bin/nextcloud-spreed-signaling -config "$CONFIG"
