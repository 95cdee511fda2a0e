#!/bin/sh
# Install GPAW (GPL) for the Python given as argument. It is compiled, which takes about a minute, against libxc, BLAS
# and FFTW3: Debian's and Ubuntu's packages are installed if need be; elsewhere install those three first.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${1:-python3}
"$python" -c "import gpaw" 2>/dev/null && exit 0
packages="libxc-dev libopenblas-dev libfftw3-dev gcc"
if command -v apt-get >/dev/null && ! dpkg -s $packages >/dev/null 2>&1; then
    root=""
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get update -qq && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null || true
fi
if GPAW_CONFIG="$here/siteconfig.py" "$python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$here/../../constraints.txt" gpaw; then
    exit 0
fi
echo "GPAW could not be built: install libxc, BLAS and FFTW3 with their headers. Its tests are skipped until then." >&2
[ -z "${CI:-}" ]
