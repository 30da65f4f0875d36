"""Small networks of our own: the demo recogniser and the patch codec."""
