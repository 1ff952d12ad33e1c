#!/bin/sh
# Makes the pocket CLIP anew: an environment, the drawings, the training, the folder demo/model/.
#   tools/pocket/run.sh [--work DIR] [--out DIR] [options of train.py]
# Needs Python 3.11 with venv, apt-get, dpkg-deb, 6 GB of disk and about an hour of two cores.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=/tmp/pocket
out=$here/../../demo/model
while [ $# -gt 0 ]; do
    case $1 in
        --work) work=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        *) break ;;
    esac
done
mkdir -p "$work"
if [ ! -e "$work/venv/ready" ]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q -r "$here/requirements.txt"
    touch "$work/venv/ready"
fi
# Threads that sleep while they wait: on a busy machine this is several times as fast.
OMP_WAIT_POLICY=passive
PYTHONDONTWRITEBYTECODE=1
export OMP_WAIT_POLICY PYTHONDONTWRITEBYTECODE
"$work/venv/bin/python" "$here/train.py" --work "$work" --out "$out" "$@"
"$work/venv/bin/python" "$here/evaluate.py" "$out" --work "$work"
