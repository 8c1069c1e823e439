"""The study of splits: its table, from results written by hand."""

from benchmarks.split_study import (
    CHOICES,
    RULES,
    RUNS,
    TESTS,
    Results,
    configuration,
    table,
)

SCORES = {
    ("fedapm", "nothing"): (0.5, 0.6),
    ("fedapm", "biases"): (0.8, 0.9),
    ("fedapm", "all"): (0.7, 0.7),
    ("fedavg", "nothing"): (0.4, 0.6),
}


def test_rules_are_scored_by_the_split_that_they_chose(tmp_path):
    runs = Results(tmp_path / "runs.csv", RUNS)
    for (method, split), values in SCORES.items():
        for seed, accuracy in enumerate(values, start=1):
            runs.add(
                data="d", method=method, split=split, seed=seed, accuracy=accuracy,
                personal=7,
            )  # fmt: skip
    choices = Results(tmp_path / "choices.csv", CHOICES)
    for seed, chosen in ((1, "biases"), (2, "nothing")):
        choices.add(data="d", rule="multiplier", seed=seed, chosen=chosen)
        for rule in RULES[1:]:
            choices.add(data="d", rule=rule, seed=seed, chosen="all")
    # A seed of which not all is there yet does not count.
    runs.add(data="d", method="fedapm", split="biases", seed=3, accuracy=0.1)
    choices.add(data="d", rule="multiplier", seed=3, chosen="biases")
    tests = Results(tmp_path / "tests.csv", TESTS)
    for layer, lm in (("a", 3), ("b", 4)):
        tests.add(data="d", seed=1, candidate="nothing", layer=layer, lm=lm)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table(tmp_path).splitlines()
    ]
    assert rows[-3:] == [
        ["d", "nothing", "7", "4.00", "b", "0.550 ± 0.071"],
        ["", "biases", "7", "–", "", "0.850 ± 0.071"],
        ["", "all", "7", "–", "", "0.700 ± 0.000"],
    ]
    assert rows[2] == [
        "d",
        "biases 0.850 ± 0.071",
        "nothing 0.550 ± 0.071",
        "0.700 ± 0.000",
        "0.500 ± 0.141",
        "biases, nothing 0.700 ± 0.141",
        "all 0.700 ± 0.000",
        "all 0.700 ± 0.000",
    ]


def test_results_are_not_repeated(tmp_path):
    results = Results(tmp_path / "new" / "runs.csv", RUNS)
    results.add(data="d", seed=1, split="biases", accuracy=0.5)
    again = Results(tmp_path / "new" / "runs.csv", RUNS)
    assert again.has(data="d", seed=1)
    assert not again.has(data="d", seed=2)
    assert again.lines()[0]["accuracy"] == "0.5"


def test_images_have_a_convolutional_network(tmp_path):
    assert configuration(tmp_path / "cifar-b5", 1)["model"]["name"] == "cnn"
    assert configuration(tmp_path / "star", 1)["model"]["name"] == "mlp"
