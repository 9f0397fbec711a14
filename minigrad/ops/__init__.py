"""The operations: argument checks, a Function with forward and backward, a public function."""
