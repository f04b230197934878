"""What a run made, in the forms of other tools: one file a format, export.py chooses."""
