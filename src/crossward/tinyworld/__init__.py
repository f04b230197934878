"""A multilingual world small enough to train from random weights on a laptop, with a gold reward known by rule."""
