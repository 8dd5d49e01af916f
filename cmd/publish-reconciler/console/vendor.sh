#!/bin/sh
# Fetches the chart library by npm, checks that it is what was looked at, and lays it among the assets.
set -eu
cd "$(dirname "$0")/assets"
version=1.6.32
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
npm pack --silent --pack-destination "$dir" "uplot@$version" >/dev/null
tar -xzf "$dir/uplot-$version.tgz" -C "$dir"
cp "$dir/package/dist/uPlot.iife.min.js" "$dir/package/dist/uPlot.min.css" .
cp "$dir/package/LICENSE" uPlot.LICENSE.txt
sha256sum --check <<'SUMS'
19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f  uPlot.iife.min.js
df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04  uPlot.min.css
8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd  uPlot.LICENSE.txt
SUMS
