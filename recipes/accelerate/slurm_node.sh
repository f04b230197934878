#!/bin/bash
# One machine's part of a training over several, for srun: `bash slurm_node.sh CONFIGURATION` and what crossward puts
# behind it. Slurm says how many machines there are, which of them this is, and how many GPUs it has.
set -euo pipefail
configuration=$1
shift
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec accelerate launch --config_file "$configuration" \
    --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" \
    --num_processes $((SLURM_NNODES * SLURM_GPUS_ON_NODE)) \
    --main_process_ip "$first" --main_process_port "${CROSSWARD_PORT:-29500}" "$@"
