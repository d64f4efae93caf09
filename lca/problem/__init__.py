"""What is trained: a model, its losses and its data; the objective L that they make up; and the built-in problems."""
