// What a program started as root gives up before it works: root. Both the worker's children and thecloud-cron use this.
import Glibc

package struct PrivilegeError: Error, CustomStringConvertible {
    package let description: String
}

package enum Privileges {
    /// Becomes an OS user with its group and supplementary groups, for good. Does nothing when the process is not root's.
    /// - Throws: `PrivilegeError` when there is no such user, or root's rights could come back.
    package static func become(_ user: String) throws(PrivilegeError) {
        guard geteuid() == 0 else { return }
        guard let entry = getpwnam(user) else { throw PrivilegeError(description: "no user named \(user)") }
        let (uid, gid) = (entry.pointee.pw_uid, entry.pointee.pw_gid)
        guard initgroups(user, gid) == 0, setgid(gid) == 0, setuid(uid) == 0 else {
            throw PrivilegeError(description: "cannot become \(user): \(String(cString: strerror(errno)))")
        }
        guard uid == 0 || setuid(0) != 0 else { throw PrivilegeError(description: "root's rights came back after becoming \(user)") }
    }
}
