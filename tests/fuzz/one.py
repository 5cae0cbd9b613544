"""One target in a process of its own, since the fuzzer ends the process it runs in: `one.py NAME
FOLDER SECONDS`.
"""

import hashlib
import random
import re
import sys
import traceback
from pathlib import Path

import atheris
import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]
with atheris.instrument_imports(
    include=["lib", "tomllib", "zipfile", "tarfile", "pickletools", "werkzeug.sansio"]
):
    import mutations
    import targets

    from lib.errors import DarkroomError

SECONDS_AN_INPUT, MOST_MB = 5, 500


def main() -> None:
    name, folder, seconds = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    target, seeds, grammar = targets.TARGETS[name]
    inputs, crashes = folder / "inputs", folder / "crashes"
    for each in (inputs, crashes):
        each.mkdir(parents=True, exist_ok=True)
    for data in seeds():
        (inputs / hashlib.sha1(data).hexdigest()).write_bytes(data)
    words = sorted(
        {
            word
            for data in seeds()
            for word in re.findall(rb"[A-Za-z_]{2,30}|[!-/:-@[-`{-~]{2,4}", data)
        }
    )
    (folder / "words").write_bytes(
        b"".join(b'"%s"\n' % re.sub(rb'[\\"]', rb"\\\g<0>", word) for word in words)
    )

    def feed(data: bytes) -> None:
        try:
            target(data)
        except DarkroomError:
            return
        except Exception as error:
            keep(crashes, data, error)

    limits = [
        f"-max_total_time={seconds}",
        f"-timeout={SECONDS_AN_INPUT}",
        "-len_control=0",
        "-max_len=100000",
    ]
    limits += [
        f"-rss_limit_mb={MOST_MB + psutil.Process().memory_info().rss // 1_000_000}",
        f"-malloc_limit_mb={MOST_MB}",
    ]
    limits += [
        f"-dict={folder / 'words'}",
        f"-artifact_prefix={crashes}/",
        "-print_final_stats=1",
        "-verbosity=1",
    ]

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        changed = getattr(mutations, grammar)(bytes(data), rng) if rng.random() < 0.8 else None
        return atheris.Mutate(data, most) if changed is None or len(changed) > most else changed

    atheris.Setup(
        [sys.argv[0], *limits, str(inputs)], feed, **({"custom_mutator": mutate} if grammar else {})
    )
    atheris.Fuzz()


def keep(crashes: Path, data: bytes, error: Exception) -> None:
    """Writes the input beside its traceback, once for each class of error and place in our code."""
    ours = str(HERE.parent.parent / "lib")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(ours)
    ]
    place = f"{Path(frames[-1].filename).stem}-{frames[-1].lineno}" if frames else "elsewhere"
    file = crashes / f"{type(error).__name__}-{place}"
    if not file.exists():
        file.write_bytes(data)
        file.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))
        print(f"crash: {type(error).__name__} at {place}: {str(error)[:200]}", flush=True)


if __name__ == "__main__":
    main()
