#!/bin/sh
# Bundles the playground script into ../assets. Needs Node.js 20 and npm; the result is committed, so that
# building the gateway needs neither.
set -eu
cd "$(dirname "$0")"
npm ci --silent
./node_modules/.bin/esbuild src/playground.js --bundle --minify --format=iife --target=es2022 \
    --legal-comments=none --outfile=../assets/playground.js
node licences.mjs > ../assets/licences.txt
