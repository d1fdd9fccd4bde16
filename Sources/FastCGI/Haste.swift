// A child starts at a lower priority, so that those that serve meanwhile keep the processors. To come back from it takes a permission that
// only root can give; a child of anybody else starts like any process.
import CFastCGI
import Glibc

enum Haste {
    private static let whileStarting: Int32 = 5

    /// For the calling thread, and for those that it starts; while the process is root's.
    static func less() {
        guard geteuid() == 0, cloud_allow_usual_priority() == 0 else { return }
        _ = cloud_set_priority(whileStarting)
    }

    /// The pool's own, for the calling thread alone.
    static func usual(in pool: Pool) { _ = cloud_set_priority(pool.niceness) }
}
