#!/usr/bin/env bash
# Table 3, as far as we know the numbering: MT-Bench of every policy that table-2-dpo.yaml leaves, mean of en es ru de fr.
# Published (judge GPT-4o; the repository's picture mt_bench.png): π_0 6.20, π_1 6.66, π_2 6.77
# Known: the judge and the languages, from the picture.
# Not published: the translated questions and references, and the judge's words; ours are others (docs/mt-bench.md), so
#   compare gains, not levels.
# Needs: crossward run recipes/paper/table-2-dpo.yaml; questions and references as q/{language}.jsonl and
#   r/{language}.jsonl (docs/mt-bench.md says where from); the judge's key in OPENAI_API_KEY.
# Hardware: one GPU that holds 8 billion parameters in bfloat16, 24 GB. Hours and dollars: nobody has measured them; a
#   policy gives 800 answers (80 questions, two turns, five languages), and the judge is asked about each.
# Run: bash recipes/paper/table-3-mt-bench.sh                 # what is there already is not asked for again
#      bash recipes/paper/table-3-mt-bench.sh --concurrency 8 # further options go to crossward mt-bench
set -eu

run=runs/paper/table-2-dpo
policies=(princeton-nlp/Llama-3-Base-8B-SFT-DPO "$run/iteration-1/train/checkpoint" "$run/iteration-2/train/checkpoint")
for t in 0 1 2; do
  crossward mt-bench --questions 'q/{language}.jsonl' --references 'r/{language}.jsonl' \
    --language en --language es --language ru --language de --language fr \
    --policy "${policies[$t]}" --output "runs/paper/mt-bench-$t" \
    --judge-base-url https://api.openai.com/v1 --judge-model gpt-4o --judge-api-key-env OPENAI_API_KEY "$@"
done
