# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Token pruning inside vLLM: its Qwen-VL classes take a list of visual tokens to keep.

Loaded by vLLM itself, through the entry point ``vllm.general_plugins``. Needs nothing else of
this package, and nothing else of this package needs it. See docs/vllm.md.
"""
