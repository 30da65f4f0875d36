"""What an archive is: manifest, settings, integrity, external weights; opening and loading one.

May import purifier and wire. Nothing here knows TorchServe.
"""
