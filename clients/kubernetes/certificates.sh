#!/bin/sh
# An authority, and a certificate of it for 127.0.0.1 that servers and clients show, in the folder $1; and the
# key that the API server signs tokens with.
set -eu
cd "$1"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=quorate-test -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=kubernetes -keyout key.pem -out request.pem
printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' > extensions
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
    -out cert.pem
openssl genrsa -out tokens.key 2048
