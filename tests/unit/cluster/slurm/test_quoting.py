"""Job scripts: no value leaves its word, and none leaves its line."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fedapm_mpi.cli.main import main
from fedapm_mpi.cluster.site import Site, read_site
from fedapm_mpi.cluster.slurm.quoting import directive_word, name_for, shell_word
from fedapm_mpi.cluster.slurm.scripts import JobResources, render_step, render_training
from fedapm_mpi.errors import ConfigError
from tests.support.processes.cli_runs import experiment, write_config
from tests.unit.cluster.slurm.test_scripts import RUN, SHAPE, options, started

BREAKS = [
    "a\nb", "a\rb", "a\x00b", "a\x1bb", "a\x85b", "a\u2028b", "a\u2029b", "a\tb",
    "a\u202eb",
]  # fmt: skip
HOSTILE = [
    "$(touch made)", "`touch made`", "a; touch made", "a' 'b", 'a" "b', "a b", "a\\b",
    "$((1+1))", "${x:=touch}", "a#b", "# b", "a|b", "a&b", ">made", "*", "~", "!x", "é",
    "$1", "$$", "a$", "a=b",
]  # fmt: skip


@pytest.mark.parametrize("text", BREAKS)
@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("name", "--job-name"),
        ("config", "configuration"),
        ("run_dir", "--run-dir"),
        ("overrides", "overrides"),
    ],
)
def test_a_line_break_in_a_run_is_refused(field, what, text):
    run = replace(RUN, **{field: [text] if field == "overrides" else text})
    with pytest.raises(ConfigError, match=f"^{what}: .*line break"):
        render_training(Site(), SHAPE, run, "runs")


@pytest.mark.parametrize(
    "field",
    ["account", "partition", "qos", "constraint", "mem", "venv", "container",
     "launcher", "mpi_type", "gpu_bind", "scratch"],
)  # fmt: skip
def test_a_line_break_in_a_site_profile_is_refused(field):
    site = Site(**{field: "x\n#SBATCH --uid=0"})
    for render in (
        lambda: render_training(site, SHAPE, RUN, "runs"),
        lambda: render_step(site, "n", ["report", "r"], "5", "runs"),
    ):
        with pytest.raises(ConfigError, match=f"site profile, {field}: "):
            render()


@pytest.mark.parametrize(
    "site", [Site(options=["--exclusive\nx"]), Site(modules=["a\nx"])]
)
def test_a_line_break_in_a_list_is_refused(site):
    with pytest.raises(ConfigError, match="line break"):
        render_training(site, SHAPE, RUN, "runs")


def test_lines_of_setup_are_shell(tmp_path):
    site = Site(venv=".", setup=["f() {\n  echo ready\n}", "f"])
    assert started(render_training(site, SHAPE, RUN, "runs"), tmp_path)[0] == "ready"


@pytest.mark.parametrize("text", BREAKS)
def test_a_line_break_in_other_words_is_refused(text, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--out"):
        render_training(Site(), SHAPE, RUN, text)
    with pytest.raises(ConfigError, match="--time"):
        render_training(Site(), replace(SHAPE, time=text), RUN, "runs")
    with pytest.raises(ConfigError, match="words"):
        render_step(Site(), "n", ["report", text], "5", "runs")
    if "\0" not in text:
        (tmp_path / text).mkdir()
        monkeypatch.chdir(tmp_path / text)
        with pytest.raises(ConfigError, match="current folder"):
            render_training(Site(), SHAPE, RUN, "runs")


@pytest.mark.parametrize("text", HOSTILE)
def test_words_reach_the_program_as_they_are(tmp_path, text):
    run = replace(RUN, config=f"{text}.yaml", overrides=[f"data={text}"])
    run = replace(run, run_dir=f"runs/{text}/$SLURM_JOB_ID")
    words = started(render_training(Site(venv="."), SHAPE, run, "runs"), tmp_path)
    assert words[words.index("train") + 1 :] == [
        f"{text}.yaml", f"data={text}", "--run-dir", f"runs/{text}/17", "--resume",
    ]  # fmt: skip
    script = render_step(Site(venv="."), "n", ["report", text], "5", "runs")
    assert started(script, tmp_path)[2:] == ["report", text]
    assert not (tmp_path / "made").exists()


def test_variables_are_replaced_where_they_may_be(tmp_path):
    words = ["prepare", "--to", "$FAST/${KIND}s/$(x)"]
    script = render_step(Site(venv="."), "n", words, "5", "runs", variables=True)
    found = started(script, tmp_path, FAST="/a b", KIND="set")
    assert found[2:] == ["prepare", "--to", "/a b/sets/$(x)"]
    plain = render_step(Site(venv="."), "n", words, "5", "runs")
    assert started(plain, tmp_path, FAST="/a b")[2:] == words
    assert shell_word("$") == '"\\$"'
    assert (shell_word("~/a b"), shell_word("~a")) == ("~/'a b'", "'~a'")


def test_what_begins_with_a_dash_is_a_path(tmp_path):
    run = replace(RUN, config="-c.yaml", run_dir="-r/$SLURM_JOB_ID")
    words = started(render_training(Site(venv="."), SHAPE, run, "runs"), tmp_path)
    assert words[words.index("train") + 1 :] == [
        "./-c.yaml", "--run-dir", "./-r/17", "--resume",
    ]  # fmt: skip


def test_options_of_sbatch_stay_one_word():
    site = Site(account='a "b" #c', partition="x y")
    script = render_training(site, SHAPE, RUN, "my runs/100%")
    assert '#SBATCH --account=a\\ \\"b\\"\\ \\#c\n' in script
    assert "#SBATCH --partition=x\\ y\n" in script
    assert "#SBATCH --output=my\\ runs/100%%/mine-%j.out\n" in script
    assert directive_word("--gres=gpu:4") == "--gres=gpu:4"


def test_modules_are_words(tmp_path):
    site = Site(venv=".", modules=["a/1 b", "c;touch made", "$KIND"])
    script = (
        f'module() {{ printf "%s\\n" "$@"; }}\n{render_step(site, "p", [], "5", "")}'
    )
    assert started(script, tmp_path, KIND="k")[:5] == [
        "load", "a/1", "b", "c;touch", "made",
    ]  # fmt: skip
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (
            JobResources(nodes=1, time="5"),
            "on 1 task, which is the server and trains all",
        ),
        (
            JobResources(nodes=2, time="5"),
            "on 2 tasks: 1 is the server, 1 task train clients",
        ),
        (JobResources(nodes=1, tasks=1, time="5"), "on 1 task, which is"),
        (
            JobResources(nodes=3, tasks_per_node=2, time="5"),
            "6 tasks: 1 is the server, 5 tas",
        ),
        (
            JobResources(nodes=1, tasks=9, time="5"),
            "on 9 tasks: 1 is the server, 8 tasks",
        ),
    ],
)
def test_the_title_says_what_tasks_do(shape, expected):
    script = render_training(Site(), shape, RUN, "runs")
    assert expected in script.splitlines()[1]
    assert f"--ranks={shape.ranks} " in script


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDAPM_SITE", raising=False)
    return write_config(tmp_path / "c.yaml", experiment(tmp_path / "data"))


@pytest.mark.parametrize(
    "name",
    ["a\n#SBATCH --uid=0", "", "-x", "a/b", "../a", "a b", "$(x)", "a'b", "x" * 999],
)  # fmt: skip
def test_a_name_that_is_none_is_refused(config, capsys, name):
    assert main(["slurm", "render", "c.yaml", f"--job-name={name}"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fedapm: error: --job-name ")
    assert len(printed.err) < 400


@pytest.mark.parametrize("name", ["é", "my-job.2", "_x", "a=1,b=2"])
def test_other_names_are_taken(config, capsys, name):
    assert main(["slurm", "render", "c.yaml", "--job-name", name]) == 0
    assert options(capsys.readouterr().out)["--job-name"] == name


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("a b", "a_b"), ("-a", "_a"), ("$(touch made)", "__touch_made_"), ("é", "é"),
        ("x" * 120, "x" * 100), ("seed=1", "seed=1"),
    ],
)  # fmt: skip
def test_a_configurations_name_becomes_one_of_a_job(config, capsys, stem, name):
    assert name_for(stem) == name
    Path("c.yaml").rename(f"{stem}.yaml")
    assert main(["slurm", "render", "--time", "5", "--", f"{stem}.yaml"]) == 0
    assert options(capsys.readouterr().out)["--job-name"] == name


@pytest.mark.parametrize("stem", ["c\n#SBATCH --uid=0", "c\rd"])
def test_a_line_break_in_a_configurations_name_is_refused(config, capsys, stem):
    Path("c.yaml").rename(f"{stem}.yaml")
    for words in (["render"], ["submit", "--prepare", "x\ny"]):
        assert main(["slurm", *words, f"{stem}.yaml"]) == 2
        assert "line break" in capsys.readouterr().err


def test_a_line_break_in_a_sweep_is_refused(config, capsys):
    sweep = {"config": "c.yaml", "grid": {"seed": [1]}, "out": "a\nb"}
    Path("s.yaml").write_text(yaml.safe_dump(sweep))
    assert main(["slurm", "render", "--sweep", "s.yaml"]) == 2
    assert "line break" in capsys.readouterr().err
    assert not [name for name in os.listdir() if "\n" in name]  # noqa: PTH208


def test_a_profile_is_read_as_yaml_1_2(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("account: 010\n")
    with pytest.raises(ConfigError, match="account: input should be a valid string"):
        read_site(path)
    path.write_text("partition: on\nqos: '010'\n")
    assert (read_site(path).partition, read_site(path).qos) == ("on", "010")
