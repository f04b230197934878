"""The only files that import transformers, trl, peft or lingua. An engine knows no runs."""
