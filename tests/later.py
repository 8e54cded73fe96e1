"""fastmirror by a clock that is ahead by LATER_S seconds: what it does when so much time has passed."""

from __future__ import annotations

import os
import time

_now = time.time
time.time = lambda: _now() + float(os.environ["LATER_S"])

if __name__ == "__main__":
    from fastmirror.cli import main

    main()
