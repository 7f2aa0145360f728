#!/bin/bash
# Convert a folder with a Slurm job array. Each task converts its part of the files.
#
#   sbatch --array=1-8 examples/slurm_array.sh /data/plates /data/converted .ome.zarr
#   sbatch --dependency=afterany:JOBID --wrap "bfbridge report /data/converted"
#
# The first task of the array that opens the files stores what they are in its report; the others use
# it. A task that is started again (--requeue) keeps the files that are complete.
#SBATCH --job-name=bfbridge
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --requeue
#SBATCH --signal=TERM@60
set -euo pipefail

source=$1
target=$2
suffix=${3:-.ome.zarr}

# exec: Slurm's SIGTERM reaches bfbridge, which removes its unfinished file and writes its report.
exec bfbridge convert "$source" "$target" --suffix "$suffix" --part slurm --resume \
    --max-workers "${SLURM_CPUS_PER_TASK:-1}" --memory 1G
