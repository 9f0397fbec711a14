"""Memory and threads: what lies between the kernels and the machine."""
