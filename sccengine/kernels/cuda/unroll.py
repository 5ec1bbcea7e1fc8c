"""Loops written out before Numba sees them.

Numba's compiler does not unroll a loop around a large body, and has no pragma to ask for it. So

    @cuda.jit
    @unrolled
    def kernel(...):
        for k in static(DEPTH):
            ...

becomes DEPTH copies of the body in which k is a number: addresses turn into constants, and loads of one step can be
issued under the arithmetic of another. `@unrolled` stands below `@cuda.jit`. The arguments of `static` are those of
`range`, made of numbers and of names that are known when the kernel is defined: globals, or variables of an enclosing
function. Unroll the one loop that needs it: every copy costs compile time.

An `if` whose test consists of such numbers and loop variables is decided here, and what it rules out is left out: Numba
would carry every dead branch through its analyses, whose time grows with the square of the branches.

Numbers that the function takes from an enclosing one are written into the text too, so that the text alone says what
is computed. In the simulator `static` is `range` and the function stays as it is.
"""

import ast
import copy
import inspect
import linecache
import textwrap

from sccengine.kernels.cuda import launch

static = range


def unrolled(function):
    """`function` with its `for name in static(...)` loops written out; its new text is what tracebacks show."""
    if launch.SIMULATED:
        return function
    free = dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__ or ())))
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    definition.decorator_list = []
    local = function.__code__.co_varnames
    known = {name: value for name, value in {**function.__globals__, **free}.items() if name not in local}
    definition = _Unroller(known).visit(definition)
    # Numbers of an enclosing function are written in; other free variables are arguments of a function around the new.
    numbers = {name: value for name, value in free.items() if isinstance(value, int)}
    for name, value in numbers.items():
        definition = _Number(name, value).visit(definition)
        del free[name]
    outer = ast.parse(f"def enclosing({', '.join(free)}):\n    return {definition.name}")
    outer.body[0].body.insert(0, definition)
    text = ast.unparse(ast.fix_missing_locations(outer))
    filename = f"<{function.__module__}.{function.__qualname__}, unrolled {len(linecache.cache)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names = {}
    exec(compile(text, filename, "exec"), function.__globals__, names)
    result = names["enclosing"](**free)
    for name in ("__module__", "__qualname__", "__doc__"):
        setattr(result, name, getattr(function, name))
    return result


class _Unroller(ast.NodeTransformer):
    """Replaces a static loop by copies of its body, and an `if` that is decided by the branch it takes."""

    def __init__(self, environment):
        self.environment = environment

    def visit_For(self, node):
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "static"):
            return self.generic_visit(node)
        bounds = [self._value(each) for each in call.args]
        statements = []
        for value in range(*bounds):
            number = _Number(node.target.id, value)
            for statement in node.body:
                written = self.visit(number.visit(copy.deepcopy(statement)))
                statements.extend(written if isinstance(written, list) else [written])
        return statements or ast.Pass()

    def visit_If(self, node):
        node = self.generic_visit(node)
        parts = list(ast.walk(node.test))
        names = [part.id for part in parts if isinstance(part, ast.Name)]
        if not all(isinstance(self.environment.get(name), int) for name in names):
            return node
        if any(isinstance(part, (ast.Call, ast.Attribute, ast.Subscript)) for part in parts):
            return node
        return (node.body if self._value(node.test) else node.orelse) or ast.Pass()

    def _value(self, expression):
        return eval(compile(ast.Expression(expression), "<static>", "eval"), self.environment)


class _Number(ast.NodeTransformer):
    """Replaces a loop variable by one of its values."""

    def __init__(self, name, value):
        self.name = name
        self.value = value

    def visit_Name(self, node):
        is_read = node.id == self.name and isinstance(node.ctx, ast.Load)
        return ast.copy_location(ast.Constant(self.value), node) if is_read else node
