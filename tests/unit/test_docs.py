"""Configurations printed in the documentation are ones that the package takes."""

import argparse
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import COMMANDS, load_command
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import EXIT_RESUMABLE, ConfigError, DataError, TrainingError
from fedapm_mpi.federation.split_candidates import split_candidates
from fedapm_mpi.models import models
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.optim.schedules import schedules
from fedapm_mpi.plugins import errors as plugin_errors
from fedapm_mpi.studies.scaling.platform import load
from fedapm_mpi.studies.scaling.study import read
from fedapm_mpi.studies.sweep.grid import read_sweep
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from tests.support import ROOT
from tests.support.data.model_tasks import Input
from tests.support.processes.cli_runs import FEDAPM, rounds_of

DOCS = ROOT / "docs"
README = ROOT / "README.md"
CHANGELOG = ROOT / "CHANGELOG.md"
PAGES = sorted(
    [
        README,
        ROOT / "CONTRIBUTING.md",
        CHANGELOG,
        ROOT / "examples" / "README.md",
        *DOCS.rglob("*.md"),
    ]
)
LONGEST_PARAGRAPH = 400
BASE = {
    "data": "x",
    "model": "cnn",
    "rounds": 1,
    "split": {"personal": ["fc2.*"]},
}


def section(page, heading):
    """Return the text under a heading, down to the next one of its level or above."""
    text = (DOCS / page).read_text("utf-8")
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    level = len(heading) - len(heading.lstrip("#"))
    code = re.compile(r"```.*?```", re.DOTALL)
    prose = code.sub(lambda match: "x" * len(match[0]), rest)
    return rest[: len(re.split(rf"\n#{{1,{level}}} ", prose)[0])]


def blocks(language, text):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def yaml_blocks(page, heading=None):
    text = section(page, heading) if heading else (DOCS / page).read_text("utf-8")
    return blocks("yaml", text)


def anchors(page):
    """Return the anchors that GitHub makes of a page's headings."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


def options_of(command):
    """Return the flags of a command, those of its actions included."""
    parser = Parser()
    load_command(command).add_arguments(parser)
    parsers = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers += action.choices.values()
    return {flag for one in parsers for flag in one._option_string_actions}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_the_flags_that_are_printed(page):
    if page.name in ("CHANGELOG.md", "glossary.md"):
        return  # they name earlier ones as well
    text = page.read_text("utf-8").replace("\\\n", " ")
    found = re.findall(r"\bfedapm ([a-z]+)(?!:)\b([^`\n]*)", text)
    for command, rest in found:
        if command not in COMMANDS:
            continue
        words = re.sub(r"\"[^\"]*\"|'[^']*'|#.*", "", rest)
        known = options_of(command) | {"--debug"}
        if command == "launch":
            inner = (word for word in words.split() if word in COMMANDS)
            known |= {flag for one in inner for flag in options_of(one)}
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", words):
            assert flag in known, f"fedapm {command} has no {flag}"


def test_modules_and_files_that_are_printed_exist():
    text = "\n".join(page.read_text("utf-8") for page in PAGES if page != CHANGELOG)
    modules = re.findall(r"\b((?:benchmarks|tests)(?:\.\w+)+)\b", text)
    paths = {module.replace(".", "/") for module in modules}
    found = re.findall(
        r"\b((?:fedapm_mpi|data_prep|benchmarks|launch|tests|examples)/[\w/.-]+)", text
    )
    paths |= {path.rstrip("./") for path in found if "NAME" not in path}
    missing = [
        path
        for path in sorted(paths)
        if not any((ROOT / f"{path}{end}").exists() for end in ("", ".py"))
    ]
    assert missing == []


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text("utf-8")
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page}" not in index} == set()


def test_the_readme_is_short():
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for line in prose.splitlines():
        assert len(line) <= LONGEST_PARAGRAPH, line


@pytest.mark.parametrize("page", [README, DOCS / "getting-started.md"])
def test_a_configuration_of_ones_own(page, tmp_path, monkeypatch):
    text = page.read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    for code in blocks("python", text):
        if code.startswith("# mymodel.py"):
            Path("mymodel.py").write_text(code)
    (block,) = blocks("yaml", text)
    config = validate(yaml.safe_load(block), page.name)
    inputs = (Input("x", (6,)),)
    options = {k: v for k, v in config.model.items() if k != "name"}
    model = models.get(config.model["name"])(inputs, 3, **options)
    if config.split.auto is not None:
        assert len(split_candidates([model])) > 2
        return
    (pattern,) = config.split.personal
    names = [name for name, _ in model.named_parameters()]
    assert 0 < sum(fnmatch(name, pattern) for name in names) < len(names)


def test_options_of_algorithms():
    text = (DOCS / "algorithms.md").read_text("utf-8")
    fedapm = {"name": "fedapm", "rho": 0.1, "sigma": 0.1, "batch_size": 8}
    fedapm |= {"lr_personal": 0.1, "lr_shared": 0.1}
    for block in blocks("yaml", text):
        values = yaml.safe_load(block)
        options = values.pop("algorithm", {})
        if isinstance(options, str):  # all defaults
            assert validate(values | {"algorithm": options}, "docs").optimizer
            continue
        if options.get("block_order") != "joint":
            work = {"shared_work": {"epochs": 1}, "personal_work": {"epochs": 1}}
        else:
            work = {}
        if options.get("name") is None:
            mean = {"name": "fedsim", "lr": 0.1, "batch_size": 8, "work": {"epochs": 1}}
            options = mean | options
        else:
            options = fedapm | work | options
        validate(BASE | values | {"algorithm": options}, "docs")


def test_the_defaults_are_those_of_the_table():
    alone = section("algorithms.md", "### FedAPM")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", alone, re.MULTILINE)
    of_fedapm = [("fedapm", name, value) for name, value in rows]
    assert {name for name, _ in rows} == {"rho", "sigma", "dual_step"}
    others = section("algorithms.md", "### The other methods")
    pattern = r"^\| `([\w-]+)` \| (`\w+`(?:, `\w+`)*) \| ([\d., ]+) [|(]"
    found = re.findall(pattern, others, re.MULTILINE)
    values = [
        (method, name.strip("` "), value)
        for method, names, numbers in found
        for name, value in zip(names.split(","), numbers.split(","), strict=True)
    ]
    assert {"fedprox", "ditto", "flame", "pfedme", "feddyn", "fedadmm"} <= {
        method for method, _, _ in values
    }
    for method, name, value in [*of_fedapm, *values]:
        tree = {"data": "x", "model": "mlp", "algorithm": method}
        config = validate(tree, "docs")
        assert config.algorithm[name] == pytest.approx(float(value), rel=0.02), name


def test_a_sweep(tmp_path):
    (block,) = yaml_blocks("cluster.md", "## Sweeps")
    (tmp_path / "sweep.yaml").write_text(block)
    model = {"name": "mlp", "hidden": [32]}
    base = BASE | {"model": model, "split": {"personal": ["head.*"]}}
    config = base | {"algorithm": FEDAPM}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    cells, _ = read_sweep(tmp_path / "sweep.yaml")
    assert len(cells) == 12


def test_the_architecture_has_the_layers_of_the_contract():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    contract = text.split('id = "layers"')[1].split("]]")[0]
    listed = contract.split("layers = [")[1].split("]")[0]
    layers = [set(re.findall(r"\w+", line)) for line in listed.splitlines() if line]
    rows = re.findall(
        r"^\| \d+ \| (.*) \|$", section("architecture.md", "## Layers"), re.M
    )
    assert [set(re.findall(r"\w+", row)) for row in rows] == layers[1:]
    tree = blocks("", section("architecture.md", "## Packages"))[0]
    packages = {
        path.parent.name for path in (ROOT / "fedapm_mpi").glob("*/__init__.py")
    }
    assert set(re.findall(r"^  (\w+)/", tree, re.MULTILINE)) == packages


def test_the_glossary_names_what_is_in_the_code():
    text = (DOCS / "glossary.md").read_text("utf-8").split("## Renamed keys")[0]
    terms = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    names = {name for term in terms for name in re.findall(r"`([^`]+)`", term)}
    assert len(names) > 50
    modules = (ROOT / "fedapm_mpi").rglob("*.py")
    words = set(re.findall(r"\w+", " ".join(m.read_text("utf-8") for m in modules)))
    last = {name: name.split(".")[-1].split()[-1] for name in names}
    assert [name for name in sorted(names) if last[name] not in words] == []


def test_groups_of_clients_that_lack_an_input(toy):
    (block,) = yaml_blocks("models.md", "## Clients with different models")
    small = {"model": {"name": "har", "filters": 2, "hidden": 4, "attention": 4}}
    values = {"rounds": 1, "algorithm": FEDAPM} | yaml.safe_load(block) | small
    values["data"] = str(toy["lacking"])
    groups = open_context(validate(values, "docs"), Serial()).groups
    assert groups.of_client.tolist() == [0, 1, 0, 1, 2, 0]
    assert len(groups.space.sections) > 1


def test_the_local_solver(toy, tmp_path):
    """The complete configuration trains; every other block of the page fits into it."""
    complete, *others = map(yaml.safe_load, yaml_blocks("solvers.md"))
    config = complete | {"data": str(toy["features"]), "participation": "full"}
    assert train(Serial(), validate(config, "docs"), directory=tmp_path / "run") == 0
    _, *records = rounds_of(tmp_path / "run")
    assert len(records) == complete["rounds"] == 20
    factors = [record["lr_factor"]["personal"] for record in records]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1], rel=1e-15)
    assert 0.05 < factors[-1] < 0.06
    assert all(record["clipped_steps"] <= record["local_steps"] for record in records)
    assert records[-1]["train_loss"] < records[0]["train_loss"] / 2
    keys = set()
    for block in others:
        validate(complete | {"rounds": 200} | block, "docs")
        keys |= set(block)
    assert keys == {"optimizer", "schedule", "clip"}


def test_the_page_of_the_local_solver_names_all_parts():
    text = section("solvers.md", "## Schedule")
    rows = re.findall(r"^\| `(\w+)` \| ", text, re.MULTILINE)
    assert sorted(rows) == schedules.builtin_names()
    names = re.search(r"name: sgd +# or (.*)", section("solvers.md", "## Optimizer"))
    assert {"sgd", *names[1].split(", ")} == set(optimizers.builtin_names())


def test_the_exit_codes():
    """The table has all of them."""
    text = (DOCS / "exit-codes.md").read_text("utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    known = [plugin_errors.Interrupted, ConfigError, DataError, TrainingError]
    known += [
        plugin_errors.PluginError,
        plugin_errors.InternalError,
        plugin_errors.OutOfMemory,
    ]
    assert listed == {0, EXIT_RESUMABLE, *(one.exit_code for one in known)}


def test_adapters():
    (block,) = yaml_blocks("models.md", "## Adapters")
    config = validate(
        {"data": "x", "rounds": 1, "algorithm": FEDAPM} | yaml.safe_load(block), "docs"
    )
    assert config.model["base"]["name"] == "transformer"
    inputs = (Input("x", (6, 3)),)
    options = {k: v for k, v in config.model.items() if k != "name"}
    names = {n for n, p in models.get("lora")(inputs, 3, **options).named_parameters()}
    assert any("lora_a" in name for name in names)


def test_a_scaling_study_and_a_platform(tmp_path):
    study, platform = yaml_blocks("scaling.md")
    (tmp_path / "study.yaml").write_text(study)
    (tmp_path / "platform.yaml").write_text(platform)
    found = read(tmp_path / "study.yaml")
    assert None not in (found.strong, found.weak, found.size)
    assert load(tmp_path / "platform.yaml").ranks == 64 * 32


def test_the_preset_for_few_participants():
    (block,) = yaml_blocks("algorithms.md", "### A preset for few participants")
    preset = yaml.safe_load(block)
    config = validate(BASE | preset, "docs")
    for name, value in preset["algorithm"].items():
        if not isinstance(value, dict):
            assert config.algorithm[name] == value
    steps = 9 * preset["algorithm"]["joint_work"]["epochs"]
    path = preset["algorithm"]["rho"] * preset["algorithm"]["lr_shared"] * steps
    assert 0.1 <= path <= 1, "not the rule that the text gives"
