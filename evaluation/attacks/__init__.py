"""Attacks on clips, the losses they raise, and the threat models that combine them."""
