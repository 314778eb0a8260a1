"""Programs that are run for what they say."""

from __future__ import annotations

from vmcorefs.capture.programs import complaint, run


def test_a_program_may_say_what_is_not_utf_8() -> None:
    done = run(["sh", "-c", r"printf '/mnt/\377\n'; printf 'no \377\n' >&2; exit 1"], "sh")
    assert done.stdout == "/mnt/\ufffd\n"
    assert complaint(done) == "no \ufffd"
