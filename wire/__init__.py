"""What server, client and launcher share: schemas of answers and errors, keys, install hints.

May import nothing of ours. Works without torch.
"""
