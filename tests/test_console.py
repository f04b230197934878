"""What ends a command: one sentence on stderr, the right exit code, and only promises that hold."""

import errno
import json
import multiprocessing
import signal

import pytest

from crossward import console


def failing(error: BaseException):
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "resumes", "sentence"),
    [
        (KeyboardInterrupt(), True, "what was finished is kept; run the same command again to continue: crossward r"),
        (KeyboardInterrupt(), False, "stopped before the output was written: run the same command again: crossward r"),
        (ValueError("a\n  b"), True, "crossward: a b"),
        (OSError(errno.ENOSPC, "full", "x"), True, "no space left on the disk of x: free some, then run crossward r"),
        (OSError(errno.EDQUOT, "quota", "x"), True, "no space left on the disk of x"),
        (FileExistsError(errno.EEXIST, "File exists", "x"), True, "crossward: x: File exists"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence(
    error: BaseException, resumes: bool, sentence: str, capsys: pytest.CaptureFixture[str]
):
    assert console.guarded(failing(error), again="crossward r", resumes=resumes) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_a_later_ctrl_c_ends_a_command_that_was_stopped_with_the_same_exit_code():
    def stopped() -> None:
        console.guarded(failing(KeyboardInterrupt()), again="crossward run", resumes=True)
        signal.raise_signal(signal.SIGINT)

    child = multiprocessing.get_context("fork").Process(target=stopped)
    child.start()
    child.join()
    assert child.exitcode == 2


def test_square_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]):
    console.show_table("title [bold]", ["cell", "[red]"], [["languages=[en, es]", "x[/bar]"]])
    shown = capsys.readouterr().out
    for text in ("title [bold]", "[red]", "languages=[en, es]", "x[/bar]"):
        assert text in shown


def test_lines_are_shown_as_they_are_and_steer_nothing(capsys: pytest.CaptureFixture[str]):
    said = "[bold] :cat: \x1b[31m \u202e \x9b2J"
    console.line(said)
    console.note(said)
    console.tell(said)
    console.show_table("", ["", "a"], [["a", {"\x1b[31m": 1}]])
    shown = capsys.readouterr()
    for told in (shown.out.splitlines()[0], *(line.removeprefix("crossward: ") for line in shown.err.splitlines())):
        assert told == "[bold] :cat: ␛[31m \\u202e \\x9b2J"
    assert "\x1b" not in shown.out


def test_json_escapes_what_steers_a_terminal_and_means_the_same(capsys: pytest.CaptureFixture[str]):
    said = {"text": "Grüße नमस्ते \x1b[31m \u202e \x9b2J \x7f \ud800"}
    console.show_json(said)
    console.choose("json")
    try:
        console.tell(said["text"])
    finally:
        console.choose("auto")
    shown = capsys.readouterr()
    assert json.loads(shown.out) == said
    assert json.loads(shown.err)["text"] == said["text"]
    assert "Grüße नमस्ते" in shown.out
    for character in "\x1b\u202e\x9b\x7f\ud800":
        assert character not in shown.out + shown.err


def test_what_is_our_fault_is_not_hidden():
    for error in (KeyError("x"), OSError(errno.EBADF, "broken", "x")):
        with pytest.raises(type(error)):
            console.guarded(failing(error), again="", resumes=True)
