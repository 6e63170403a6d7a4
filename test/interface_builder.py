# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Builds vts_interfaces, and the messages of others that the node can publish, without an apt ROS.

``python test/interface_builder.py`` prints where they are. It takes a compiler, CMake, and some
90 wheels in an environment of their own; both are made once, and kept below ``~/.cache``.
vision_msgs, foxglove_msgs, ffmpeg_image_transport_msgs and audio_common_msgs are not among the
wheels: what is built has their names and the messages of ``vts_ros/tools/message_definitions.py``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL
import fcntl
from hashlib import sha256
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig
import venv

from vts_ros.tools.message_definitions import DEFINITIONS

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ROOT / 'test' / 'data' / 'rosidl_wheels.txt'
PACKAGES = ('vision_msgs', 'foxglove_msgs', 'ffmpeg_image_transport_msgs', 'audio_common_msgs',
            'vts_interfaces')
LIMIT_SEC = 1500
_VERSION = f'{sys.version_info[0]}.{sys.version_info[1]}'

PACKAGE_XML = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name> <version>0.0.0</version> <description>For tests</description>
  <maintainer email="vts-ros@users.noreply.github.com">the vts_ros authors</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>builtin_interfaces</depend> <depend>geometry_msgs</depend> <depend>std_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export> <build_type>ament_cmake</build_type> </export>
</package>
"""
#: For Python on Fast DDS alone: the rest of the generators takes half of the time.
CMAKE_LISTS = """cmake_minimum_required(VERSION 3.8)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_cmake REQUIRED)
find_package(rosidl_generator_type_description REQUIRED)
find_package(rosidl_generator_c REQUIRED)
find_package(rosidl_typesupport_fastrtps_c REQUIRED)
find_package(rosidl_typesupport_c REQUIRED)
find_package(rosidl_generator_py REQUIRED)
find_package(builtin_interfaces REQUIRED)
find_package(geometry_msgs REQUIRED)
find_package(std_msgs REQUIRED)
rosidl_generate_interfaces({name} {files}
  DEPENDENCIES builtin_interfaces geometry_msgs std_msgs)
ament_package()
"""
#: Has all that C++ is generated into compiled at once, with headers that take most of the time.
TOGETHER = """function(compile_together)
  foreach(part c cpp fastrtps_c fastrtps_cpp)
    if(TARGET ${PROJECT_NAME}__rosidl_typesupport_${part})
      set_target_properties(${PROJECT_NAME}__rosidl_typesupport_${part} PROPERTIES
        UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL compile_together)
"""


class CannotBuildError(Exception):
    """Why the interfaces cannot be built here, in one line."""


def prefix() -> Path | None:
    """
    Return where the interfaces are installed, building them if need be; None: they are here.

    Raises
    ------
    CannotBuildError
        If something is missing that the build needs, or it fails.

    """
    if all(find_spec(name) for name in PACKAGES):
        return None
    for tool in ('cmake', 'make', 'g++'):
        if shutil.which(tool) is None:
            raise CannotBuildError(f'{tool} is not installed')
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        raise CannotBuildError('the headers of Python are not installed')
    target = installation().parent
    cache = target.parent
    cache.mkdir(parents=True, exist_ok=True)
    wheels = cache / f'wheels-{_VERSION}-{_digest(WHEELS.read_text())}'
    with _locked(cache / 'lock'):
        if not (wheels / 'complete').exists():
            _install_wheels(wheels)
        if not (target / 'complete').exists():
            _build(wheels, target)
    return installation()


def installation() -> Path:
    """Return where the interfaces are once they are built."""
    cache = Path(os.environ.get('VTS_TEST_INTERFACES', '~/.cache/vts_ros_test')).expanduser()
    return cache / f'interfaces-{_VERSION}-{_digest(WHEELS.read_text(), *_sources())}' / 'install'


def environment(place: Path) -> dict[str, str]:
    """Return the variables of a process that uses the interfaces."""
    added = {
        'PYTHONPATH': next(place.glob('lib/python*/site-packages')),
        'LD_LIBRARY_PATH': place / 'lib', 'AMENT_PREFIX_PATH': place}
    return {name: os.pathsep.join(filter(None, (str(path), os.environ.get(name, ''))))
            for name, path in added.items()}


def without(added: dict[str, str], path: str) -> str:
    """Return a PYTHONPATH on which the interfaces are not."""
    ours = added['PYTHONPATH'].split(os.pathsep)[0]
    return os.pathsep.join(folder for folder in path.split(os.pathsep) if folder != ours)


def use_here(place: Path) -> None:
    """Make the interfaces importable in this process."""
    found = environment(place)
    os.environ.update(found)
    # The loader has read its variable when this process began, and knows what is loaded already.
    for library in place.glob('lib/*__rosidl_typesupport_*_c.so'):
        CDLL(str(library))
    sys.path.insert(0, found['PYTHONPATH'].split(os.pathsep)[0])
    invalidate_caches()
    for name in PACKAGES:
        # A folder of this name, as in the root of the repository, may have been taken for it.
        for module in [loaded for loaded in sys.modules if loaded.partition('.')[0] == name]:
            del sys.modules[module]
        import_module(f'{name}.msg')


def _sources() -> list[str]:
    """Return all that the build depends on."""
    own = sorted(path for path in (ROOT / 'vts_interfaces').rglob('*') if path.is_file())
    return [repr(DEFINITIONS), PACKAGE_XML, CMAKE_LISTS, TOGETHER,
            *(path.read_text() for path in own)]


def _digest(*texts: str) -> str:
    return sha256('\0'.join(texts).encode()).hexdigest()[:12]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(
            list(map(str, command)), env={**os.environ, **(env or {})}, cwd=cwd, text=True,
            capture_output=True, timeout=LIMIT_SEC, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotBuildError(f'{Path(command[0]).name} took more than {LIMIT_SEC} s') from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CannotBuildError(f'{" ".join(map(str, command[1:4]))}: '
                               f'{" | ".join(said[-8:]) or done.returncode}')


def _install_wheels(place: Path) -> None:
    """Make an environment with what builds interfaces, and mend what the wheels say of paths."""
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=True)
    pip = (place / 'bin' / 'python', '-m', 'pip', 'install', '--quiet',
           '--disable-pip-version-check')
    # Their dependencies name packages of linters that nothing here needs.
    _run(*pip, '--no-deps', '-r', WHEELS)
    _run(*pip, '-c', ROOT / 'constraints.txt', 'colcon-common-extensions', 'catkin-pkg', 'empy',
         'lark-parser', 'numpy', 'packaging', 'pyyaml', 'setuptools')
    include = Path(sysconfig.get_path('include'))
    numpy = next(place.glob('lib/python*/site-packages/numpy/_core/include'))
    for file in place.glob('share/**/*.cmake'):
        text = file.read_text()
        if '/opt/python/' in text:
            file.write_text(_mended(text, str(include), str(numpy)))
    (place / 'complete').touch()


def _mended(text: str, include: str, numpy: str) -> str:
    """Return CMake text with the paths of this machine in the place of those of the builder."""
    parts = text.split('/opt/python/')
    for number, part in enumerate(parts[1:], 1):
        end = min((part.index(sign) for sign in ';")\n >' if sign in part), default=len(part))
        parts[number] = (numpy if part[:end].endswith('numpy/_core/include') else include) \
            + part[end:]
    return ''.join(parts)


def _build(wheels: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    sources = target / 'src'
    _write_packages(sources)
    # As docs/ros.md has it: colcon does not look below a package.
    (sources / 'vts_interfaces').symlink_to(ROOT / 'vts_interfaces')
    together = target / 'together.cmake'
    together.write_text(TOGETHER)
    install = target / 'install'
    python = wheels / 'bin' / 'python'
    _run(python, '-m', 'colcon', 'build', '--merge-install', '--executor', 'sequential',
         '--cmake-args', f'-DPython3_EXECUTABLE={python}', '-DBUILD_TESTING=OFF',
         f'-DCMAKE_INSTALL_RPATH={install / "lib"}', '-DCMAKE_BUILD_TYPE=None',
         f'-DCMAKE_PROJECT_INCLUDE={together}',
         cwd=target, env={
             'AMENT_PREFIX_PATH': str(wheels), 'CMAKE_PREFIX_PATH': str(wheels),
             'PATH': f'{wheels / "bin"}{os.pathsep}{os.environ["PATH"]}', 'PYTHONPATH': '',
             'VIRTUAL_ENV': str(wheels), 'MAKEFLAGS': '-j2'})
    shutil.rmtree(target / 'build')
    (target / 'complete').touch()


def _write_packages(sources: Path) -> None:
    """Write packages with the names and messages of others."""
    files = defaultdict(list)
    for name, text in DEFINITIONS.items():
        package, kind, message = name.split('/')
        path = sources / package / kind / f'{message}.msg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{text}\n')
        files[package].append(f'{kind}/{message}.msg')
    for package, messages in files.items():
        (sources / package / 'package.xml').write_text(PACKAGE_XML.format(name=package))
        (sources / package / 'CMakeLists.txt').write_text(
            CMAKE_LISTS.format(name=package, files=' '.join(messages)))


if __name__ == '__main__':
    try:
        sys.stdout.write(f'{prefix() or "installed with this Python"}\n')
    except CannotBuildError as reason:
        sys.exit(str(reason))
