"""What the source says about itself, read from its syntax trees: imports, names, calls. For test_architecture.py."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"foundation"}),
    frozenset({"scans"}),
    frozenset({"cohort", "evaluation", "results"}),
    frozenset({"model"}),
    frozenset({"explanation"}),
    frozenset({"audit", "scoring"}),
    frozenset({"commands"}),
    frozenset({"app"}),
)
"""The rooms from the ground up (DESIGN section 3); the foundation is domain, config, sections, files and console."""

FOUNDATION = frozenset({"domain", "config", "sections", "files", "console"})
PUBLIC = {
    "find_scans": "pipeline.scans.find",
    "read_volume": "pipeline.scans.find",
    "load_model": "pipeline.model.package",
}
"""Names that `pipeline/__init__.py` imports lazily: whoever takes them from there depends on their home."""

BANNED_CALLS = frozenset({
    "pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "torch.jit.load", "yaml.load", "yaml.full_load",
    "yaml.unsafe_load", "eval", "exec", "logging.config.fileConfig",
})  # fmt: skip
"""Calls that run what a file says. `eval` is the builtin: a network's `.eval()` is another thing."""

ONLY_LITERAL = {"weights_only": True, "allow_pickle": False, "shell": False}
"""Keywords that, where they are given at all, must be this literal."""


@dataclass(frozen=True)
class Module:
    """A source file: its path below the root and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The file's syntax tree."""
        return ast.parse(self.text)

    @property
    def name(self) -> str:
        """Dotted name, for example pipeline.scans.dicom."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def room(self) -> str:
        """The room the file lies in."""
        return room_of(self.name)


def modules(*folders: str) -> dict[str, Module]:
    """Every Python file below the folders of the repository, by dotted name."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    found = (Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths)
    return {module.name: module for module in found}


def room_of(dotted: str) -> str:
    """The room of a module: a folder of pipeline, the foundation, the commands, or the app."""
    top, _, rest = dotted.partition(".")
    first = rest.split(".")[0]
    if top != "pipeline":
        return top
    if first in FOUNDATION or not first:
        return "foundation"
    return first if any(first in floor for floor in FLOORS) else "commands"


def floor_of(room: str) -> int:
    """The floor of a room, 0 at the ground.

    Raises:
        KeyError: If no floor holds the room: pipeline and app import nothing from data, benchmarks or tests.
    """
    for level, rooms in enumerate(FLOORS):
        if room in rooms:
            return level
    raise KeyError(room)


def imports(module: Module) -> Iterator[str]:
    """Dotted names of everything the file imports, inside functions too, except under `if TYPE_CHECKING`.

    `from a import b` gives a.b: whoever knows the modules decides whether b is one.
    """
    for node in _running(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _running(node)


def _base(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".") if module.path.endswith("__init__.py") else module.name.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def dependencies(module: Module, known: dict[str, Module]) -> set[str]:
    """The modules of ours that the file imports. An imported name leads to the module that holds it."""
    found = set()
    for dotted in imports(module):
        if dotted.split(".")[0] not in ("pipeline", "app", "data", "benchmarks", "tests"):
            continue
        home = PUBLIC.get(dotted.removeprefix("pipeline."), dotted) if dotted.count(".") == 1 else dotted
        found.add(home if home in known or "." not in home else home.rpartition(".")[0])
    return found - {module.name}


def upward(module: Module, known: dict[str, Module]) -> list[str]:
    """The file's imports that lead to a floor not under its own, nor to its own room."""
    wrong = []
    for target in sorted(dependencies(module, known)):
        room = room_of(target)
        allowed = any(room in floor for floor in FLOORS) and (
            room == module.room or floor_of(room) < floor_of(module.room)
        )
        if not allowed:
            wrong.append(f"{module.path} ({module.room}) imports {target} ({room})")
    return wrong


def packages(module: Module) -> set[str]:
    """Top-level names of everything the file imports."""
    return {dotted.split(".")[0] for dotted in imports(module)}


def banned(module: Module) -> list[str]:
    """Calls and imports that could run what a file says, with their lines."""
    names = _aliases(module)
    wrong = [f"{module.path}: imports monai.bundle" for dotted in imports(module) if dotted.startswith("monai.bundle")]
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        called = _dotted(node.func, names)
        if called in BANNED_CALLS:
            wrong.append(f"{module.path}:{node.lineno}: {called}()")
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if keyword.arg in ONLY_LITERAL and value is not ONLY_LITERAL[keyword.arg]:
                wrong.append(f"{module.path}:{node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}")
    return wrong


def _aliases(module: Module) -> dict[str, str]:
    """Local name -> what it stands for, for every import of the file."""
    names: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{_base(module, node)}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return "?"


def defined_names(module: Module) -> Iterator[tuple[str, int]]:
    """Every name that the file gives to a function, class, argument or variable, with its line; `*args` is no name."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arguments):
            yield from ((a.arg, a.lineno) for a in (*node.posonlyargs, *node.args, *node.kwonlyargs))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def functions(module: Module) -> Iterator[tuple[str, int]]:
    """Every function with its number of lines, from `def` to its last."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1
