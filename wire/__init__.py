"""What goes over the wire: the schemas of answers and errors, shared by server and client.

May import nothing of ours. Works without torch.
"""
