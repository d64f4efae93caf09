"""Recording of the iterates of an optimizer into a run store, during training or from existing checkpoints."""
