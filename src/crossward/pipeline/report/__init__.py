"""From a run's folder to a page that a person reads."""
