"""Everything that touches the disk: tables, manifests, the run directory, prompt sources."""
