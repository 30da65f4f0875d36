"""Attacks, one file each, and and the registry from which threat models are made."""
