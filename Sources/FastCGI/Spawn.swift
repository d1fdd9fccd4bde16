// Starts a child: this same program, by posix_spawn. A bare fork of a process with a Swift runtime inside is not safe.
// The program is found by its path, not as /proc/self/exe: after an upgrade put a new one there, SIGHUP starts the new one.
// The child sees its standard streams and what `Inherited` lists, nothing else, and starts with no signal blocked or ignored.
import CFastCGI
import Glibc

/// Where this program was when it started.
private let program: String = {
    guard let path = realpath("/proc/self/exe", nil) else { return CommandLine.arguments[0] }
    defer { free(path) }
    return String(cString: path)
}()

/// - Parameters:
///   - arguments: what follows the program's name.
///   - readiness: the write end; the caller closes its copy.
/// - Returns: the child's process id.
func spawnSelf(arguments: [String], listener: Int32, readiness: Int32, handover: Handover) throws(PoolError) -> pid_t {
    var files = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&files)
    defer { posix_spawn_file_actions_destroy(&files) }
    posix_spawn_file_actions_adddup2(&files, listener, Inherited.listener)
    posix_spawn_file_actions_adddup2(&files, readiness, Inherited.readiness)
    posix_spawn_file_actions_adddup2(&files, handover.take, Inherited.take)
    posix_spawn_file_actions_adddup2(&files, handover.give, Inherited.give)
    posix_spawn_file_actions_addclosefrom_np(&files, Inherited.firstForeign)

    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = signalSet()
    var ordinary = signalSet(SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGPIPE)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &ordinary)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    var words = ([CommandLine.arguments[0]] + arguments).map { strdup($0) }
    defer { for word in words { free(word) } }
    words.append(nil)
    var pid: pid_t = 0
    let problem = posix_spawn(&pid, program, &files, &attributes, words, environ)
    guard problem == 0 else { throw PoolError(errno: problem, "cannot start a child") }
    return pid
}
