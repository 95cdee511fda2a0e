#!/bin/sh
# Put axe-core's script into .venv, for the test of the report page's accessibility. Without npm this test is skipped.
set -eu
cd "$(dirname "$0")/.."
[ -f .venv/axe.min.js ] && exit 0
if command -v npm >/dev/null; then
    folder=$(mktemp -d)
    (cd "$folder" && npm pack --silent axe-core@4.14.1 >/dev/null && tar -xzf axe-core-*.tgz) || true
    [ ! -f "$folder/package/axe.min.js" ] || cp "$folder/package/axe.min.js" .venv/
    rm -r "$folder"
fi
[ -f .venv/axe.min.js ] || echo "axe-core is not installed: the test of the page's accessibility is skipped." >&2
