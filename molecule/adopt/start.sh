#!/bin/sh
# What the entrypoint of upstream's image does with these variables.
cat >/tmp/server.conf <<CONF
[http]
listen = $HTTP_LISTEN
[app]
trustedproxies = $TRUSTED_PROXIES
[sessions]
hashkey = the-secret-for-session-checksums
blockkey = -encryption-key-
[nats]
url = $NATS_URL
[backend]
backends = $(echo "$BACKENDS" | tr ' ' ',')
[NC]
url = $BACKEND_NC_URL
secret = $BACKEND_NC_SHARED_SECRET
[DEVNC]
url = $BACKEND_DEVNC_URL
secret = $BACKEND_DEVNC_SHARED_SECRET
[TESTNC]
url = $BACKEND_TESTNC_URL
secret = $BACKEND_TESTNC_SHARED_SECRET
CONF
exec nextcloud-spreed-signaling -config /tmp/server.conf
