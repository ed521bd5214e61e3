"""Rules that hold for the whole tree."""

from __future__ import annotations

import ast
import keyword
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "notbugs"
ROOMS = [
    *(
        "_start",
        "_version",
        "memory",
        "lazily",
        "errors",
        "given",
        "catalogue",
        "shown",
        "shapes",
        "seeds",
        "files",
        "records",
        "formats",
    ),
    "progress",
    *("workers", "frequency", "threat"),
    *("networks", "outputs", "normalisation", "classifier", "models", "data", "search", "training"),
    *("construct", "measure", "content", "theory", "instrument", "study", "report", "console", "cli"),
    *("failures", "__main__"),
]
FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Without what is imported for types alone, and, by an instrument or a job, by the function that draws."""
    found = set()
    for node in run_nodes(
        ast.parse(path.read_text(encoding="utf-8")),
        "study/instruments" in path.as_posix() or "study/jobs" in path.as_posix(),
    ):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "notbugs":
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found - {"__init__"}


def run_nodes(node: ast.AST, draws: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef) and isinstance(child, ast.ImportFrom) and draws:
            assert (child.module or "").split(".")[:2] == ["notbugs", "report"], child.module
            continue
        yield child
        yield from run_nodes(child, draws)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    if path == SOURCE / "__init__.py":
        return
    below = [name for name in imported_rooms(path) if ROOMS.index(name) > ROOMS.index(room(path))]
    assert not below, f"{room(path)} imports from below: {below}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_forbidden(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not imports & {"pickle", "dill", "joblib", "marshal", "shelve"}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("__init__.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_name_hides_a_module(path):
    """What a package offers has the name of none of its modules: `package.module` is always the module."""
    modules = {
        child.stem for child in path.parent.iterdir() if child.suffix == ".py" or (child / "__init__.py").exists()
    }
    offered = {
        alias.asname or alias.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module != "notbugs"  # `from notbugs import _start` is the module
        for alias in node.names
    }
    assert not offered & modules


GRADIENTS = {
    "search/loop.py": "the search",
    "search/compatibility.py": "whether there is one",
    "models/execution.py": "whether a folded network has the same, and how long one takes",
    "measure/masking.py": "how long it is at the image itself",
    "measure/_alignment.py": "where it points at the image itself",
    "measure/features.py": "in how many directions features look",
    "measure/linear_models.py": "of the weights of a linear model, or of a head",
    "theory/optimisation.py": "of a linear rule's weights",
    "training/loop.py": "of a network's weights",
}


def takes_gradients(path: Path) -> bool:
    """Whether a file calls `autograd.grad` or `backward`, however it spells it, or has either under another name."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    calls = {node.func.attr for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    named = {node.attr for node in nodes if isinstance(node, ast.Attribute)} - {"grad"}  # of a tensor, but for a call
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch")]
    imported = {alias.name for node in froms for alias in node.names}
    return bool((calls | named | imported) & {"grad", "backward", "vjp", "jacrev"})


def test_there_is_one_search_loop():
    """Whatever takes a gradient is known, with what for; images are moved along one in the loop alone."""
    assert {str(path.relative_to(SOURCE)) for path in FILES if takes_gradients(path)} == set(GRADIENTS)


@pytest.mark.parametrize(
    "text", ["from torch.autograd import grad", "loss.sum().backward(inputs=[x])", "torch.func.grad(f)(x)"]
)
def test_every_spelling_of_a_gradient_is_seen(tmp_path, text):
    file = tmp_path / "one.py"
    file.write_text(text)
    assert takes_gradients(file)
    file.write_text("x.grad is None")
    assert not takes_gradients(file)


SHARED = 12
"""Lines of one shape that two places may not share."""
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}
SHAPES = {tokenize.NUMBER: "0", tokenize.STRING: "s"}


def shapes(path: Path) -> list[tuple[int, str]]:
    """The logical lines of code of a file, all names, numbers and texts alike; imports and docstrings left out."""
    lines, parts, first = [], [], 0
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.NEWLINE:
                if parts not in (["s"], []) and parts[0] not in ("from", "import"):
                    lines.append((first, " ".join(parts)))
                parts = []
            elif token.type not in SKIPPED:
                first = first if parts else token.start[0]
                is_name = token.type == tokenize.NAME and not keyword.iskeyword(token.string)
                parts.append("n" if is_name else SHAPES.get(token.type, token.string))
    return lines


def test_no_two_places_share_twelve_lines_of_one_shape():
    known: dict[tuple[str, ...], str] = {}
    shared = []
    for path in FILES:
        lines = shapes(path)
        for place in range(len(lines) - SHARED + 1):
            window = tuple(text for _, text in lines[place : place + SHARED])
            here = f"{path.relative_to(SOURCE)}:{lines[place][0]}"
            if len(set(window)) > SHARED // 2 and known.setdefault(window, here) != here:  # no list of fields alone
                shared.append(f"{known[window]} and {here}")
    assert shared == []


def test_the_library_imports_without_its_extras():
    blocked = ["sklearn", "pyarrow", "PIL", "altair", "vl_convert", "jinja2", "torchvision", "timm"]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); import notbugs, notbugs.cli.commands"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check", "pyrefly check"])
def test_the_tree_is_tidy(command):
    finished = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def readme(marker: str) -> str:
    match = re.search(marker + r"(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert match, f"README.md has no {marker!r}"
    return match[1]


def test_the_readmes_python_runs(tmp_path):
    """As it stands there, with fewer images and epochs."""
    code = readme("```python\n")
    assert code.count("\n") <= 18
    preamble = (
        "from notbugs.training import settings\n"
        "settings.Training.model_fields['epochs'].default = 1\n"
        "settings.Training.model_rebuild(force=True)\n"
        "import notbugs\n"
        "load = notbugs.load\n"
        "notbugs.load = lambda name: load(name).take(120, 24, 0)\n"
    )
    after = "\nimport sys; assert 'sklearn' not in sys.modules"  # the digits need its file, not its import
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", preamble + code + after],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr
    assert re.findall(r"^(D_\w+)$", finished.stdout, re.MULTILINE) == ["D_R", "D_NR", "D_det"]
    assert len(re.findall(r"l2 0\.5: \d+\.\d% \(", finished.stdout)) == 3


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    extract = re.search(r"command=\$\((.*)\)\n", script)
    assert extract
    printed = subprocess.run(["bash", "-c", extract[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == readme(r"<!-- test command -->\n```sh\n").strip()
    assert "pytest" in printed.stdout
