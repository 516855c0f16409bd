"""Record golden values or compare with recorded ones: python tests/golden/record.py [--compare] [--only PART …]."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent.parent)
    from tests.golden.recording import main

    sys.exit(main())
