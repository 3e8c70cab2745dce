#!/usr/bin/env bash
# Runs all tests under coverage, prints the report and writes htmlcov/index.html. Does its own set-up. Ends with 0 when everything holds:
# the tests, 100 % of the quiet modules, 90 % of the whole. Arguments go to `unittest discover`, such as -k NAME (then nothing is demanded).
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
bash scripts/environment.sh requirements-dev.txt
python=.venv/bin/python
unset PYTHONHOME PYTHONPATH PYTHONOPTIMIZE # assertions are part of the protocol
unset PYTHONDONTWRITEBYTECODE # hundreds of processes are started: each would compile every module again
seconds=820 # of which a thousand seeds of the simulator take most

# Three at a time, since the second waits more than it works:
#   proofs   what throws dice (prove_*.py: simulation, model, wrecked disks, fuzz): it covers nothing new and would be slow under measurement.
#            It works all the time, so it stands behind the others: their snapshots are made by processes that stand behind as well
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
mapfile -t tests < <(find tests -name 'test_*.py' -not -path 'tests/system/*' | LC_ALL=C sort | sed 's#/#.#g; s#\.py$##')
(renice -n 10 "$BASHPID" > /dev/null && part "the proofs" unittest discover --top-level-directory . --start-directory tests --pattern 'prove_*.py' "$@") &
proofs=$!
part "the system" coverage run -m unittest discover --top-level-directory . --start-directory tests/system "$@" &
system=$!
part "the tests" coverage run -m unittest "${tests[@]}" "$@" || failed+=("the tests")
wait "$system" || failed+=("the system's tests")
wait "$proofs" || failed+=("the proofs")

"$python" -m coverage combine --quiet || failed+=("coverage combine")
rm -f .coverage.* # what a killed process left half-written
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
