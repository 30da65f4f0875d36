"""VideoPure as it was when the archive was built."""

import os
import sys
from importlib.util import cache_from_source

__version__ = "VERSION"

# The archive may hold only what its manifest records, and a worker would run compiled code instead
# of its source. Python has just written some for this file and the entry file; it writes no more.
sys.dont_write_bytecode = True
_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
for _source in (os.path.join(_root, "videopure_handler.py"), os.path.abspath(__file__)):
    _compiled = cache_from_source(_source)
    try:
        os.remove(_compiled)
        os.rmdir(os.path.dirname(_compiled))
    except OSError:  # not there, or another worker was faster; leftovers fail verification
        pass
