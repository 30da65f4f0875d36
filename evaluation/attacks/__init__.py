"""Attacks, one file each, and the registry of them that threat models are made of."""
