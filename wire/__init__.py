"""What goes over the wire: the schemas of answers and errors, shared by server and client.

Imports nothing of ours, and no torch.
"""
