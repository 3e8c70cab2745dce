#!/usr/bin/env bash
# Runs all tests under coverage, prints the report and writes htmlcov/index.html. Does its own set-up. Ends with 0 when everything holds:
# the tests, 100 % of the quiet modules, 90 % of the whole. Arguments go to `unittest discover`, such as -k NAME (then nothing is demanded).
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
bash scripts/environment.sh requirements-dev.txt
python=.venv/bin/python
unset PYTHONHOME PYTHONPATH PYTHONOPTIMIZE # assertions are part of the protocol
export UNDERSTUDY_COMPILED=no # what is measured and covered are the sources; tests/prove_compiled.py is for the other form
unset PYTHONDONTWRITEBYTECODE # hundreds of processes are started: each would compile every module again
seconds=2400 # what takes longer hangs. All together take 13 minutes on two processors that nobody else uses, twice that on shared ones

# Four at a time, since those of real processes wait more than they work, and one alone would leave a processor idle:
#   seeds    the simulation (prove_simulation.py), on as many processors as there are
#   proofs   what else throws dice (prove_*.py: model, wrecked disks, fuzz), one after the other. Both cover nothing new and would be slow
#            under measurement. They work all the time, so they stand behind: the others' snapshots are made by processes that do so, too
#   system   real processes
#   tests    all others
failed=()
"$python" -m coverage erase
part() { # part NAME MODULE…; INT, so that the tests' own clean-up ends the servers they have started
    local name=$1 status=0
    shift
    # A shell's background processes ignore INT unless told otherwise.
    timeout --foreground --signal=INT --kill-after=20 "$seconds" env --default-signal=INT "$python" -m "$@" || status=$?
    # 5: no test has such a name, which is no failure where names were asked for
    [ "$status" = 0 ] || { [ "$status" = 5 ] && [ "$asked" != 0 ]; } || { echo "FAILED: $name (status $status; 124: longer than $seconds s)" && return 1; }
}
asked=$#
modules() { # modules CONDITION…: of find, for files in tests
    find tests "$@" | LC_ALL=C sort | sed 's#/#.#g; s#\.py$##'
}
mapfile -t tests < <(modules -name 'test_*.py' -not -path 'tests/system/*')
real=(tests.prove_compiled tests.prove_bench tests.prove_campaign) # of real processes, which others should not starve: last, when most are done
mapfile -t others < <(modules -name 'prove_*.py' -not -name prove_simulation.py -not -name prove_compiled.py -not -name prove_bench.py \
    -not -name prove_campaign.py)
(renice -n 10 "$BASHPID" > /dev/null && part "the seeds" unittest tests.prove_simulation "$@") &
seeds=$!
(renice -n 10 "$BASHPID" > /dev/null && part "the proofs" unittest "${others[@]}" "${real[@]}" "$@") &
proofs=$!
part "the system" coverage run -m unittest discover --top-level-directory . --start-directory tests/system "$@" &
system=$!
part "the tests" coverage run -m unittest "${tests[@]}" "$@" || failed+=("the tests")
wait "$system" || failed+=("the system's tests")
wait "$proofs" || failed+=("the proofs")
wait "$seeds" || failed+=("the seeds")

# Who was killed while it wrote has left half a file: the hash that ends a whole one's name is not there yet.
find . -maxdepth 1 -name '.coverage.*' -not -name '.coverage.*.H*h' -delete
"$python" -m coverage combine --quiet || failed+=("coverage combine")
rm -f .coverage.*
whole=90
[ $# = 0 ] || whole=0
"$python" -m coverage report --fail-under="$whole" || failed+=("coverage of the whole: below $whole %")
"$python" -m coverage html --quiet --fail-under=0 || failed+=("coverage html")
if [ $# = 0 ]; then
    quiet=$("$python" -c 'from tests.test_house_rules import quiet_files; print(",".join(quiet_files()))')
    "$python" -m coverage report --fail-under=100 --include="$quiet" || failed+=("coverage of the quiet modules: below 100 %")
fi

echo
echo "HTML report: $root/htmlcov/index.html"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "All is well."
