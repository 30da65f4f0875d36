"""What an archive is: manifest, settings, integrity, external weights; opening and loading one.

Imports `videopure.purifier` and `videopure.wire` alone; nothing here knows TorchServe.
"""
