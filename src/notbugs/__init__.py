"""notbugs."""
