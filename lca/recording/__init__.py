"""Recording: every iterate of an optimizer into a run store, by a recorder or from checkpoints that exist."""
