# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run the command ``vts`` as ``python -m vts_ros.tools.cli``."""

import sys

from vts_ros.tools.cli import main

if __name__ == '__main__':
    sys.exit(main())
