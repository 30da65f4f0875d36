"""VideoPure as it was when the archive was built."""

import os
import sys
from importlib.util import cache_from_source

__version__ = "VERSION"

# Nothing may lie in the archive that its manifest does not record, and compiled code is what a
# worker would run in the place of its source. Python has just written some for this file and the
# entry file; it writes no more.
sys.dont_write_bytecode = True
_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
for _source in (os.path.join(_root, "videopure_handler.py"), os.path.abspath(__file__)):
    _compiled = cache_from_source(_source)
    try:
        os.remove(_compiled)
        os.rmdir(os.path.dirname(_compiled))
    except OSError:  # not there, or another worker was faster; what is left fails verification
        pass
