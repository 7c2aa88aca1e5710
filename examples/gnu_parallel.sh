#!/bin/bash
# So many processes on one machine, each of which takes whatever trial is left:
#   examples/gnu_parallel.sh runs/table2 2
set -euo pipefail
seq "$2" | parallel -N0 --jobs "$2" --line-buffer lerac-fast run "$1" --threads 1
