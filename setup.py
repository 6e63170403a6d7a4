# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Build the package, with colcon as well as with pip."""

from collections import defaultdict
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'vts_ros'
VIDEO = ['av']
#: With what people try first on their own recordings: one extra, whatever they recorded.
TOOLS = [*VIDEO, 'jinja2', 'matplotlib', 'mcap', 'mcap-protobuf-support', 'rich', 'rosbags',
         'rosbags-image', 'starlette', 'typer', 'uvicorn', 'websockets']


def share_files() -> list[tuple[str, list[str]]]:
    """Return what goes to the share folder, with the tree of ``models`` kept."""
    share = Path('share', PACKAGE)
    folders = defaultdict(list, {
        'share/ament_index/resource_index/packages': [f'resource/{PACKAGE}'],
        str(share): ['package.xml'],
    })
    for pattern in ('launch/*.launch.py', 'config/*.json', 'config/*.yaml', 'config/*.rviz',
                    'config/*.xml', 'config/tasks/**/*', 'models/**/*',
                    'vts_interfaces/msg/*.msg'):
        for path in sorted(Path().glob(pattern)):
            if path.is_file():
                folders[str(share / path.parent)].append(str(path))
    return list(folders.items())


setup(
    name=PACKAGE,
    version='0.1.0',
    description='Video token sparsification for driving scenes: a ROS 2 node that explains '
                'what it sees',
    author='the vts_ros authors',
    maintainer='the vts_ros authors',
    maintainer_email='vts-ros@users.noreply.github.com',
    license='Apache-2.0',
    packages=find_packages(exclude=['test', 'test.*']),
    package_data={PACKAGE: ['py.typed', 'tools/live/page/*']},
    data_files=share_files(),
    zip_safe=False,
    python_requires='>=3.10',
    # Pinned in constraints.txt. No torchvision: nothing needs it, and a build that does not match
    # that of PyTorch breaks the import of transformers.
    install_requires=[
        'filelock',
        'json-repair',
        'numpy',
        'onnx',
        'opencv-python-headless',
        'packaging',
        'pillow',
        'pyyaml',
        'simplejpeg',
        'torch',
        'transformers>=5.18.0',
    ],
    extras_require={
        'cpu': ['onnxruntime'],
        # Not both: they are one module in two packages.
        'gpu': ['onnxruntime-gpu', 'tensorrt'],
        # vlm.structured; vlm.backend: openai; quantised checkpoints, beside the library of theirs.
        'structured': ['llguidance'],
        'served': ['openai'],
        # In the environment of the server, for vlm.server_pruning: exact.
        'vllm': ['vllm'],
        'quantized': ['accelerate'],
        # vlm.adapter.
        'adapters': ['peft'],
        # Builds engines on any machine and runs them on GeForce RTX and RTX PRO cards.
        'rtx': ['tensorrt-rtx-cu13-bindings', 'tensorrt-rtx-cu13-libs'],
        # Topics of H.264 and H.265.
        'video': VIDEO,
        # Beside the car: bags, videos, pictures, pages and the command line.
        'tools': TOOLS,
        # The workshop: rendering, training, evaluation, benchmarks.
        'lab': [*TOOLS, 'mido', 'onnxscript', 'safetensors', 'tokenizers'],
        # LingoQA is in Parquet files; texts are scored as captions are.
        'eval': ['pyarrow', 'pycocoevalcap'],
        # Thousands of recordings, on one machine or on a cluster.
        'fleet': [*TOOLS, 'duckdb', 'pyarrow', 'ray'],
        # ROS 2 Jazzy from PyPI, for machines without an apt installation.
        'ros': [
            'ros-jazzy-diagnostic-msgs',
            'ros-jazzy-geometry-msgs',
            'ros-jazzy-lifecycle-msgs',
            'ros-jazzy-rclpy',
            'ros-jazzy-rmw-fastrtps-cpp',
            'ros-jazzy-rosgraph-msgs',
            'ros-jazzy-sensor-msgs',
            'ros-jazzy-std-msgs',
            'ros-jazzy-std-srvs',
            'ros-jazzy-visualization-msgs',
        ],
        'test': [
            'catkin-pkg',
            'colcon-common-extensions',
            'foxglove-schemas-protobuf',
            'hypothesis',
            'llguidance',
            'mypy',
            'openai',
            'peft',
            'playwright',
            'psutil',
            'pyarrow',
            'pycocoevalcap',
            'pytest',
            'pytest-timeout',
            'pytest-xdist',
            'ruff',
            'types-PyYAML',
        ],
    },
    entry_points={
        'console_scripts': [
            'vts = vts_ros.tools.cli:main',
            'vts_node = vts_ros.nodes.executables:vts_node',
            'vts_overlay = vts_ros.nodes.executables:vts_overlay',
            'vts_replay = vts_ros.nodes.executables:vts_replay',
        ],
        # Called by vLLM in each of its processes.
        'vllm.general_plugins': [
            'vts_keep_lists = vts_ros.vllm_plugin.registration:register',
        ],
        # The commands of vts; the extra is what they need.
        'vts_ros.commands': [
            'advise = vts_ros.lab.cli.advise_command:app [lab]',
            'annotate = vts_ros.tools.cli.annotate_command:app [tools]',
            'bench = vts_ros.lab.cli.bench_command:app [lab]',
            'compile = vts_ros.lab.cli.compile_command:app [lab]',
            'eval = vts_ros.lab.cli.eval_command:app [lab]',
            'fleet = vts_ros.fleet.fleet_command:app [fleet]',
            'fleet.distil = vts_ros.lab.cli.adapter_command:distil_app [fleet,lab,adapters]',
            'fleet.scale = vts_ros.lab.cli.fleet_scale_command:app [fleet,lab]',
            'layout = vts_ros.tools.cli.layout_command:app [tools]',
            'live = vts_ros.nodes.live_command:app [tools]',
            'models = vts_ros.tools.cli.models_command:app [tools]',
            'render = vts_ros.lab.cli.render_command:app [lab]',
            'replay = vts_ros.nodes.replay_command:app [tools]',
            'train = vts_ros.lab.cli.train_command:app [lab]',
        ],
    },
)
