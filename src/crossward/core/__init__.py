"""Pure values and maths: no files, no network, no clock, no torch at import."""
