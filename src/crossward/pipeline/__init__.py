"""The method as a sequence of stages: sample, score, pair, train, evaluate. No maths here."""
