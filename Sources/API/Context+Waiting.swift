// Handlers that wait for something: what was done so far is committed, and nothing is held meanwhile.
package import HTTP

extension Context {
    /// Commits what was done so far, then looks again and again whether something has come, each time in a transaction of its own
    /// and as a principal whose credential still lives. Nothing is held in between.
    /// - Parameter look: `nil`: not yet.
    /// - Returns: `nil` when the time is over.
    package func wait<Result>(for id: ID, seconds: Int, _ look: () throws -> Result?) throws -> Result? {
        try wait(for: id, seconds: seconds, looking: { try look().map(Waiting.Look.found) ?? .nothing(after: nil) })
    }

    /// The same for what may come without anybody's saying so: a look that finds nothing tells when to look again.
    package func wait<Result>(for id: ID, seconds: Int, looking look: () throws -> Waiting.Look<Result>) throws -> Result? {
        try announce(seconds: seconds + 90)
        return try Waiting.on(config.databaseURL).wait(for: id.description, seconds: seconds) {
            try restart()
            let found = try look()
            if case .nothing = found { try restart() }
            return found
        }
    }

    /// Commits what was done so far, because something is to be done that takes up to so many seconds; nothing is held meanwhile.
    /// What follows is another transaction.
    package func pause(seconds: Int) throws {
        try announce(seconds: seconds)
        try restart()
    }

    /// Tells whoever keeps the request's answer that it will be a while; once.
    private func announce(seconds: Int) throws {
        guard let park else { return }
        self.park = nil
        try park(seconds)
    }
}
