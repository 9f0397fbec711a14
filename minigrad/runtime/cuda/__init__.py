"""The GPU's memory, arrays in it, and the driver that runs kernels on it."""
