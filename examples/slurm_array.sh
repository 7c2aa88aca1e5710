#!/bin/bash
# One trial per task of a Slurm array. The folder must be on a file system that all nodes share.
#   lerac-fast plan runs/table2 --preset table2     # prints the number of trials, here 180
#   sbatch --array=0-179%16 examples/slurm_array.sh runs/table2
# What is cut off goes on from its checkpoint when it is submitted again; what is done is not done again.
#SBATCH --gres=gpu:1 --cpus-per-task=8 --time=08:00:00 --requeue
set -euo pipefail
lerac-fast run "$1" --index "$SLURM_ARRAY_TASK_ID" --workers "${SLURM_CPUS_PER_TASK:-1}"
