#!/usr/bin/env bash
# Table 4, as far as we know the numbering: multilingual NLP tasks of every policy that table-2-dpo.yaml leaves.
# Published (the repository's picture multilingual_NLP_tasks.png; ARC, HellaSwag, MMLU, TruthfulQA MC1 and MC2):
#   π_0 .4653 .5231 .5349 .3479 .5079, π_1 .4679 .5255 .5356 .3489 .5099, π_2 .4674 .5257 .5364 .3492 .5092
#   All changes lie inside the standard errors of single scores: about .014, .005, .004, .017, .016.
# Known: the tasks, from the picture.
# Not published: the number of shots, and whether ARC and HellaSwag are acc or acc_norm (docs/tasks.md: ours).
# Needs: crossward run recipes/paper/table-2-dpo.yaml; pip install 'crossward[eval]'; the hub, for the tasks' data.
# Hardware: one GPU that holds 8 billion parameters in bfloat16, 24 GB. Hours: nobody has measured it. Judge: none.
# Run: bash recipes/paper/table-4-nlp-tasks.sh
#      bash recipes/paper/table-4-nlp-tasks.sh --limit 20 # further options go to crossward tasks
set -eu

run=runs/paper/table-2-dpo
policies=(princeton-nlp/Llama-3-Base-8B-SFT-DPO "$run/iteration-1/train/checkpoint" "$run/iteration-2/train/checkpoint")
for t in 0 1 2; do
  crossward tasks --model "${policies[$t]}" --output "runs/paper/tasks-$t.json" \
    --language en --language es --language ru --language de --language fr "$@"
done
