# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start a vLLM of another environment, with plugins of this package, and stop it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import signal
import socket
import subprocess
import tempfile
import time
from urllib.request import urlopen

from vts_ros.errors import VlmError
import vts_ros.paths

KEEP_LISTS = 'vts_ros.vllm_plugin.registration:register'
CPU_PRUNING = 'vts_ros.vllm_plugin.cpu_pruning:register'
#: A busy machine takes minutes for what takes 40 s.
START_SEC = 900.0
_END_SEC = 60.0
#: Small models on a CPU: one thread, little room for keys and values, nothing sent anywhere.
_ENVIRONMENT = {'VLLM_CPU_KVCACHE_SPACE': '1', 'VLLM_CPU_OMP_THREADS_BIND': 'nobind',
                'OMP_NUM_THREADS': '1', 'VLLM_NO_USAGE_STATS': '1', 'HF_HUB_OFFLINE': '1'}


class VllmServer:
    """
    A vLLM that serves a checkpoint in float32.

    Parameters
    ----------
    python
        Of an environment with vLLM; this package need not be installed in it.
    checkpoint
        Folder of the model; it is served by the name ``embedded``.
    plugins
        Functions that vLLM calls in each of its processes, as ``module:function``.
    options
        Further ones of its command line.

    Attributes
    ----------
    url
        Base of its protocol.

    """

    def __init__(self, python: str | Path, checkpoint: str | Path, *,
                 plugins: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix='vts_vllm_')
        folder = Path(self._folder.name)
        _install(folder, {f'vts_{index}': plugin for index, plugin in enumerate(plugins)})
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self.url = f'http://127.0.0.1:{port}/v1'
        self._log = folder / 'log'
        package = Path(vts_ros.paths.__file__).resolve().parents[1]
        with self._log.open('w') as log:
            self._process = subprocess.Popen(
                [str(python), '-m', 'vllm.entrypoints.openai.api_server',
                 '--host', '127.0.0.1', '--port', str(port), '--model', str(checkpoint),
                 '--served-model-name', 'embedded', '--dtype', 'float32', '--enforce-eager',
                 *options],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **_ENVIRONMENT,
                     'PYTHONPATH': f'{folder}{os.pathsep}{package}'})

    def wait(self) -> None:
        """
        Wait until it answers.

        Raises
        ------
        VlmError
            If it ended, with the last error that it wrote, or needs too long.

        """
        end_sec = time.monotonic() + START_SEC
        while not self._answers():
            if self._process.poll() is not None:
                raise VlmError(f'vLLM does not start: {self.last_error()}')
            if time.monotonic() > end_sec:
                raise VlmError(f'vLLM did not start within {START_SEC:.0f} s')
            time.sleep(1.0)

    def last_error(self) -> str:
        """Return the last line that it wrote about an error, or the last at all."""
        lines = [line for line in self._log.read_text(errors='replace').splitlines() if line]
        errors = [line for line in lines if 'Error: ' in line]
        return (errors or lines or ['no word'])[-1].strip()[-200:]

    def _answers(self) -> bool:
        try:
            with urlopen(f'{self.url}/models', timeout=5.0):
                return True
        except OSError:
            return False

    def close(self) -> None:
        """End it with all of its processes."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(_END_SEC)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._folder.cleanup()


def _install(folder: Path, plugins: Mapping[str, str]) -> None:
    """Have Python find plugins there, as those of a package that pip installed."""
    installed = folder / 'vts_plugins-0.1.0.dist-info'
    installed.mkdir()
    (installed / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: vts-plugins\nVersion: 0.1.0\n')
    (installed / 'entry_points.txt').write_text('[vllm.general_plugins]\n' + ''.join(
        f'{name} = {plugin}\n' for name, plugin in plugins.items()))
