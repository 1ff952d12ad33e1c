#!/bin/bash
#SBATCH --array=1-64
#SBATCH --cpus-per-task=8
#SBATCH --requeue
# id=$(sbatch --parsable --export=ALL,MODEL=clip/,PAIRS=products.csv,BANK=shop.bank examples/slurm.sh)
# sbatch --dependency=afterok:$id --wrap "reco bank merge shop.bank.parts/* --out shop.bank"
set -eu
mkdir -p "$BANK.parts"
exec reco bank build --quiet --model "$MODEL" --pairs "$PAIRS" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --threads "$SLURM_CPUS_PER_TASK" --out "$BANK.parts/$(printf %05d "$SLURM_ARRAY_TASK_ID")"
