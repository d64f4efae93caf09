"""Read, write, lock and verify run stores. No other package imports zarr."""
