"""Models as flat vectors: the parameter table of a module, views of θ, and the mode in which passes run."""
