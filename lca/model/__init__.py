"""Models as flat vectors: the parameter table of a model, views of θ, and the state of a model during a pass."""
