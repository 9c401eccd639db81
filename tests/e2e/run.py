"""Runs the end-to-end tests: `python3 tests/e2e/run.py [--only NAME]… [--list] [--jobs N]`.

Needs Python 3.11, node, npm, curl, git and openssl; installs the rest into a cache. Nothing is ever skipped: what
could not run has failed. The last line is `N passed, N failed`; exit code 0 only if none failed.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed

import clients

# Two clients at a time: each starts a runtime and lives for seconds.
DEFAULT_JOBS = 2


def main() -> int:
    """Runs what was asked for and says how it went."""
    parser = argparse.ArgumentParser(description="End-to-end tests of plainsight on the real client.")
    parser.add_argument("--only", action="append", metavar="NAME", help="run tests whose name starts with or contains NAME")
    parser.add_argument("--list", action="store_true", help="list the tests and stop")
    parser.add_argument("--jobs", type=int, default=DEFAULT_JOBS, help=f"tests at a time (default {DEFAULT_JOBS})")
    arguments = parser.parse_args()

    _use_own_interpreter()
    import canary
    import compliance
    import confine
    import doctor
    import durability
    import export
    import faults
    import identity
    import leaf
    import otlp
    import page
    import policy
    import private
    import product_tests
    import real_client
    import receiver
    import replay
    import sdk
    import witness

    files = [
        real_client, product_tests, compliance, leaf, identity, durability, faults, canary, sdk, otlp, receiver, export, replay, policy,
        confine, doctor, private, page, witness,
    ]
    tests = [test for file in files for test in file.tests()]
    chosen = [test for test in tests if not arguments.only or any(name in test[0] for name in arguments.only)]
    if arguments.list:
        print(*(name for name, _ in chosen), sep="\n")
        return 0
    if not chosen:
        print(f"no test is named like {arguments.only}\n0 passed, 1 failed")
        return 1

    failed = 0
    with tempfile.TemporaryDirectory(prefix="plainsight-e2e-") as scratch:
        os.environ["PLAINSIGHT_E2E_SCRATCH"] = scratch
        with ThreadPoolExecutor(arguments.jobs) as pool:
            running = {pool.submit(_timed, test): name for name, test in chosen}
            for done in as_completed(running):
                seconds, problem = done.result()
                failed += problem is not None
                print(f"{'FAIL' if problem else 'ok  '} {running[done]} ({seconds:.1f} s)", flush=True)
                if problem:
                    print("".join(f"     {line}\n" for line in problem.splitlines()), end="", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _timed(test: object) -> tuple[float, str | None]:
    start = time.monotonic()
    try:
        test()
        return time.monotonic() - start, None
    except (AssertionError, clients.SetupError) as problem:
        return time.monotonic() - start, str(problem) or repr(problem)
    except BaseException:
        return time.monotonic() - start, traceback.format_exc()


def _use_own_interpreter() -> None:
    """Goes on under the virtual environment's interpreter, which has the packages of `requirements.txt`."""
    try:
        wanted = str(clients.python())
    except clients.SetupError as problem:
        print(f"e2e: {problem}\n0 passed, 1 failed")
        raise SystemExit(1) from problem
    if os.path.dirname(os.path.dirname(wanted)) != sys.prefix:
        os.execv(wanted, [wanted, *sys.argv])


if __name__ == "__main__":
    sys.exit(main())
