"""Problems: a model, its loss and its data, the objective L that they define, and the built-in problems."""
