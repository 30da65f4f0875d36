"""Integration tests of bulk/."""
