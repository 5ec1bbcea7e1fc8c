"""The README's code runs, its verbs and files exist, and every dependency has its line."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_is_code():
    assert CODE


@pytest.mark.parametrize("code", CODE, ids=range(len(CODE)))
def test_code_runs_and_prints_what_it_says(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    said = re.findall(r"print\(.*\)  # (.*)", code)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(said)
    for line, comment in zip(printed, said):
        assert comment.startswith(line), f"the README says {comment!r}, the code prints {line!r}"


def test_every_dependency_is_justified():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for requirement in config["options"]["install_requires"].split():
        name = re.match(r"[\w-]+", requirement).group()
        assert re.search(rf"^    {name} +\w", README, re.MULTILINE), f"{name} has no line in the README"


def test_files_named_exist():
    for path in re.findall(r"(?:sccengine|tests|benchmarks|notebooks)/[\w/]+\.(?:py|sh|md|ipynb)", README):
        assert (ROOT / path).exists() or "leaky_relu" in path, f"the README names {path}"


def test_every_module_of_the_package_has_its_place():
    section = README.partition("\n## Where things are\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"\w+\.py", section))
    modules = {path.name for path in (ROOT / "sccengine").glob("*.py") if "__" not in path.name}
    assert modules <= named, f"not under Where things are: {sorted(modules - named)}"


def test_tables_are_those_of_the_committed_results():
    check = subprocess.run([sys.executable, ROOT / "benchmarks" / "readme_tables.py", "--check"])
    assert check.returncode == 0, "run python benchmarks/readme_tables.py"
