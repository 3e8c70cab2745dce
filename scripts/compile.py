"""Make the compiled form of the busiest modules: `python scripts/compile.py [--into DIRECTORY] [-O N] [--remove]`. Nobody has to.

What it is not: another program. The same sources are translated to C by mypyc, which comes with mypy, and built by this machine's C
compiler; servers that are started from then on use that (`compiled.py`) until a source changes. Then the sources run again by themselves,
and this is to be called again. It needs a C compiler, Python's headers and `bash scripts/environment.sh requirements-dev.txt`.

    copy the sources     nothing is written beside them, and what is edited meanwhile is not half in
    translate            all modules as one, so that they call each other without a detour
    compile              a minute of one processor
    put into place       by one rename, under the name that says which sources and which Python; forms of other sources go

Read next: `compiled.py`, docs/decisions/0015-compiled-if-you-like.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.util import find_spec

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)

import compiled  # noqa: E402

TOOLS = ("mypyc", "setuptools")
GROUP = "understudy"  # of the library that holds all modules; each has a small file that leads there
MADE = re.compile(r".+-[0-9a-f]{16}|\.new-.+")  # names of forms, see `compiled.name_of`, and of those under way
SAID_MAX = 4000  # characters of a failed compiler's words
BUILD = """
import sys
import setuptools
from mypyc.build import mypycify

level, group, into, *paths = sys.argv[1:]
extensions = mypycify(paths, opt_level=level, debug_level="0", group_name=group)
for extension in extensions:
    # Looking for all that a person may have got wrong takes gcc longer than all else; for this it looks, too, and at no cost.
    extension.extra_compile_args = [*extension.extra_compile_args, "-Wno-all", "-Wformat", "-Wimplicit", "-Wreturn-type"]
print("translated", flush=True)
setuptools.setup(name=group, packages=[], py_modules=[], ext_modules=extensions, script_args=["-q", "build_ext", "--build-lib", into])
"""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", default=os.path.join(ROOT, ".compiled"), metavar="DIRECTORY", help="where forms are kept: .compiled")
    parser.add_argument("-O", dest="level", choices="0123", default="1", help="how much the C compiler optimises: 1")
    parser.add_argument("--remove", action="store_true", help="remove all forms: the sources run again")
    asked = parser.parse_args()
    into = os.path.abspath(asked.into)
    if asked.remove:
        remove(into)
        print(f"no form is left in {into}: servers that are started now run the sources")
        return
    if lacking := what_is_missing():
        sys.exit(f"cannot compile: {lacking}\nServers run without a compiled form, only slower.")
    began = time.monotonic()
    print(f"-- {len(compiled.MODULES)} modules, for {sys.executable}", flush=True)
    where = build(into, asked.level)
    who = "started now" if into == compiled.base() else f"started with {compiled.SWITCH}={into}"
    print(f"-- {where}: {time.monotonic() - began:.0f} s. Servers that are {who} use it, until a source changes.")


def remove(into: str) -> None:
    """All forms, whole and half-made. What else is in the directory is not ours."""
    if os.path.isdir(into):
        for name in os.listdir(into):
            if MADE.fullmatch(name):
                shutil.rmtree(os.path.join(into, name))
        if not os.listdir(into):
            os.rmdir(into)


def what_is_missing() -> str:
    """What there must be, and how to come by it; empty: all is there."""
    if missing := [name for name in TOOLS if find_spec(name) is None]:
        return f"{' and '.join(missing)} not found: bash scripts/environment.sh requirements-dev.txt"
    return what_the_machine_lacks()


def what_the_machine_lacks() -> str:
    """The part of it that pip does not bring."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}). On Debian or Ubuntu: apt install gcc"
    include = sysconfig.get_path("include")
    if not os.path.exists(os.path.join(include, "Python.h")):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return f"{include} lacks Python.h. On Debian or Ubuntu: apt install python{version}-dev"
    return ""


def build(into: str, level: str) -> str:
    """Compile what stands in the project's home now. Returns where it is."""
    os.makedirs(into, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="understudy-compile-") as work, tempfile.TemporaryDirectory(prefix=".new-", dir=into) as made:
        copy_sources(work)
        shutil.copy(os.path.join(ROOT, "pyproject.toml"), work)
        name = compiled.name_of(work)
        form = os.path.join(made, name)
        translate_and_compile(work, form, level)
        where = os.path.join(into, name)
        for other in os.listdir(into):
            if other.startswith(name.rpartition("-")[0]):  # another Python's, and what somebody else is making, are not ours to remove
                shutil.rmtree(os.path.join(into, other))
        os.rename(form, where)
    return where


def copy_sources(to: str) -> None:
    """All that the program is made of, and what is generated for it."""
    for path in compiled.sources(ROOT):
        os.makedirs(os.path.dirname(os.path.join(to, path)), exist_ok=True)
        shutil.copyfile(os.path.join(ROOT, path), os.path.join(to, path))
    shutil.copytree(os.path.join(ROOT, "doors", "gen"), os.path.join(to, "doors", "gen"))


def translate_and_compile(work: str, form: str, level: str) -> None:
    """In a process of its own, whose many words are shown only where it fails."""
    paths = [f"{module.replace('.', '/')}.py" for module in compiled.MODULES]
    command = [sys.executable, "-c", BUILD, level, GROUP, form, *paths]
    said: list[str] = []
    print("-- translating to C", flush=True)
    with subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line == "translated\n":
                print("-- compiling that: a minute or so", flush=True)
    if process.returncode:
        sys.exit(f"{''.join(said)[-SAID_MAX:]}\ncannot compile: status {process.returncode}, why stands above")
    modules = compiled.Finder(form).paths.keys()
    assert modules >= {*compiled.MODULES}, f"not compiled: {sorted({*compiled.MODULES} - modules)}"


if __name__ == "__main__":
    main()
