"""gdb: the goroutines of a program that uses grt, in a live process or in a core.

  (gdb) source tools/gdb/grt_gdb.py
  (gdb) info goroutines            every goroutine: id, state, what it waits for, where it was created
  (gdb) goroutine 7 bt             the stack of one that does not run; `goroutine all bt` of all of them
  (gdb) goroutine 7 up 3, info locals       gdb commands, separated by commas, in its stack

Nothing is called and nothing is written in the program. A running goroutine is on a thread: `thread apply all bt`. The library's debug
information is needed (it is built with -g)."""
import gdb
from gdb.unwinder import Unwinder

KINDS = {"free": 0, "prepared": 1, "goroutine": 2, "foreign": 3, "system": 4}

def integer(value):
    return int(value.cast(gdb.lookup_type("unsigned long")))

def atomic(value):  # std::atomic<T*> and std::atomic<unsigned>
    return value["_M_b"]["_M_p"] if value.type.strip_typedefs().fields()[0].name == "_M_b" else value["_M_i"]

def variable(name, file=None):
    """A global; an internal one is looked for in its file."""
    if file is None:
        return gdb.lookup_global_symbol(name).value()
    return next(s.value() for s in gdb.lookup_static_symbols(name) if s.symtab.filename.endswith(file))

def processors():
    made = int(variable("grt::n_made")["_M_i"])
    for i in range(made):
        p = variable("grt::all_p")[i]["_M_b"]["_M_p"]
        yield i, p, p["m"]["_M_b"]["_M_p"]

def threads():
    """(M, where its goroutine runs) of every M ever made."""
    held = {integer(m): f"on processor {i}" for i, _, m in processors()}
    m = variable("grt::all_m")["_M_b"]["_M_p"]
    while integer(m):
        yield m, held.get(integer(m), "without a processor") + f", thread {int(m['tid'])}"
        m = m["made_before"]

def goroutines():
    """(G, where it runs or None) of every goroutine alive."""
    g_type = gdb.lookup_type("grt::G")
    base = integer(variable("grt::(anonymous namespace)::base", "sched/goroutine/slab.cpp"))
    carved = integer(variable("grt::(anonymous namespace)::carved", "sched/goroutine/slab.cpp")["_M_b"]["_M_p"])
    running = {integer(m["g"]): where for m, where in threads()}
    for at in range(base, carved, g_type.sizeof):
        g = gdb.Value(at).cast(g_type.pointer()).dereference()
        if int(g["kind"]) == KINDS["goroutine"]:
            yield g, running.get(at)

def name_of(g):
    return g["ext"]["name"].string() if integer(g["ext"]) else ""

def state_of(g, where):
    if where is not None:
        return f"running {where}"
    reason = str(g["reason"]).split("::")[-1]
    if reason == "none":
        return "runnable"
    top = integer(g["stk"])  # the note stands on its stack: sched/goroutine/g.hpp, note_of
    note = top & ~0xffffffff | int(g["note"])
    note = gdb.Value(note if note < top else note - (1 << 32)).cast(gdb.lookup_type("grt::park_note").pointer())
    waits_for = integer(note["object"])
    more = 0
    if reason == "select":
        channels = gdb.Value(waits_for).cast(gdb.lookup_type("grt::detail::select_channels").pointer())
        n = int(channels["n_order"])
        waits_for, more = integer(channels["order"][0]) if n else 0, max(n, 1) - 1
    return reason.replace("_", " ") + (f" on {waits_for:#x}" if waits_for else "") + (f" and {more} more" if more else "")

def birth_of(g):
    if int(g["line"]):
        return g["site"].cast(gdb.lookup_type("char").pointer()).string() + ":" + str(int(g["line"]))
    return gdb.execute(f"info symbol {integer(g['site']):#x}", to_string=True).split(" in section")[0]

class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = gdb.Value(sp), gdb.Value(pc)

class ParkedUnwinder(Unwinder):
    """While armed, the caller of the selected thread's innermost frame is the parked goroutine: registers as grt_switch left them."""
    LAYOUT = {
        "i386:x86-64": ("rsp", "rip", 56, {"rip": 48, "rbp": 40, "rbx": 32, "r12": 24, "r13": 16, "r14": 8, "r15": 0}),
        "aarch64": ("sp", "pc", 160, {"pc": 8, "x29": 0, "x30": 8, **{f"x{i}": 16 + 8 * (i - 19) for i in range(19, 29)}}),
    }

    def __init__(self):
        super().__init__("grt")
        self.sp = None

    def __call__(self, frame):
        if self.sp is None:
            return None
        sp_name, pc_name, size, saved = self.layout
        here = integer(frame.read_register(sp_name)), integer(frame.read_register(pc_name))
        if here != self.innermost:
            return None
        info = frame.create_unwind_info(FrameId(self.sp, here[1]))
        word = gdb.lookup_type("unsigned long")
        for register, offset in saved.items():
            info.add_saved_register(register, gdb.Value(self.sp + offset).cast(word.pointer()).dereference())
        info.add_saved_register(sp_name, gdb.Value(self.sp + size))
        return info

    def run(self, sp, commands):
        frame = gdb.newest_frame()
        frame.select()
        self.layout = self.LAYOUT[frame.architecture().name()]
        self.innermost = integer(frame.read_register(self.layout[0])), integer(frame.read_register(self.layout[1]))
        self.sp = sp
        gdb.invalidate_cached_frames()
        try:
            gdb.newest_frame().older().select()
            for command in commands:
                text = gdb.execute(command, to_string=True)
                if command.split()[0] in ("bt", "backtrace", "where"):  # frame 0 is the thread's own
                    text = "\n".join(line for line in text.splitlines() if not line.startswith("#0 ")) + "\n"
                gdb.write(text)
        finally:
            self.sp = None
            gdb.invalidate_cached_frames()

unwinder = ParkedUnwinder()
gdb.unwinder.register_unwinder(None, unwinder, True)

class InfoGoroutines(gdb.Command):
    """Every goroutine of a program that uses grt."""
    def __init__(self):
        super().__init__("info goroutines", gdb.COMMAND_STATUS)

    def invoke(self, _argument, _tty):
        for g, where in goroutines():
            name = f' "{name_of(g)}"' if name_of(g) else ""
            print(f"goroutine {int(g['id'])}{name} [{state_of(g, where)}] created at {birth_of(g)}")

class Goroutine(gdb.Command):
    """goroutine ID|all COMMAND[, COMMAND ...]: gdb commands in the stack of a goroutine that does not run."""
    def __init__(self):
        super().__init__("goroutine", gdb.COMMAND_STACK)

    def invoke(self, argument, _tty):
        which, _, commands = argument.partition(" ")
        if not commands or not (which == "all" or which.isdigit()):
            raise gdb.GdbError("goroutine ID|all COMMAND[, COMMAND ...]; `info goroutines` lists them")
        found = False
        for g, where in list(goroutines()):
            if which not in ("all", str(int(g["id"]))):
                continue
            found = True
            print(f"goroutine {int(g['id'])} [{state_of(g, where)}]:")
            if where is not None:
                print("  it is on a thread: thread apply all bt")
            elif integer(g["sp"]) == 0:
                print("  it has not run yet")
            else:
                unwinder.run(integer(g["sp"]), [c.strip() for c in commands.split(",")])
        if not found and which != "all":
            raise gdb.GdbError(f"there is no goroutine {which}")

InfoGoroutines()
Goroutine()
