#!/usr/bin/env bash
# Makes .venv and puts what a requirements file names into it; does nothing where that is done already.
# Used by start.sh (requirements.txt), check and test.sh (requirements-dev.txt). Where it ends with 0, .venv/bin/python is ready.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
file=${1:-requirements.txt}
python=.venv/bin/python
unset PYTHONHOME PYTHONPATH # they would lead .venv's Python to other packages
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf -- '-- %s\n' "$*" >&2; }

# Two scripts at once would remove .venv under each other's feet.
if command -v flock >/dev/null; then
    exec 9<.
    flock -n 9 || { say "another script is making .venv, waiting for it"; flock 9; }
fi

# What .venv holds is told by a copy of the files it was filled from, written when pip has ended well. No copy: it is half-made.
contents() { cat requirements.txt; [ "$1" = requirements.txt ] || cat "$1"; }
mark() { printf '.venv/filled-from-%s' "$1"; }
is_filled() { [ -f "$(mark "$1")" ] && contents "$1" | cmp -s - "$(mark "$1")"; }
runs() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

is_whole=no
if runs "$python" && compgen -G '.venv/filled-from-*' >/dev/null; then
    is_whole=yes
    is_filled "$file" && exit 0
fi

# The first Python that is new enough and can make environments; the first that is merely new enough tells what to install.
find_python() {
    local name path
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        while IFS= read -r path; do
            case $path in "$root"/.venv/*) continue ;; esac
            runs "$path" || continue
            : "${bare:=$path}"
            if "$path" -I -c 'import venv, ensurepip' >/dev/null 2>&1; then
                found=$path
                return
            fi
        done < <(type -aP "$name" || true)
    done
}

if [ $is_whole = no ]; then
    found='' bare=''
    find_python
    if [ -z "$bare" ]; then
        say "Python 3.11 or newer is needed and none was found. On Debian or Ubuntu: apt install python3 python3-venv"
        exit 1
    elif [ -z "$found" ]; then
        version=$("$bare" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        say "$bare cannot make environments (venv or ensurepip is missing). On Debian or Ubuntu: apt install python$version-venv"
        exit 1
    fi
    if [ -e .venv ] || [ -L .venv ]; then
        say "removing a half-made .venv"
        rm -rf .venv
    fi
    say "making .venv with $found"

    "$found" -I -m venv .venv || { say "$found could not make .venv; why stands above"; exit 1; }
fi

say "installing $file into .venv; only needed once"
rm -f .venv/filled-from-*
"$python" -m pip install --requirement "$file" >&2 || { say "pip could not install $file; why stands above. Run this again when it is mended"; exit 1; }
contents requirements.txt >"$(mark requirements.txt)"
[ "$file" = requirements.txt ] || contents "$file" >"$(mark "$file")"
