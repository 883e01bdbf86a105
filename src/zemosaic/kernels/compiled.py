"""How loops become kernels: compiled once a machine, kept in a folder of files that all processes share.

Numba keeps what it has compiled in files beside the source, in ``NUMBA_CACHE_DIR`` or in the user's cache folder. Three
things are added to that here. Of several processes that want one kernel, one compiles it and the others wait for it.
Code counts as out of date when any file of the room of kernels has changed, not only its own: what is called may have
been compiled into what calls it. And a folder that cannot be written ends no run: what is in it is used, the rest is
compiled for this process alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from llvmlite import binding
from numba import config, njit, typeof
from numba.core import sigutils
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
)
from numba.core.codegen import JITCodeLibrary, get_host_cpu_features
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.errors import NumbaError
from numba.core.target_extension import jit_registry
from numba.core.targetconfig import ConfigStack
from numba.core.typed_passes import NoPythonSupportedFeatureValidation
from numba.core.types import unliteral
from numba.core.types.functions import BaseFunction

__all__ = ["cache_problems", "compile_kernel", "is_kept", "kept_in", "kernel", "leaf", "part"]

# Numba leaves this pass of LLVM out: without it short loops, which are unrolled, do one number at a time.
config.SLP_VECTORIZE = 1

_WIDE = frozenset({
    "icelake-client", "icelake-server", "tigerlake", "rocketlake", "sapphirerapids", "emeraldrapids", "graniterapids",
})  # fmt: skip
"""Processors, as LLVM names them, whose clock hardly falls for vectors of 512 bits. The compiler takes half of that for
them, as for those before them, whose clock does."""


def _features_of(processor: str) -> str | None:
    """What the compiler is told of this machine's processor; None for what it finds itself."""
    return f"{get_host_cpu_features()},-prefer-256-bit" if processor in _WIDE else None


if config.CPU_NAME is None and config.CPU_FEATURES is None:  # neither is set by NUMBA_CPU_NAME and its like
    config.CPU_FEATURES = _features_of(binding.get_host_cpu_name())

_ROOM = Path(__file__).parent

_ANY_TARGET = "generic"
"""Numba's word for functions of its own that are the same on all processors."""

_problems: dict[str, None] = {}


def cache_problems() -> list[str]:
    """Why kernels of this process could not be kept, each reason once; empty where all were."""
    return list(_problems)


def kernel(function: Callable[..., Any]) -> Any:
    """A loop that Python calls; a decorator.

    It is serial, gives up the interpreter's lock while it runs, and divides as numpy does, without looking for zeros.
    """
    # Nobody asks for its address in C.
    return _keep(_as_one(njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)))


def part(function: Callable[..., Any]) -> Any:
    """A loop that kernels alone call; a decorator.

    It becomes machine code only as a part of these: a call from Python is fatal.
    """
    return _as_part(function)


def leaf(function: Callable[..., Any]) -> Any:
    """A part that makes no array and returns none, called for pixels or rows; a decorator.

    Nobody counts who holds the arrays it is given, nor the views it takes of them: such a count is an atomic operation,
    and those of a row cost as much as a fifth of its sums. And no array that it writes may overlap with another that it
    is given: the compiler takes that for granted, and makes vectors of loops over many arrays without looking.
    """
    return _as_part(function, _nrt=False)


def _as_part(function: Callable[..., Any], **options: bool) -> Any:
    how = njit(
        nogil=True,
        error_model="numpy",
        no_cfunc_wrapper=True,
        no_cpython_wrapper=True,
        pipeline_class=_PartCompiler,
        **options,
    )
    return _as_one(how(function))


def is_kept(compiled: Any, examples: tuple[Any, ...]) -> bool:
    """Whether a kernel is there in the cache, for arguments of the types of `examples`."""
    cache = compiled._cache
    return isinstance(cache, _SharedCache) and cache.holds(_types_of(examples), compiled.targetctx)


def kept_in(compiled: Any) -> Path:
    """The folder that holds the folders of compiled kernels, or that of the room beside the source."""
    return Path(compiled._cache.cache_path).parent


def compile_kernel(compiled: Any, examples: tuple[Any, ...]) -> bool:
    """Compile a kernel for arguments of the types of `examples`, or take it from the cache; it is not called.

    False where Numba makes no sense of such arguments.
    """
    try:
        compiled.compile(_types_of(examples))
    except NumbaError:
        return False
    return True


def _types_of(examples: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(typeof(example) for example in examples)


def _as_one(dispatcher: Any) -> Any:
    """Have a loop compiled for whole numbers, and not again where one stands in the call or a count begins with 0."""
    compile_for = dispatcher.compile

    def compile_as_one(sig: Any) -> Any:
        with _borrowed_as_parts(), _asked_once():
            return compile_for(tuple(map(unliteral, sigutils.normalize_signature(sig)[0])))

    dispatcher.compile = compile_as_one
    return dispatcher


@contextlib.contextmanager
def _borrowed_as_parts() -> Iterator[None]:
    """Numba's own functions that loops call, like ``np.empty``, become code only as parts of these meanwhile.

    By default it makes each of them into machine code with ways in from Python and C, which nothing takes.
    """
    with global_compiler_lock:
        # Asked before the decorator of the processor; a kernel that another one calls is within that one's order.
        is_outermost = _ANY_TARGET not in jit_registry
        if is_outermost:
            jit_registry[_ANY_TARGET] = _jit_borrowed
        try:
            yield
        finally:
            if is_outermost:
                del jit_registry[_ANY_TARGET]


_find_call = BaseFunction.get_call_type
"""Numba's search for the version of one of its functions, ``+`` among them, that takes arguments of given types."""

_found_calls: dict[tuple[Any, ...], Any] = {}


@contextlib.contextmanager
def _asked_once() -> Iterator[None]:
    """What Numba found for one of its functions and some types is not searched for again, at the next sum, meanwhile.

    It tries dozens of versions each time, and kernels ask for the same few again and again. What is found depends on
    the options of the loop too. The compiler's lock is held.
    """
    before = BaseFunction.get_call_type
    BaseFunction.get_call_type = _find_call_once
    try:
        yield
    finally:
        BaseFunction.get_call_type = before


def _find_call_once(function: Any, context: Any, args: Any, kws: Any) -> Any:
    options = ConfigStack.top_or_none()
    chosen = "" if options is None else options.summary()
    key = function, context, tuple(args), tuple(kws.items()), chosen
    found = _found_calls.get(key)
    if found is None:
        found = _found_calls[key] = _find_call(function, context, args, kws)
    return found


def _jit_borrowed(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Numba's decorator of what it calls itself, for parts."""
    unseen = {"no_cfunc_wrapper": True, "no_cpython_wrapper": True, "pipeline_class": _PartCompiler}
    options.pop("nopython", None)  # said by the decorator's name
    return njit(function, **{**options, **unseen})


class _PartLibrary(JITCodeLibrary):
    """The code of a part, optimised, for kernels to take in; it is not made into machine code, which none of them uses.

    Not to optimise it either would save as much again, and costs the kernels up to a tenth of their speed.
    """

    def finalize(self) -> None:
        """Optimise the part, then link what it calls: linked before, that would be optimised again in each caller."""
        super()._optimize_final_module()
        super().finalize()

    def _optimize_final_module(self) -> None:
        """Nothing: it is asked for when all is linked."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """0: there is none."""
        return 0

    @property
    def codegen(self) -> Any:
        """Asked for to be told where the objects of the function lie that Python calls; there is none."""
        return self

    def set_env(self, name: str, env: object) -> None:
        """See `codegen`."""


@register_pass(mutates_CFG=False, analysis_only=True)
class _ChoosePartLibrary(FunctionPass):
    _name = "choose_part_library"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Lowering puts the code where this says."""
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        # A `leaf`: what it is given does not overlap.
        state.flags.noalias = not state.flags.nrt
        return False


class _PartCompiler(CompilerBase):
    def define_pipelines(self) -> list[Any]:
        """Numba's own, and the choice of the library."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_ChoosePartLibrary, NoPythonSupportedFeatureValidation)
        passes.finalize()
        return [passes]


def _keep(dispatcher: Any) -> Any:
    """Give a kernel its place in the cache."""
    try:
        dispatcher._cache = _SharedCache(dispatcher.py_func)
    except RuntimeError as problem:  # no folder at all can be written
        _problems[str(problem).partition(": ")[2] or str(problem)] = None
    return dispatcher


@cache
def _digest_room() -> str:
    """Digest of all that can be compiled into a kernel."""
    state = hashlib.sha256()
    for path in sorted(_ROOM.rglob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()


class _KeptLibrary(JITCodeLibrary):
    """The code of a kernel from a file: machine code, and what another kernel would take in that calls it.

    That is asked for only as such a kernel is compiled. To read it and to list its names is most of loading a kernel.
    """

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> _KeptLibrary:
        name, _, (machine_code, for_others) = state
        library = cls(codegen, name)
        library._for_others = for_others
        library.enable_object_caching()
        library._set_compiled_object(machine_code)
        library._finalize_final_module()
        return library

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module = binding.parse_bitcode(self._for_others)
        return self._shared_module


class _KeptKernel(CompileResultCacheImpl):
    """How a specialisation is made of what a file holds."""

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        """As Numba does, but for the class of the code; the compiler's lock is held meanwhile."""
        codegen, described = target_context.codegen(), payload[1]
        # What Python calls is the one name that is looked up.
        codegen._engine._defined_symbols.add(described.llvm_cpython_wrapper_name)
        codegen._library_class = _KeptLibrary
        try:
            return super().rebuild(target_context, payload)
        finally:
            del codegen._library_class


class _SharedCache(FunctionCache):
    """The files of one kernel. Numba asks for a specialisation, and hands in what it had to compile."""

    _impl_class = _KeptKernel

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        self._lock: int | None = None
        self._cache_file = self._files_in(self._cache_path)

    def _files_in(self, folder: str) -> IndexDataCacheFile:
        return IndexDataCacheFile(folder, self._impl.filename_base, _digest_room())

    @cached_property
    def _elsewhere(self) -> list[IndexDataCacheFile]:
        """Folders that whoever installed the package may have filled, and that this process cannot write."""
        source = self._py_func.__code__.co_filename
        places = [InTreeCacheLocator(self._py_func, source).get_cache_path()]
        if os.environ.get("NUMBA_CACHE_DIR"):
            places.append(UserProvidedCacheLocator(self._py_func, source).get_cache_path())
        return [self._files_in(place) for place in places if place != self._cache_path]

    def holds(self, sig: Any, target_context: Any) -> bool:
        """Whether a specialisation is stored."""
        key = self._index_key(sig, target_context.codegen())
        return any(key in files._load_index() for files in (self._cache_file, *self._elsewhere))

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super()._load_overload(sig, target_context)
        for files in self._elsewhere if found is None else []:
            data = files.load(self._index_key(sig, target_context.codegen()))
            if data is not None:
                return self._impl.rebuild(target_context, data)
        return found

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """A stored specialisation; None is the order to compile it, while others wait until that is done."""
        found = super().load_overload(sig, target_context)
        if found is None and self._lock is None:
            self._lock = _hold(os.path.join(self._cache_path, f"{self._impl.filename_base}.lock"))
            # It may have come while this process waited.
            found = super().load_overload(sig, target_context)
            if found is not None:
                self._release()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store what was compiled; a folder that has become full or read-only since then is noted."""
        try:
            super().save_overload(sig, data)
        except OSError as problem:
            _problems[f"{self._cache_path}: {problem.strerror}"] = None
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _hold(path: str) -> int | None:
    """Open a file and wait until no other process holds it; closing it lets go, and so does the process's end.

    None where files cannot be locked: a kernel is then perhaps compiled twice.
    """
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        _wait_for(number)
    return number


if sys.platform == "win32":
    import msvcrt

    def _wait_for(number: int) -> None:
        msvcrt.locking(number, msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def _wait_for(number: int) -> None:
        fcntl.flock(number, fcntl.LOCK_EX)
