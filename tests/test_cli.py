"""The command line itself: quick help, one line for any error, clean output for pipes and programs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from conftest import Cli, Run, write_small_card

from pspnet_convert import __version__
from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cli import cli as command_line

HEAVY = [
    "torch",
    "openvino",
    "onnx",
    "onnxruntime",
    "mmseg",
    "mmengine",
    "mmcv",
    "rich",
    "pydantic",
    "numpy",
    "PIL",
    "jinja2",
]
COMMANDS = [
    "benchmark",
    "bundle",
    "check",
    "doctor",
    "download",
    "evaluate",
    "export-onnx",
    "info",
    "list",
    "quantize",
    "rebuild",
    "report",
    "run",
    "segment",
    "to-ir",
    "verify",
]
STAGES = ["run", "download", "export-onnx", "to-ir", "verify"]
SAMPLES = Path(__file__).parent.parent / "pspnet_convert" / "data" / "samples"


def program(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-m", "pspnet_convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **options)


# Help


def imported_by(*arguments: object) -> set[str]:
    """The modules that the program imports, which must print something and end well."""
    script = (
        "import sys\n"
        "from pspnet_convert.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(*sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0
    assert done.stdout
    loaded = set(done.stderr.split())
    assert {"click", "pspnet_convert.cli"} <= loaded
    return loaded


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    assert imported_by(*arguments) & set(HEAVY) == set()


def test_a_run_that_finds_all_done_does_not_import_torch(small: ModelCard, workspace: Path) -> None:
    assert imported_by("run", small.folder, "-o", workspace) & {"torch", "mmseg", "onnx", "onnxruntime"} == set()


def test_the_package_itself_imports_nothing_heavy() -> None:
    script = "import sys, pspnet_convert; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split())
    assert "pspnet_convert" in loaded
    assert loaded & {*HEAVY, "click"} == set()


def test_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"pspnet-convert, version {__version__}\n"
    assert program("--version").stdout == f"pspnet-convert, version {__version__}\n"


def test_the_commands() -> None:
    assert sorted(command_line.commands) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_the_command_would_take(cli: Cli, name: str) -> None:
    result = cli(name, "--help")
    assert result.exit_code == 0
    _, _, after = result.stdout.partition("Example:\n")
    example = after.splitlines()[0].split()
    assert example[:2] == ["pspnet-convert", name]
    command = command_line.commands[name]
    # Parsed and not run: click says whether these are the command's options.
    assert command.make_context(name, example[2:]).args == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    options = [param for param in command_line.commands[name].params if isinstance(param, click.Option)]
    assert {"--json", "--debug"} <= {option.opts[0] for option in options}
    told = [option.opts[0] for option in options if option.help]
    # segment's --precision needs no words: its choices and its default are shown.
    assert {option.opts[0] for option in options} - set(told) <= {"--precision"}


def test_help_lists_every_command(cli: Cli) -> None:
    result = cli("--help")
    assert result.exit_code == 0
    listed = {line.split()[0] for line in result.stdout.partition("Commands:\n")[2].splitlines() if line.strip()}
    assert listed >= set(COMMANDS)
    assert "Example:" in result.stdout


# Usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["info", "demo", "more"], "Got unexpected extra argument"),
        (["info", "--nonsense"], "No such option"),
        (["run", "demo", "--input-shape", "512"], "'512' is not four numbers: 1,3,HEIGHT,WIDTH"),
        (["run", "demo", "--input-shape", "1,3,a,b"], "'1,3,a,b' is not four numbers"),
        (["run", "demo", "--input-shape", "1,3,512,512,1"], "is not four numbers"),
        (["run", "demo", "--input-shape", ""], "'' is not four numbers"),
        (["run", "demo", "--input-shape", "2,3,512,512"], "is of several images: say 1,3,512,512 and --batch 2"),
        (["run", "demo", "--input-shape", "0,3,512,512"], "is not 1,3,HEIGHT,WIDTH with sides of 8 to 8192"),
        (["run", "demo", "--batch", "0"], "'0' is neither a number from 1 to 64 nor dynamic"),
        (["run", "demo", "--batch", "65"], "'65' is neither a number from 1 to 64 nor dynamic"),
        (["run", "demo", "--batch", "-1"], "'-1' is neither a number from 1 to 64 nor dynamic"),
        (["export-onnx", "demo", "--batch", "any"], "'any' is neither a number from 1 to 64 nor dynamic"),
        (["to-ir", "demo", "--input-type", "i8"], "'i8' is not one of 'u8', 'u16', 'f32'"),
        (["to-ir", "demo", "--input-layout", "NCWH"], "'NCWH' is not one of 'NCHW', 'NHWC'"),
        (["verify", "demo", "--input-shape", "1,3,80,96"], "--input-shape is for files from elsewhere (--onnx, --ir)"),
        (["verify", "demo", "--batch", "2"], "--batch is for files from elsewhere (--onnx, --ir)"),
        (["verify", "demo", "--input-type", "f32"], "--input-type is for files from elsewhere (--onnx, --ir)"),
        (["verify", "demo", "--input-layout", "NHWC"], "--input-layout is for files from elsewhere (--onnx, --ir)"),
        (["run", "demo", "--input-shape", "1,513,512,512"], "has 513 channels, not 1 to 512"),
        (["run", "demo", "--input-shape", "1,0,512,512"], "has 0 channels, not 1 to 512"),
        (["run", "demo", "--input-shape", "1,3,7,512"], "is not 1,3,HEIGHT,WIDTH with sides of 8 to 8192"),
        (["run", "demo", "--input-shape", "1,3,512,8193"], "is not 1,3,HEIGHT,WIDTH with sides of 8 to 8192"),
        (["run", "demo", "--input-shape", "1,3,-8,512"], "is not 1,3,HEIGHT,WIDTH with sides of 8 to 8192"),
        (["export-onnx", "demo", "--opset", "new"], "'new' is not a valid integer"),
        (["to-ir", "demo", "--mo-arg", ""], "has no name"),
        (["to-ir", "demo", "--mo-arg", "=5"], "has no name"),
        (["to-ir", "demo", "--mo-arg", "--"], "has no name"),
        (["to-ir", "demo", "--precision", "INT8"], "'INT8' is not one of 'FP32', 'FP16'"),
        (["verify", "demo", "--images", "."], "File '.' is a directory"),
        (["verify", "demo", "--checkpoint", "."], "File '.' is a directory"),
        (["run", "demo", "--progress", "loud"], "'loud' is not one of 'auto', 'json', 'none'"),
        (["segment"], "Missing argument 'IMAGES...'"),
    ],
)
def test_wrong_usage_is_exit_2_and_touches_nothing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_run_for_other_channels_than_the_models_ends_before_the_work(cli: Cli, tmp_path: Path) -> None:
    result = cli("run", "demo", "--input-shape", "1,1,512,512", "-o", tmp_path)
    assert result.exit_code == 2
    assert result.stderr == "error: --input-shape has 1 channels, the model takes 3. Say 1,3,512,512.\n"


@pytest.mark.parametrize("shape", ["1,3,80,96", "[1,3,80,96]", "1, 3, 80, 96"])
def test_the_input_shape_may_be_written_as_model_optimizer_does(shape: str) -> None:
    context = command_line.commands["export-onnx"].make_context("export-onnx", ["demo", "--input-shape", shape])
    assert context.params["input_shape"] == (1, 3, 80, 96)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("static_shape", ("static_shape", True)),
        ("--static_shape", ("static_shape", True)),
        ("transform=A=b", ("transform", "A=b")),
        ("transform=", ("transform", "")),
    ],
)
def test_mo_arg_is_a_name_with_or_without_a_value(text: str, parsed: tuple[str, object]) -> None:
    context = command_line.commands["to-ir"].make_context("to-ir", ["demo", f"--mo-arg={text}"])
    assert context.params["mo_arg"] == (parsed,)


# Output


def test_json_of_each_command_is_json_and_nothing_else(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    assert cli("info", small.folder, "--json").json()["name"] == "small-standin"
    for command in STAGES:
        printed = cli(command, small.folder, "-o", workspace, "--json").json()
        stages = printed["stages"] if command in ("run", "verify") else printed
        assert [stage["stage"] for stage in stages] == (STAGES[1:] if command == "run" else [command])
        assert {"stage", "skipped", "inputs", "options", "tools", "outputs", "result", "finished", "seconds"} == set(
            stages[0]
        )
    segmented = cli("segment", SAMPLES / "coffee.jpg", "--model", small.folder, "-o", workspace, "--json").json()
    assert [set(one) for one in segmented] == [{"image", "overlay", "labels", "shares"}]


def test_json_stays_json_while_stages_work(cli: Cli, small: ModelCard, workspace: Path) -> None:
    printed = cli("to-ir", small.folder, "-o", workspace, "--force", "--json").json()
    assert printed[0]["skipped"] is False


def test_an_error_is_json_too(cli: Cli, tmp_path: Path) -> None:
    result = cli("info", tmp_path / "none.yml", "--json")
    assert result.exit_code == 3
    told = result.json()
    assert told["exit_code"] == 3
    assert "none.yml: cannot be read" in told["error"]
    assert result.error == f"error: {told['error']}. {told['advice']}"


@pytest.mark.parametrize(
    ("command", "option"),
    [("quantize", "--max-drop"), ("quantize", "--min-agreement"), ("quantize", "--time-limit"),
     ("evaluate", "--max-drop"), ("segment", "--opacity")],
)  # fmt: skip
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_is_a_number(cli: Cli, command: str, option: str, value: str) -> None:
    result = cli(command, "demo", option, value)
    assert result.exit_code == 2
    assert f"'{option}': {value} is not in the range" in result.stderr or f"{value} is not a number" in result.stderr


def test_tables_of_each_command(cli: Cli, small: ModelCard, workspace: Path) -> None:
    ran = cli("run", small.folder, "-o", workspace)
    assert ran.exit_code == 0
    for words in (*STAGES[1:], "unchanged", "IR FP32", "IR FP16", "ONNX", "pass", "verdict: pass   manifest: "):
        assert words in ran.stdout
    information = cli("info").stdout
    for words in ("pspnet-pytorch", "ed5dfbd939dd2e4f78a0c2e6726a57150f3aec95e07f2cf64aeffea68a712c5b", "196212259"):
        assert words in information
    for words in ("357.1719", "46.5827", "mean_iou 70.6 %  crop", "BGR, 0..255", "tvmonitor", "Apache-2.0"):
        assert words in information


def test_the_stages_table_cuts_no_path_off(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    far = tmp_path / "[" / ("b]" + "x" * 140)  # Rich would take `[/b]` for markup
    far.parent.mkdir()
    far.symlink_to(workspace)
    result = cli("run", small.folder, "-o", far)
    assert result.exit_code == 0, result.stderr
    rows = [line.split("│")[3] for line in result.stdout.splitlines() if line.count("│") == 6]
    paths = "".join(rows).replace(" ", "")
    for name in ("standin.pth", "small-standin.onnx", "FP32/small-standin.bin", "FP16/small-standin.xml"):
        assert str(far / "public" / "small-standin" / name) in paths


def test_a_pipe_gets_no_colours_and_no_bar(small: ModelCard, workspace: Path) -> None:
    plain = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    for arguments in (["info", "demo"], ["run", small.folder, "-o", workspace], ["run", "--nonsense"]):
        done = program(*arguments, env={**plain, "TERM": "xterm-256color"})
        assert "\x1b" not in done.stdout + done.stderr
        assert "\r" not in done.stdout + done.stderr
        assert done.stdout + done.stderr


def test_a_reader_that_goes_away_is_no_bug() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "pspnet_convert", "info", "--json"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writing)
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


# Errors


def broken(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Cause an exception that no user can cause."""

    def find_card(model: str) -> ModelCard:
        raise error

    monkeypatch.setattr("pspnet_convert.cards.catalog.find_card", find_card)


@pytest.mark.parametrize("command", ["info", *STAGES])
def test_an_unexpected_exception_is_one_line_and_exit_1(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str, tmp_path: Path
) -> None:
    broken(monkeypatch, RuntimeError("first line\n  second line"))
    monkeypatch.chdir(tmp_path)
    result = cli(command)
    assert result.exit_code == 1
    assert result.error == (
        "error: unexpected RuntimeError: first line second line. This is a bug; --debug shows where."
    )
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_an_unexpected_exception_comes_from() -> None:
    script = (
        "import pspnet_convert.cards.catalog as catalog\n"
        "from pspnet_convert.cli import main\n"
        "def find_card(model): raise RuntimeError('odd')\n"
        "catalog.find_card = find_card\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, "info", "--debug"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "in find_card" in done.stderr
    assert done.stderr.endswith("RuntimeError: odd\n")


def test_debug_shows_where_an_expected_error_comes_from_and_keeps_its_line(tmp_path: Path) -> None:
    done = program("info", tmp_path / "none.yml", "--debug")
    assert done.returncode == 3
    assert "Traceback (most recent call last)" in done.stderr
    assert "in load_card" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'none.yml'}: cannot be read")
    assert "Traceback" not in program("info", tmp_path / "none.yml").stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_interrupt_is_one_line_and_exit_130_or_143(
    tmp_path: Path, number: signal.Signals, code: int, options: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(600)
        card = write_small_card(tmp_path / "card")
        source = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        command = [sys.executable, "-m", "pspnet_convert", "download", str(card), "--source", source]
        process = subprocess.Popen(
            [*command, "-o", str(tmp_path / "out"), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A child process inherits that SIGINT is ignored, as under nohup or in a script's background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            connection, _ = silent.accept()  # it waits for an answer now
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=600)
            connection.close()
        finally:
            process.kill()
            process.wait()
    assert process.returncode == code
    assert stderr == "error: interrupted. Run it again: finished stages are kept. For evaluate add --resume.\n"
    assert (json.loads(stdout)["exit_code"] == code) if options else (stdout == "")
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert [path.suffix for path in left] in ([], [".part"])


@pytest.mark.slow
def test_mmsegmentations_advice_to_trainers_is_not_shown(offline: Run, tmp_path: Path) -> None:
    """It gives advice on sizes for align_corners with every image that such a network takes."""
    from make_standin_checkpoint import make_standin

    config = "pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-769x769.py"
    card = load_card(write_small_card(tmp_path / "card", config=config))
    done = offline("run", make_standin(card, tmp_path / "standin"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "align_corners" not in done.stderr


def test_the_interrupt_of_any_stage_is_exit_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, KeyboardInterrupt())
    for command in ("info", *STAGES):
        result = cli(command)
        assert result.exit_code == 130
        assert "interrupted" in result.error


# Workspaces of earlier runs


def test_an_ir_of_an_earlier_run_is_not_taken_for_this_runs(cli: Cli, small: ModelCard, workspace: Path) -> None:
    arguments = ["--input-shape", "1,3,40,48", "--precision", "FP16"]
    result = cli("run", small.folder, "-o", workspace, *arguments)
    assert result.exit_code == 0, result.stderr


def test_force_does_not_replace_a_folder_with_the_checkpoints_name(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "public" / small.name / small.checkpoint.name).mkdir(parents=True)
    result = cli("download", small.folder, "-o", tmp_path, "--force")
    assert result.exit_code == 12
    assert "Is a directory" in result.error


def test_the_module_runs_as_the_program_does(tmp_path: Path) -> None:
    done = program("info", "demo", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["name"] == "demo"
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["\x1b[2J.yml", "a\nb.yml", "\udcff.yml", "\u202e.yml"])
def test_control_characters_are_escaped_in_errors(cli: Cli, name: str) -> None:
    result = cli("info", name, "--json")
    assert result.exit_code == 3
    assert result.error.isprintable()
    assert result.json()["error"].isprintable()
