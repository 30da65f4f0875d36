"""Defences behind one interface, and the registry of those an evaluation compares."""
