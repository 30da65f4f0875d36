"""Unit tests of bulk/."""
