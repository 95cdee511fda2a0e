#!/bin/sh
# Install Chromium and its driver from Debian's or Ubuntu's packages, for the tests of the report page. Where that cannot
# be done these tests are skipped.
set -eu
command -v chromium >/dev/null && command -v chromedriver >/dev/null && exit 0
if command -v apt-get >/dev/null; then
    root=""
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null || true
fi
command -v chromedriver >/dev/null && exit 0
echo "Chromium and chromedriver are not installed: the tests of the report page are skipped." >&2
[ -z "${CI:-}" ]
