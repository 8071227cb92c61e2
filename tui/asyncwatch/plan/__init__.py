"""From config and arguments to the workers of a run."""
