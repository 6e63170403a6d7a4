# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What microphones hear: PCM to spectrogram, a small streaming network, events."""
