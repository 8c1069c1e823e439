"""The paper's experiments, repeated with this package and compared on equal terms."""
