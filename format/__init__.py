"""The archive format: manifest, settings, integrity, external weights; opening and loading.

May import purifier and wire. Nothing here knows TorchServe.
"""
