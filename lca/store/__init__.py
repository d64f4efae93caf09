"""Run stores on disk: reading, writing, locking and verifying them. The only package that imports zarr."""
