"""The methods that lca is compared with, each as one would write it."""
