"""Defences behind one interface, and the registry of those that an evaluation compares."""
